"""Prior tuning after training: precisions and noise that maximise the Laplace evidence at fixed weights.

The eigenvalues of the curvature are found once; a step then costs one pass over them, and the evidence is concave in
the logarithms that are tuned (see `spectral`), so that Newton's method finds *the* maximum. There, with T = 1,
``λ_g ‖w_g‖² = γ_g``: MacKay's number of well-determined parameters.

Where a network fits separable labels so well that the curvature all but vanishes, this maximum is no answer. The
evidence at fixed weights then lacks what holds a wide prior back, λ goes to nought with γ, and data that were not among
those of the curvature meet a prior of no effect. A group whose precision would fall though not even a tenth of one
parameter is determined keeps it, and is named: no precision falls below ``.1 / ‖w_g‖²``. One that rises as its weights
vanish (a bias that is not needed) may.

Groups: with ``"kron"`` and ``"diag"``, one for every scale of the prior (for `Gaussian`, every tensor). So too with
``"exact"`` and ``"last_layer"`` up to 600 weights, where a step factorises the whole matrix (see `grouped`); beyond,
where only eigenvalues are affordable and these do not split, precisions move by a common factor.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params, count, flatten
from novacula.core.rng import derive, generator
from novacula.curvature import Curvature, Problem
from novacula.curvature.structures.names import build, check_structure
from novacula.data.data import Data
from novacula.evidence.common import check_counts, collect_warnings, log_likelihood
from novacula.evidence.laplace import Laplace, stream_of
from novacula.evidence.start import bound, weights_for
from novacula.evidence.tuning.grouped import Grouped
from novacula.evidence.tuning.spectral import Floats, Objective, Scales, Spectral, maximise
from novacula.likelihoods.base import Likelihood
from novacula.posteriors.base import Posterior
from novacula.priors.mean import deviations
from novacula.priors.multiply import Handle, handles, multiplied
from novacula.priors.multiply import groups as groups_of
from novacula.target import Target

Tunable = Literal["kron", "exact", "diag", "last_layer"]

_DETERMINED = 0.1  # parameters of a group that data must determine, γ, where its precision is to be solved for
_ROUNDED = 32  # roundings of a target that a residual may consist of, where it tells nothing
WHOLE = 600
"""Weights up to which the whole matrix is factorised in every step."""


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
        slopes: The derivatives before the first step, in nats per unit of the logarithm of each factor.
        spread: The posterior standard deviation of the logarithm of each factor, from the curvature at the maximum.
        seconds: ``curvature`` (H and its eigenvalues, once) and ``steps`` (all of them).
        warnings: Reservations.
    """

    target: Target
    evidence: Estimate
    history: tuple[float, ...]
    steps: int
    gradient: float
    factors: dict[str, float]
    slopes: dict[str, float]
    spread: dict[str, float]
    seconds: dict[str, float]
    warnings: tuple[str, ...]

    __repr__ = brief


