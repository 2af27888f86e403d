"""What a run can say of each hyperparameter: its value, how sure it is, and whether it has converged.

What is solved for has a derivative left, at the weights that were trained under the values before the last solve: the
alternation of training and solving has converged where the Newton step that this derivative asks for is shorter than
the posterior standard deviation. The interval holds nine times in ten what an independent repetition (other data of the
same kind, as many) would find: that of a Gaussian for the logarithm, with the curvature of the evidence at the maximum,
and √2 times as wide as for the truth, since both have an error. The weights are held where they are, so that it leaves
out what another training would change.

What moves by gradient has an estimate of it, averaged over a few draws, with its standard error; the curvature is a
finite difference of the same draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.invariances.measured import unit_of
from novacula.study.learning.empirical_bayes import ETA, EmpiricalBayes, EmpiricalBayesState
from novacula.study.learning.solve import unsolved
from novacula.target import Target

Z = math.sqrt(2) * NormalDist().inv_cdf(0.95)
"""Standard errors from the middle of an interval to its end."""
_DRAWS = 4
_STEP = 0.1  # of the finite difference
_WIDEST = 50.0  # of the logarithm: nothing is known of it
_NEAR = 0.05  # a Newton step of an extent, in its unit, that counts as none
_MOST = 32  # numbers that are examined by finite differences at most


@dataclass(frozen=True)
class Hyper:
    """The hyperparameters by name, whether the run has converged, and what must be said first if it has not."""

    found: dict[str, dict[str, Any]]
    converged: bool
    doubts: tuple[str, ...]


def hyperparameters(
    method: EmpiricalBayes,
    state: EmpiricalBayesState,
    fitted: Target,
    data: Data,
    seed: int,
    *,
    under: Target | None = None,
    found: dict[str, dict[str, Any]] | None = None,
) -> Hyper:
    """Examine what a run has learned.

    Args:
        method: How it learned.
        state: The last state.
        fitted: The target with what was learned.
        data: The training data.
        seed: Seed of everything random.
        under: The target that the weights were trained under, if not ``fitted``: what moves by gradient moves there.
        found: What is known of others already.

    Returns:
        A value for each hyperparameter, and how sure it is.
    """
    best, found = state.best, found or {}
    if any(name.split("/")[0] == "noise" for name in found):
        method = method.without("likelihood")
    found = {**_solved(method, state, fitted, data), **found}
    solver = method.solver.learning(method.learn)
    free = unsolved(solver, fitted, tuple(best.hyper))
    if free and sum(best.hyper[k].numel() for k in free) <= _MOST:
        found |= moved(method, best.params, under or fitted, data, free, derive(seed, "hyper"))
    moving = [name for name, entry in found.items() if not entry["converged"]]
    doubts = []
    if not state.rounds.settled:
        if math.isfinite(best.gain) and best.rounds > 1:
            said = f"the last round gained {best.gain:.3g} {best.measure}, with an error of {best.error:.2g}"
        else:
            said = "it was too short for a second round of training, by which to tell"
        doubts.append(f"not converged: {said}; give it more time or more epochs")
    if moving:
        names = ", ".join(moving[:4]) + (" …" if len(moving) > 4 else "")
        doubts.append(f"not converged: {names} would still move")
    return Hyper(found, state.rounds.settled and not moving, tuple(doubts))


def _solved(
    method: EmpiricalBayes, state: EmpiricalBayesState, fitted: Target, data: Data
) -> dict[str, dict[str, Any]]:
    # What the last solve of the best round says.
    before = fitted.with_learnable(state.best.trained)
    solver = method.solver.learning(method.learn)
    if not solver.wanted(before):
        return {}
    draws = [solver(before, data, state.best.params, seed=derive(r, "solve")).tuned for r in range(2)]
    first, second = draws
    assert first is not None
    assert second is not None
    found = {}
    values = values_of(fitted, data)
    for name, spread in first.spread.items():
        slope = float(first.slopes[name])
        other = float(second.slopes.get(name, slope))
        stderr = abs(slope - other) / math.sqrt(2)
        half = min(Z * spread, _WIDEST)
        key = name if name == "noise" else f"precision/{name}"
        for label, value in values.get(name, {key: math.nan}).items():
            found[label] = {
                "value": value,
                "interval": [value * math.exp(-half), value * math.exp(half)],
                "gradient": slope,
                "stderr": stderr,
                "converged": bool(not math.isfinite(spread) or abs(slope) * spread <= 1 + 2 * stderr * spread),
            }
    return found


def values_of(target: Target, data: Data) -> dict[str, dict[str, float]]:
    """Precisions by group, and the noise in the units of the targets, by the names that they have among results."""
    found: dict[str, dict[str, float]] = {}
    precision = {k: float(v.double().log().mean().exp()) for k, v in target.prior.precision(target.params()).items()}
    found |= {name: {f"precision/{name}": value} for name, value in precision.items()}
    found[", ".join(precision)] = {"precision": math.exp(sum(map(math.log, precision.values())) / len(precision))}
    if target.likelihood.quadratic:
        outputs = data.y.shape[1]
        sigma = target.likelihood.log_noise(outputs).detach().double().exp().expand(outputs)
        own = sigma if data.scaling is None else data.scaling.restore_y_scale(sigma)
        values = own.tolist()
        same = len({f"{v:.9g}" for v in values}) == 1
        found["noise"] = {"noise": values[0]} if same else {f"noise/{i}": v for i, v in enumerate(values)}
    return found


def moved(
    method: EmpiricalBayes, params: Params, fitted: Target, data: Data, free: tuple[str, ...], seed: int
) -> dict[str, dict[str, Any]]:
    """Value, interval, gradient, its error and whether it has converged, by name, of what moves by gradient."""
    hyper = {k: v.detach() for k, v in fitted.learnable().items()}

    def gradient(values: dict[str, Tensor], draw: int) -> Tensor:
        leaves = {k: v.detach().requires_grad_(k in free) for k, v in values.items()}
        estimate = method.estimator(fitted.with_learnable(leaves), data, params, seed=derive(seed, draw))
        grads = torch.autograd.grad(
            estimate.value, [leaves[k] for k in free], allow_unused=True, materialize_grads=True
        )
        return torch.cat([g.double().flatten() for g in grads])

    draws = torch.stack([gradient(hyper, r) for r in range(_DRAWS)])
    mean, stderr = draws.mean(0), draws.std(0) / math.sqrt(_DRAWS)
    found, place = {}, 0
    for key in free:
        names = _names(fitted, key, hyper[key])
        units = unit_of(fitted.invariance).tolist() if key == ETA else [1.0] * len(names)
        for i, (name, unit) in enumerate(zip(names, units, strict=True)):
            flat = hyper[key].flatten().clone()
            flat[i] += _STEP * unit
            ahead = gradient({**hyper, key: flat.view_as(hyper[key])}, 0)[place]
            curvature, value = float(draws[0, place] - ahead) / (_STEP * unit), float(hyper[key].flatten()[i])
            found[name] = _entry(value, float(mean[place]), float(stderr[place]), curvature, unit)
            if key == ETA and fitted.invariance is not None:
                _at_the_border(found[name], fitted, hyper[key], i, unit)
            place += 1
    return found


def _entry(value: float, gradient: float, stderr: float, curvature: float, unit: float) -> dict[str, Any]:
    half = Z / math.sqrt(curvature) if curvature > 0 else None
    step = abs(gradient) / curvature if curvature > 0 else math.inf
    return {
        "value": value,
        "interval": None if half is None else [value - half, value + half],
        "gradient": gradient,
        "stderr": stderr,
        "converged": abs(gradient) <= 2.5 * stderr or step <= _NEAR * unit,
    }


def _at_the_border(entry: dict[str, Any], target: Target, eta: Tensor, i: int, unit: float) -> None:
    # Extents as magnitudes; one that cannot go where its gradient points has converged.
    assert target.invariance is not None
    pushed = eta.clone()
    pushed[i] += 0.02 * unit * math.copysign(1.0, entry["gradient"])
    size = float(target.invariance.magnitude(eta)[i])
    stuck = float(target.invariance.magnitude(target.invariance.project(pushed))[i]) <= size + 1e-6 * unit
    if entry["interval"] is not None:
        half = (entry["interval"][1] - entry["interval"][0]) / 2
        entry["interval"] = [max(0.0, size - half), size + half]
    entry["value"] = size
    entry["converged"] = entry["converged"] or (stuck and (entry["gradient"] > 0 or size < _NEAR * unit))


def _names(target: Target, key: str, value: Tensor) -> list[str]:
    if key == ETA and target.invariance is not None:
        return list(target.invariance.names)
    if key == "prior.log_precision" and value.numel() == len(target.params()) and value.ndim:
        return [f"log_precision/{name}" for name in target.params()]
    name = key if key.startswith("network.") else key.split(".", 1)[1]
    return [name] if value.numel() == 1 else [f"{name}/{i}" for i in range(value.numel())]
