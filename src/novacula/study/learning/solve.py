"""Solving for the prior: precisions and noise at the maximum of the evidence, at the weights of the moment.

Where the prior is Gaussian, its precisions and the noise go to the maximum of the Laplace evidence in one solve
(`novacula.evidence.tune`), of the whole matrix where that is small, of Kronecker factors otherwise; those from a
random subset of the examples and few columns of their Fisher factors, so that the cost is bounded. A linear model with
Gaussian noise goes to the peak of its weights and the maximum of its evidence together. What cannot be solved for
(other priors, hyperparameters of a network's own, extents) is left to steps along the gradient, and the score is then
the evidence at what these found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, count
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.evidence import Laplace, Tuned, newton_step, tune
from novacula.evidence.linearity import is_linear_gaussian
from novacula.evidence.tuning.tune import WHOLE
from novacula.priors.multiply import handles
from novacula.target import Target

_ROWS = 16_000  # rows of Jacobians that a solve may cost, copies included …
_LEAST = 500  # … though never fewer examples than these
_COLUMNS = 8
_TOGETHER = 100  # solves in turn with the peak of a linear model
FIT = 2_000
"""Examples whose fit tells how much a gain may be owed to chance."""


@dataclass(frozen=True, eq=False)
class Solved:
    """A target at the maximum, its weights, its score and the fit of some examples; fit ``(M,)``."""

    target: Target  # with what was solved for
    params: Params  # the weights, and the statistics beside them; those given, but for a linear model
    score: float  # the log evidence
    fit: Tensor  # the log-likelihood of some examples, the same in every solve
    tuned: Tuned | None  # the solve; None where nothing can be solved for
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Solver:
    """How prior and noise are solved for.

    Args:
        structure: The curvature's structure; by default the whole matrix up to 600 weights, else Kronecker factors.
        subset: Examples that the curvature is taken from; by default as many as 16,000 rows of Jacobians allow.
        columns: Random combinations of an example's Fisher columns, where it has more.
        copies: Transformed copies; by default half of the target's for evidence.
    """

    structure: Literal["exact", "kron", "diag", "last_layer"] | None = None
    subset: int | None = None
    columns: int = _COLUMNS
    copies: int | None = None
    learn: tuple[str, ...] = field(default=("prior", "likelihood"))

    def learning(self, parts: tuple[str, ...]) -> Solver:
        """The same for some parts of a target."""
        return replace(self, learn=parts)

    def wanted(self, target: Target) -> tuple[Literal["prior", "noise"], ...]:
        """What of a target can be solved for."""
        found: list[Literal["prior", "noise"]] = []
        if "prior" in self.learn and _multiplies(target):
            found.append("prior")
        if "likelihood" in self.learn and target.likelihood.quadratic and target.prior.gaussian:
            found.append("noise")
        return tuple(found)

    def __call__(self, target: Target, data: Data, params: Params, *, seed: int) -> Solved:
        """Solve."""
        point = params
        target, params = target.at(point)
        wanted = self.wanted(target)
        if not wanted:
            score = Laplace("kron", repeats=1, subset=self._subset(target, data))(target, data, params, seed=seed)
            fit = example_fit(target, params, data, seed)
            return Solved(target, point, float(score), fit, None, score.warnings)
        whole = count(params) <= WHOLE
        linear = whole and target.averaged is None and is_linear_gaussian(target, params, data, seed=seed)
        structure = self.structure or ("exact" if whole else "kron")
        options = {
            "structure": structure,
            "learn": wanted,
            "copies": self.copies or max(1, target.copies.evidence // 2),
            "subset": None if linear else self._subset(target, data),
            "columns": None if linear else self.columns,
            "seed": seed,
        }
        params = newton_step(target, data, params, seed=seed) if linear else params
        tuned = tune(target, data, params, **options)
        for _ in range(_TOGETHER - 1 if linear else 0):
            if max((abs(s) * tuned.spread[k] for k, s in tuned.slopes.items()), default=0.0) < 1e-3:
                break
            params = newton_step(tuned.target, data, params, seed=seed)
            tuned = tune(tuned.target, data, params, **options)
        fit = example_fit(tuned.target, params, data, seed)
        return Solved(tuned.target, {**point, **params}, float(tuned.evidence), fit, tuned, tuned.warnings)

    def _subset(self, target: Target, data: Data) -> int | None:
        if self.subset is not None:
            return self.subset
        with torch.no_grad():
            outputs = target.forward(target.params(), data.x[:1]).shape[1]
        copies = 1 if target.averaged is None else target.copies.evidence
        few = max(_LEAST, _ROWS // (copies * min(outputs, self.columns)))
        return few if few < data.n else None


def example_fit(target: Target, params: Params, data: Data, seed: int) -> Tensor:
    """The log-likelihood of a fixed random choice of examples, with transformations that only the seed decides."""
    few = data.subset(torch.randperm(data.n, generator=generator(seed, "fit"))[:FIT]) if data.n > FIT else data
    problem = target.problem(params, few, seed=derive(seed, "fit"), copies=target.copies.evidence)
    with torch.no_grad():
        parts = [
            target.likelihood.log_prob(problem.forward.average(problem.params, xs), y) for xs, y in problem.batches()
        ]
    return torch.cat(parts).double()


def chance(fit: Tensor, before: Tensor, n: int) -> float:
    """The standard deviation that the sum over N examples of two fits' difference owes to the choice of examples."""
    return float((fit - before).std()) * n**0.5 if len(fit) > 1 else 0.0


def _multiplies(target: Target) -> bool:
    if not target.prior.gaussian or not target.prior.learnable:
        return False
    try:
        return bool(handles(target.prior, target.params()))
    except InputError:
        return False


def unsolved(solver: Solver, target: Target, names: Sequence[str]) -> tuple[str, ...]:
    """The learnable tensors that need a gradient."""
    wanted = solver.wanted(target)
    parts = {"prior": "prior", "likelihood": "noise"}
    return tuple(k for k in names if parts.get(k.split(".")[0], "") not in wanted)
