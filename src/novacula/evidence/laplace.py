"""The Laplace evidence: the log-posterior's peak, and how wide it is.

    log p(D) ≈ log p(D | w) + log p(w) + P/2 log 2π − ½ log |H + Λ|

at a mode ``w``, with H the generalised Gauss–Newton matrix in one of five structures and Λ the prior's precision. The
first two terms reward fit, the others charge for every weight the data had to pin down: Occam's razor. The value
carries gradients to every tensor it depends on (prior precisions, noise, extents, a tensor of the user's own), at fixed
weights.

Where outputs are linear in the weights and the likelihood is Gaussian with fixed noise, the log-joint is a parabola;
``structure="exact"`` then completes the square (+ ½ gᵀ(H+Λ)⁻¹g for the gradient g at ``w``) and the value is exact from
any start.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992.
    Scalable marginal likelihood estimation for model selection in deep learning. A. Immer, M. Bauer, V. Fortuin,
    G. Rätsch, M. E. Khan, 2021. arXiv:2104.04975.
    Invariance learning in deep neural networks with differentiable Laplace approximations. A. Immer, T. van der
    Ouderaa, G. Rätsch, V. Fortuin, M. van der Wilk, 2022. arXiv:2202.10638.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.core.params import Params, count, dot
from novacula.core.results import Estimate
from novacula.core.rng import derive, generator
from novacula.curvature import Curvature, Problem, diagonal, exact, kron, last_layer, matrix_free
from novacula.evidence.common import (
    invariance_assumptions,
    log_likelihood,
    log_precision_sum,
    make_estimate,
    wants_gradient,
)
from novacula.evidence.linearity import is_linear_gaussian
from novacula.inference.method import Posterior, weights_of
from novacula.target import Target

Structure = Literal["exact", "kron", "diag", "last_layer", "matrix_free"]
BUILD = {"exact": exact, "kron": kron, "diag": diagonal, "last_layer": last_layer, "matrix_free": matrix_free}


@dataclass(frozen=True)
class Laplace:
    """Laplace's approximation of the log evidence.

    Args:
        structure: How the curvature is represented: ``"exact"`` (the whole matrix), ``"kron"``, ``"diag"``,
            ``"last_layer"`` (the evidence of the last layer given its features) or ``"matrix_free"`` (stochastic Lanczos).
        copies: Transformed copies S of each input; by default the target's.
        repeats: Independent draws of the transformations (and of the subset); the standard error is the spread between
            them.
        subset: Estimate H from this many random examples, scaled to N; the fit is always that of all examples. None for
            all.
    """

    structure: Structure = "kron"
    copies: int | None = None
    repeats: int = 1
    subset: int | None = None

    def __post_init__(self) -> None:
        if self.structure not in BUILD:
            raise InputError(f"a structure among {', '.join(BUILD)}", repr(self.structure), "use structure='kron'")
        if self.repeats < 1 or (self.subset is not None and self.subset < 1):
            raise InputError("at least one repeat and example", f"{self.repeats}, {self.subset}", "use 1 or more")

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"Laplace({self.structure})" if self.subset is None else f"Laplace({self.structure}, subset={self.subset})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior, *, seed: int) -> Estimate:
        """Estimate the log evidence.

        Args:
            target: The model.
            data: The training data.
            start: Weights at a mode of the posterior, or a posterior whose mode is used.
            seed: Seed of the transformations and probes.

        Returns:
            The estimate, in nats.
        """
        params = weights_of(start)
        copies = self.copies or target.copies.evidence
        subset = None if self.subset is None or self.subset >= data.n else self.subset
        exactly = self.structure == "exact" and subset is None and is_linear_gaussian(target, params, data, seed=seed)
        repeats = self.repeats if target.invariance is not None or subset is not None else 1
        values, spread, warnings, parts = [], [], [], {}
        for r in range(repeats):
            stream = derive(seed, "laplace", r)
            problem = target.problem(params, data, seed=stream, copies=copies)
            problem = dataclasses.replace(problem, differentiable=wants_gradient(problem))
            fit = log_likelihood(target, problem)
            if subset is not None:
                order = torch.randperm(data.n, generator=generator(stream, "subset"))[:subset]
                part = target.problem(params, data.subset(order), seed=stream, copies=copies, total=data.n)
                problem = dataclasses.replace(part, differentiable=problem.differentiable)
            value, stderr, found, parts = _value(target, problem, fit, BUILD[self.structure](problem), exactly)
            values.append(value)
            spread.append(stderr)
            warnings += found
        assumptions = () if exactly else ("the posterior is close to a Gaussian at these weights (one mode, curvature by the GGN)",)
        if subset is not None:
            assumptions += (f"the curvature of {subset} random examples stands for that of all {data.n}",)
        if self.structure == "last_layer":
            assumptions += ("it scores the last layer given its features: the other weights count as fixed",)
        return make_estimate(
            target,
            data,
            values,
            kind="exact" if exactly else "estimate",
            estimator=self.name,
            spread=spread,
            assumptions=assumptions + invariance_assumptions(target, copies),
            warnings=tuple(dict.fromkeys(warnings)),
            parts=parts,
        )


def _value(
    target: Target, problem: Problem, fit: Tensor, curvature: Curvature, exactly: bool
) -> tuple[Tensor, float, list[str], dict[str, float]]:
    """One value, its standard error, warnings and parts."""
    covered = {k: problem.params[k] for k in curvature.names}
    precision = {k: v for k, v in target.prior.precision(problem.params).items() if k in covered}
    t = target.temperature
    peak = fit + target.prior.log_prob(covered).double()
    det = curvature.log_det(precision)
    volume = count(covered) / 2 * math.log(2 * math.pi * t) - (det.value + log_precision_sum(precision, covered)) / 2
    value = peak / t + volume
    parts = {"log_likelihood": float(fit.detach()), "log_prior": float((peak - fit).detach()), "log_volume": float(volume.detach())}
    warnings = [*curvature.warnings]
    if curvature.fallback:
        blocks = ", ".join(f"{k} ({v})" for k, v in curvature.fallback.items())
        warnings.append(f"not covered by the {curvature.structure} structure: {blocks}")
    if exactly:
        gap = _newton_gain(target, problem, curvature, precision)
        parts["newton_gain"] = float(gap)
        value = value + gap / t
    return value, det.stderr / 2, warnings, parts


def _newton_gain(target: Target, problem: Problem, curvature: Curvature, precision: Params) -> Tensor:
    """``½ gᵀ(H+Λ)⁻¹g``: how far the parabola's peak lies above the point."""
    leaves = {k: w.detach().requires_grad_() for k, w in problem.params.items()}
    with torch.enable_grad():
        f_terms = [
            target.likelihood.log_prob(problem.forward.average(leaves, xs.detach()), y).sum() for xs, y in problem.batches()
        ]
        total = problem.scale * torch.stack(f_terms).sum() + target.prior.log_prob(leaves)
    grads = torch.autograd.grad(total, list(leaves.values()))
    g = dict(zip(leaves, (v.detach() for v in grads), strict=True))
    fixed = {k: v.detach() for k, v in precision.items()}
    return dot(g, curvature.covariance(fixed).solve(g)).double() / 2
