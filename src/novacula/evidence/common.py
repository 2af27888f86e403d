"""What the evidence estimators share: the fit of the data at a point, whether gradients are wanted, the estimate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.estimate import Estimate, Kind
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.curvature import Problem, recompute
from novacula.data.data import Data
from novacula.target import Target


def wants_gradient(target: Target, params: Params, data: Data) -> bool:
    """Whether anything but weights and prior carries a gradient: extents, noise, or a tensor of the user's own.

    One example is pushed through with the weights detached; what still requires a gradient then depends on something
    that is to be learned.

    Returns:
        True if outputs, log-likelihood or its curvature require a gradient.
    """
    if not torch.is_grad_enabled():
        return False
    for part in (target.invariance, target.likelihood):
        if part is not None and any(getattr(part, name).requires_grad for name in part.learnable):
            return True
    xs, y = target.warp(data.x[:1], 1, generator(0, "gradient")), data.y[:1]
    f = target.forward.average({k: w.detach() for k, w in params.items()}, xs)
    likelihood = target.likelihood
    return f.requires_grad or likelihood.log_prob(f, y).requires_grad or likelihood.factor(f, y).requires_grad


def log_likelihood(target: Target, problem: Problem) -> Tensor:
    """``scale · Σ_n log p(y_n | f̄(w, x_n))`` over the problem's batches."""

    def fit(batch: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        xs, y = batch
        f = problem.forward.average(problem.params, xs)
        return (target.likelihood.log_prob(f, y).sum(dtype=torch.float64),)

    with torch.set_grad_enabled(problem.differentiable and torch.is_grad_enabled()):
        (total,) = recompute(fit, problem.batches)
    if not torch.isfinite(total):
        raise NonFiniteError(
            "a finite log-likelihood",
            str(float(total)),
            "check that the weights come from a training run that converged",
        )
    return problem.scale * total


def log_precision_sum(precision: Params, params: Params) -> Tensor:
    """``log |Λ|`` over the parameters named in ``params``."""
    terms = [precision[k].double().log().expand(w.shape).sum() for k, w in params.items()]
    return torch.stack(terms).sum()


def make_estimate(
    target: Target,
    data: Data,
    values: list[Tensor],
    *,
    kind: Kind,
    estimator: str,
    within: float = 0.0,
    assumptions: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    parts: list[dict[str, float]] | None = None,
) -> Estimate:
    """Average repeated values into an `Estimate`."""
    if target.likelihood_temperature != 1.0:
        raise InputError(
            "likelihood_temperature=1 for an evidence",
            f"{target.likelihood_temperature:g}: p(y|f)^(1/T) is no density of the labels",
            "compare predictions instead (novacula.study.temperature.cold_posterior), or temper the whole posterior",
        )
    said = (*assumptions, *target.forward.trains(data.x).said)
    stacked = torch.stack(values)
    stderr = within
    if len(values) > 1:
        between = float(stacked.detach().std()) / math.sqrt(len(values))
        stderr = between if math.isnan(within) else max(within, between)
    mean_parts = {k: sum(p[k] for p in parts) / len(parts) for k in parts[0]} if parts else {}
    return Estimate(
        value=stacked.mean(),
        stderr=stderr,
        kind=kind,
        estimator=estimator,
        n=data.n,
        fingerprint=data.fingerprint,
        loss=target.likelihood.loss,
        temperature=target.temperature,
        assumptions=said,
        warnings=tuple(dict.fromkeys(warnings)),
        parts=mean_parts,
    )


def check_counts(hint: str, **counts: int | None) -> None:
    """Refuse settings that are not whole numbers of at least 1."""
    for name, value in counts.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name} as a whole number of at least 1", repr(value), hint)


def invariance_assumptions(target: Target, copies: int) -> tuple[str, ...]:
    """What averaging over finitely many transformations means for a value."""
    if target.invariance is None:
        return ()
    if target.averaged is None:
        return ("inputs are scored as they are: the transformation augments the training data alone",)
    return (f"outputs are averaged over S={copies} sampled transformations of each input",)


def tempering_assumptions(target: Target) -> tuple[str, ...]:
    """What a temperature means for a value."""
    if target.temperature == 1.0:
        return ()
    return (
        f"temperature {target.temperature:g}: the mean of p(D|w)^(1/T) under the prior p(w)^(1/T), which is normalised",
    )


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect `NovaculaWarning`s raised inside, so that an estimate can carry them; others pass."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NovaculaWarning)
        yield found
    for w in caught:
        if issubclass(w.category, NovaculaWarning):
            found.append(str(w.message))
        else:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno, source=w.source)
