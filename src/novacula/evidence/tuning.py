"""Prior tuning after training: precisions and noise that maximise the Laplace evidence at fixed weights.

The eigenvalues of the curvature are found once; a step then costs one pass over them, and the evidence is concave in
the logarithms that are tuned (see `spectral`), so that Newton's method finds *the* maximum. There, with T = 1,
``λ_g ‖w_g‖² = γ_g``: MacKay's number of well-determined parameters.

Groups: with ``"kron"`` and ``"diag"``, one for every scale of the prior (for `Gaussian`, every tensor). With
``"exact"`` and ``"last_layer"``, whose spectrum does not split, one for all: precisions move by a common factor.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch

from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.curvature import Curvature, Problem
from novacula.curvature.structures.names import build, check_structure
from novacula.data.data import Data
from novacula.evidence.common import check_counts, collect_warnings, log_likelihood
from novacula.evidence.laplace import Laplace, stream_of
from novacula.evidence.spectral import Floats, Objective, maximise
from novacula.evidence.start import bound, weights_for
from novacula.likelihoods.base import Likelihood
from novacula.posteriors.base import Posterior
from novacula.priors.multiply import Handle, handles, multiplied
from novacula.priors.multiply import groups as groups_of
from novacula.target import Target

Spectral = Literal["kron", "exact", "diag", "last_layer"]
Blocks: TypeAlias = dict[tuple[str, ...], Floats]


@dataclass(frozen=True, eq=False)
class Tuned:
    """What `tune` found.

    Args:
        target: The target with its tuned prior and noise.
        evidence: Its log evidence at the fixed weights, as `Laplace` of the same structure and seed estimates it.
        history: The log evidence before the first step and after each.
        steps: Newton steps taken.
        gradient: The largest derivative left, in nats per unit of a logarithm.
        factors: What each group of precisions (named by its tensors) and the noise's standard deviation were multiplied
            by.
        seconds: ``curvature`` (H and its eigenvalues, once) and ``steps`` (all of them).
        warnings: Reservations.
    """

    target: Target
    evidence: Estimate
    history: tuple[float, ...]
    steps: int
    gradient: float
    factors: dict[str, float]
    seconds: dict[str, float]
    warnings: tuple[str, ...]


def tune(
    target: Target,
    data: Data,
    start: Params | Posterior,
    *,
    structure: Spectral = "kron",
    steps: int = 100,
    learn: tuple[Literal["prior", "noise"], ...] = ("prior", "noise"),
    copies: int | None = None,
    seed: int,
) -> Tuned:
    """Tune prior precisions and noise at fixed weights, by one eigendecomposition.

    Args:
        target: The model; its prior must be Gaussian. Its hyperparameters are where the search starts, and nothing else
            depends on them (with ``"exact"`` and ``"last_layer"`` their ratios do).
        data: The training data.
        start: Trained weights, or a posterior whose mode is used.
        structure: The structure of the curvature.
        steps: At most so many Newton steps; about ten are usual.
        learn: ``"prior"``, ``"noise"`` or both. The noise is tuned where the likelihood is `Normal`; several σ keep
            their ratios.
        copies: Transformed copies S of each input; by default the target's.
        seed: Seed of the transformations.

    Returns:
        The tuned target, its evidence and how it was reached.

    Raises:
        InputError: If the prior is not Gaussian, an option is unknown, there is nothing to tune, or network, data and
            start do not fit together.

    Example:
        >>> from novacula.likelihoods import Normal
        >>> x = torch.linspace(-1, 1, 30).unsqueeze(1)
        >>> data = Data(x, 3 * x + 0.1 * torch.sin(40 * x))
        >>> target = Target(torch.nn.Linear(1, 1, bias=False), Normal())
        >>> found = tune(target, data, {"weight": torch.tensor([[3.0]])}, structure="exact", seed=0)
        >>> 0.06 < float(found.target.likelihood.sigma) < 0.08
        True
    """
    began = time.perf_counter()
    _check(target, structure, steps, learn, copies)
    target, data = bound(target, data)
    params = weights_for(target, start)
    with torch.no_grad(), collect_warnings() as found:
        stream = stream_of(seed, 0)
        problem = target.problem(params, data, seed=stream, copies=copies or target.copies.evidence)
        curvature = build(structure, problem, seed=derive(stream, "probes"))
        known = handles(target.prior, target.params())
        precision = {k: v.double() for k, v in target.prior.precision(problem.params).items()}
        blocks = _eigenvalues(curvature, precision)
        groups = _groups(known, blocks)
        objective, doubts = _objective(target, problem, precision, blocks, groups, learn)
        # What F leaves out: the log-likelihood, of which F has the residuals where the noise is tuned.
        offset = (float(log_likelihood(target, problem)) + (objective.residuals or 0.0) / 2) / target.temperature
        decomposed = time.perf_counter()
        x, history, gradient = maximise(objective, steps)
        ended = time.perf_counter()
        tuned = _moved(target, known, groups, x)
    if gradient > 1e-6:
        doubts.append(f"no maximum after {steps} steps: a derivative of {gradient:.1g} is left")
    warnings = tuple(dict.fromkeys([*curvature.warnings, *found, *doubts]))
    factors = {", ".join(names): math.exp(a) for names, a in zip(groups, x[:-1], strict=True)}
    if objective.residuals is not None:
        factors["noise"] = math.exp(x[-1] / 2)
    return Tuned(
        target=tuned,
        evidence=_estimate(
            target, data, Laplace(structure, copies=copies, repeats=1).name, history[-1] + offset, warnings
        ),
        history=tuple(v + offset for v in history),
        steps=len(history) - 1,
        gradient=gradient,
        factors=factors,
        seconds={"curvature": decomposed - began, "steps": ended - decomposed},
        warnings=warnings,
    )


def _estimate(target: Target, data: Data, estimator: str, value: float, warnings: tuple[str, ...]) -> Estimate:
    return Estimate(
        value=torch.tensor(value, dtype=torch.float64),
        stderr=math.nan if target.invariance is not None else 0.0,
        kind="estimate",
        estimator=estimator,
        n=data.n,
        fingerprint=data.fingerprint,
        loss=target.likelihood.loss,
        temperature=target.temperature,
        assumptions=(
            "the posterior is close to a Gaussian at these weights (one mode, curvature by the GGN)",
            "the weights stay where they are: they need not be a mode under the tuned prior",
        ),
        warnings=warnings,
    )


def _check(target: Target, structure: str, steps: int, learn: tuple[str, ...], copies: int | None) -> None:
    """Refuse what cannot be tuned."""
    check_structure(structure, get_args(Spectral))
    check_counts("use tune(…, structure='kron', steps=100)", steps=steps, copies=copies)
    if not target.prior.gaussian:
        raise InputError(
            "a Gaussian or FanIn prior", type(target.prior).__name__, "learn other priors by gradient: nv.learn"
        )
    if isinstance(learn, str) or not learn or not set(learn) <= {"prior", "noise"}:
        raise InputError("learn=('prior',), ('noise',) or both", repr(learn), "use learn=('prior', 'noise')")
    if "prior" not in learn and not target.likelihood.quadratic:
        raise InputError(
            "a Normal likelihood, whose noise can be tuned", type(target.likelihood).__name__, "use 'prior'"
        )


def _groups(known: Mapping[str, Handle], blocks: Blocks) -> list[tuple[str, ...]]:
    # The tensors whose precisions move together: all of them, where the curvature has joint eigenvalues.
    names = [name for block in blocks for name in block]
    return [tuple(names)] if any(len(block) > 1 for block in blocks) else groups_of(known, names)


def _eigenvalues(curvature: Curvature, precision: Params) -> Blocks:
    # In units of the precisions: the one eigendecomposition.
    blocks = curvature.eigenvalues(precision)
    if blocks is None:
        raise InputError("a structure with a spectrum", curvature.structure, "use structure='kron'")
    return {names: values.cpu().numpy() for names, values in blocks.items()}


def _objective(
    target: Target,
    problem: Problem,
    precision: Params,
    blocks: Blocks,
    groups: list[tuple[str, ...]],
    learn: tuple[str, ...],
) -> tuple[Objective, list[str]]:
    # F, and reservations: groups without a finite optimum stay as they are.
    spectra = tuple(np.concatenate([h for names, h in blocks.items() if set(names) <= set(group)]) for group in groups)
    squares = [
        sum(float((precision[k] * problem.params[k].double().square()).sum()) for k in group) for group in groups
    ]
    doubts, free = [], []
    for group, h, q in zip(groups, spectra, squares, strict=True):
        tunable = q > 0 and float(h.sum()) > 0
        free.append("prior" in learn and tunable)
        if "prior" in learn and not tunable:
            reason = "its weights are all zero" if q == 0 else "the data say nothing about it"
            doubts.append(f"the precision of {', '.join(group)} was left as it is: {reason}, and no finite one is best")
    residuals, outputs = None, 0
    if "noise" in learn and target.likelihood.quadratic:
        residuals, outputs = _residuals(target.likelihood, problem)
        if residuals == 0:
            doubts.append("the noise was left as it is: the residuals are all zero")
            residuals = None
    return (
        Objective(
            spectra=spectra,
            squares=np.array(squares),
            residuals=residuals,
            outputs=outputs,
            temperature=target.temperature,
            learned=np.array([*free, residuals is not None]),
        ),
        doubts,
    )


def _residuals(likelihood: Likelihood, problem: Problem) -> tuple[float, int]:
    # ``R = Σ ((y − f̄)/σ)²`` and N·D.
    total, size = 0.0, 0
    for xs, y in problem.batches():
        f = problem.forward.average(problem.params, xs)
        z = (y - f).double() * (-likelihood.log_noise(y.shape[1]).double().to(y.device)).exp()
        total, size = total + float(z.square().sum()), size + z.numel()
    return total * problem.scale, round(size * problem.scale)


def _moved(target: Target, known: Mapping[str, Handle], groups: list[tuple[str, ...]], x: Floats) -> Target:
    # The target with its precisions and noise multiplied by what was found.
    logs = {name: a for group, a in zip(groups, x[:-1].tolist(), strict=True) for name in group}
    values = multiplied(target.prior, target.params(), known, logs)
    tuned = target.with_learnable({f"prior.{k}": v for k, v in values.items()})
    if not target.likelihood.quadratic:
        return tuned
    return replace(tuned, likelihood=target.likelihood.scaled(float(x[-1]) / 2))