def tune(
    target: Target,
    data: Data,
    start: Params | Posterior,
    *,
    structure: Tunable = "kron",
    steps: int = 100,
    learn: tuple[Literal["prior", "noise"], ...] = ("prior", "noise"),
    copies: int | None = None,
    subset: int | None = None,
    columns: int | None = None,
    seed: int,
) -> Tuned:
    """Tune prior precisions and noise at fixed weights, by one eigendecomposition.

    Args:
        target: The model; its prior must be Gaussian. Its hyperparameters are where the search starts, and nothing else
            depends on them (where all precisions move by a common factor, their ratios do).
        data: The training data.
        start: Trained weights, or a posterior whose mode is used.
        structure: The structure of the curvature.
        steps: At most so many Newton steps; about ten are usual.
        learn: ``"prior"``, ``"noise"`` or both. The noise is tuned where the likelihood is `Normal`; several σ keep
            their ratios.
        copies: Transformed copies S of each input; by default the target's.
        subset: Take H from this many random examples, scaled to N; the fit is always that of all. None for all.
        columns: Random combinations that stand for the columns of each example's Fisher factor, where it has more: the
            cost then does not grow with the number of classes. None for all columns.
        seed: Seed of everything random.

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
    _check(target, structure, steps, learn, {"copies": copies, "subset": subset, "columns": columns})
    target, data = bound(target, data)
    target, params = weights_for(target, start)
    with torch.no_grad(), collect_warnings() as found:
        stream = stream_of(seed, 0)
        problem = target.problem(params, data, seed=stream, copies=copies or target.copies.evidence)
        part = _part(target, params, data, stream, copies, subset, columns)
        curvature = build(structure, part or problem, seed=derive(stream, "probes"))
        known = handles(target.prior, target.params())
        precision = {k: v.double() for k, v in target.prior.precision(problem.params).items()}
        objective, groups, doubts = _objective(target, problem, curvature, precision, known, learn)
        # What F leaves out: the log-likelihood, of which F has the residuals where the noise is tuned.
        residuals = objective.scales.residuals
        offset = (float(log_likelihood(target, problem)) + (residuals or 0.0) / 2) / target.temperature
        decomposed = time.perf_counter()
        objective, (x, history, gradient), unsaid = _determined(objective, groups, steps)
        doubts += unsaid
        ended = time.perf_counter()
        tuned = _moved(target, known, groups, x)
    if gradient > 1e-6:
        doubts.append(f"no maximum after {steps} steps: a derivative of {gradient:.1g} is left")
    warnings = tuple(dict.fromkeys([*curvature.warnings, *found, *doubts]))
    names = [*(", ".join(names) for names in groups), "noise"]
    halves = [*np.ones(len(groups)), 0.5]  # σ is the root of the variance that x moves
    factors = {name: math.exp(h * a) for name, h, a in zip(names, halves, x, strict=True)}
    if residuals is None:
        del factors["noise"]
    slopes, spread = _uncertainty(objective, x, names, halves)
    return Tuned(
        target=tuned,
        evidence=_estimate(
            target, data, Laplace(structure, copies=copies, repeats=1).name, history[-1] + offset, warnings
        ),
        history=tuple(v + offset for v in history),
        steps=len(history) - 1,
        gradient=gradient,
        factors=factors,
        slopes=slopes,
        spread=spread,
        seconds={"curvature": decomposed - began, "steps": ended - decomposed},
        warnings=warnings,
    )


def _determined(
    objective: Objective, groups: list[tuple[str, ...]], steps: int
) -> tuple[Objective, tuple[Floats, list[float], float], list[str]]:
    # The maximum over those groups of which the data determine something; each that is left out moves the others.
    unsaid = list[str]()
    while True:
        found = maximise(objective, steps)
        few = objective.learned[:-1] & (objective.gamma(found[0]) < _DETERMINED) & (found[0][:-1] < 0)
        if not few.any():
            break
        unsaid += [name for g in np.flatnonzero(few) for name in groups[g]]
        objective = objective.without(np.append(few, False))
    if not unsaid:
        return objective, found, []
    return (
        objective,
        found,
        [
            f"the precision of {', '.join(unsaid)} was left as it is: the data determine less than a tenth of one of "
            "its parameters at these weights (outputs that are sure of every label have no curvature)"
        ],
    )


def _estimate(target: Target, data: Data, estimator: str, value: float, warnings: tuple[str, ...]) -> Estimate:
    return Estimate(
        value=torch.tensor(value, dtype=torch.float64),
        stderr=math.nan if target.averaged is not None else 0.0,
        kind="estimate",
        estimator=estimator,
        n=data.n,
        fingerprint=data.fingerprint,
        loss=target.likelihood.loss,
        temperature=target.temperature,
        assumptions=(
            "the posterior is close to a Gaussian at these weights (one mode, curvature by the GGN)",
            "the weights stay where they are: they need not be a mode under the tuned prior",
            *target.forward.trains(data.x).said,
        ),
        warnings=warnings,
    )


def _uncertainty(
    objective: Objective, x: Floats, names: list[str], halves: list[float]
) -> tuple[dict[str, float], dict[str, float]]:
    # Derivatives at the start, and standard deviations at x, for the logarithms of the free factors.
    free = np.flatnonzero(objective.learned)
    if not len(free):
        return {}, {}
    before, _ = objective.derivatives(np.zeros_like(x))
    _, hessian = objective.derivatives(x)
    # Of a flat maximum nothing is known; rounding may even turn it over.
    variance = np.diag(np.linalg.pinv(-hessian))
    slopes = {names[i]: float(g) / halves[i] for i, g in zip(free, before, strict=True)}
    return slopes, {
        names[i]: halves[i] * (math.sqrt(v) if v > 0 else math.inf)
        for i, v in zip(free, variance.tolist(), strict=True)
    }


def _part(
    target: Target,
    params: Params,
    data: Data,
    stream: int,
    copies: int | None,
    subset: int | None,
    columns: int | None,
) -> Problem | None:
    # The problem of which H is taken, where it is not the whole one.
    few = data
    if subset is not None and subset < data.n:
        few = data.subset(torch.randperm(data.n, generator=generator(stream, "subset"))[:subset])
    if few is data and columns is None:
        return None
    problem = target.problem(params, few, seed=stream, copies=copies or target.copies.evidence, total=data.n)
    return problem if columns is None else problem.sketched(columns, derive(stream, "columns"))


def _check(
    target: Target, structure: str, steps: int, learn: tuple[str, ...], counts: Mapping[str, int | None]
) -> None:
    """Refuse what cannot be tuned."""
    check_structure(structure, get_args(Tunable))
    check_counts("use tune(…, structure='kron', steps=100)", steps=steps, **counts)
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


def _objective(
    target: Target,
    problem: Problem,
    curvature: Curvature,
    precision: Params,
    known: Mapping[str, Handle],
    learn: tuple[str, ...],
) -> tuple[Objective, list[tuple[str, ...]], list[str]]:
    # F, the tensors whose precisions move together, and reservations: groups without a finite optimum stay.
    blocks = curvature.eigenvalues(precision)
    if blocks is None:
        raise InputError("a structure with a spectrum", curvature.structure, "use structure='kron'")
    covered = [name for block in blocks for name in block]
    joint, groups = any(len(block) > 1 for block in blocks), groups_of(known, covered)
    if joint and count({k: problem.params[k] for k in covered}) > WHOLE:
        groups = [tuple(covered)]
    whole = joint and len(groups) > 1
    scales, doubts = _scales(target, problem, curvature.diagonal(), precision, groups, learn)
    if whole:
        place = {name: g for g, group in enumerate(groups) for name in group}
        own = {k: precision[k].expand(problem.params[k].shape) for k in curvature.names}
        root = flatten(own).rsqrt()
        matrix = (root[:, None] * curvature.dense().double() * root).cpu().numpy()
        group = np.concatenate([np.full(problem.params[k].numel(), place[k]) for k in curvature.names])
        return Grouped(matrix, group, scales), groups, doubts
    spectra = {names: values.cpu().numpy() for names, values in blocks.items()}
    return (
        Spectral(
            tuple(np.concatenate([h for names, h in spectra.items() if set(names) <= set(group)]) for group in groups),
            scales,
        ),
        groups,
        doubts,
    )


def _scales(
    target: Target,
    problem: Problem,
    diagonal: Params,
    precision: Params,
    groups: list[tuple[str, ...]],
    learn: tuple[str, ...],
) -> tuple[Scales, list[str]]:
    # The terms of F without the curvature, and reservations.
    away = deviations(target.prior, problem.params)
    squares = [sum(float((precision[k] * away[k].double().square()).sum()) for k in group) for group in groups]
    doubts, free = [], []
    for group, q in zip(groups, squares, strict=True):
        tunable = q > 0 and any(bool((diagonal[k] > 0).any()) for k in group)
        free.append("prior" in learn and tunable)
        if "prior" in learn and not tunable:
            reason = "its weights are all at the prior's mean" if q == 0 else "the data say nothing about it"
            doubts.append(f"the precision of {', '.join(group)} was left as it is: {reason}, and no finite one is best")
    residuals, outputs = None, 0
    if "noise" in learn and target.likelihood.quadratic:
        residuals, rounding, outputs = _residuals(target.likelihood, problem)
        if residuals == 0:
            doubts.append("the noise was left as it is: the residuals are all zero")
            residuals = None
        elif residuals <= _ROUNDED**2 * rounding:
            doubts.append(
                "the residuals are as small as the rounding of the targets: the noise is the arithmetic's, and so is "
                "the evidence, which has no bound for targets without noise (learn the prior alone)"
            )
    learned = np.array([*free, residuals is not None])
    return Scales(np.array(squares), residuals, outputs, target.temperature, learned), doubts


def _residuals(likelihood: Likelihood, problem: Problem) -> tuple[float, float, int]:
    # ``R = Σ ((y − f̄)/σ)²``, the same of targets that differ by their rounding alone, and N·D.
    total, rounding, size = 0.0, 0.0, 0
    for xs, y in problem.batches():
        f = problem.forward.average(problem.params, xs)
        root = (-likelihood.log_noise(y.shape[1]).double().to(y.device)).exp()
        total += float(((y - f).double() * root).square().sum())
        rounding += float((torch.finfo(f.dtype).eps * y.double() * root).square().sum())
        size += y.numel()
    return total * problem.scale, rounding * problem.scale, round(size * problem.scale)


def _moved(target: Target, known: Mapping[str, Handle], groups: list[tuple[str, ...]], x: Floats) -> Target:
    # The target with its precisions and noise multiplied by what was found.
    logs = {name: a for group, a in zip(groups, x[:-1].tolist(), strict=True) for name in group}
    values = multiplied(target.prior, target.params(), known, logs)
    tuned = target.with_learnable({f"prior.{k}": v for k, v in values.items()})
    if not target.likelihood.quadratic:
        return tuned
    return replace(tuned, likelihood=target.likelihood.scaled(float(x[-1]) / 2))
