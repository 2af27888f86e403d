"""What the evidence estimators share: the fit of the data at a point, and whether gradients are wanted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.errors import NonFiniteError
from novacula.core.params import Params
from novacula.core.results import Estimate, Kind
from novacula.curvature import Problem, recompute
from novacula.target import Target


def wants_gradient(problem: Problem) -> bool:
    """Whether anything but the weights carries a gradient: extents, noise, or a tensor of the user's own.

    One example is pushed through with the weights detached; what still requires a gradient then depends on something
    that is to be learned.

    Args:
        problem: The curvature problem.

    Returns:
        True if outputs or likelihood factor require a gradient.
    """
    if not torch.is_grad_enabled():
        return False
    xs, y = next(iter(problem.batches()))
    f = problem.forward.average(problem.params, xs[:1])
    return f.requires_grad or problem.factor(f, y[:1]).requires_grad


def log_likelihood(target: Target, problem: Problem) -> Tensor:
    """``scale · Σ_n log p(y_n | f̄(w, x_n))`` over the problem's batches.

    Args:
        target: Gives the likelihood.
        problem: Gives weights, batches and scale.

    Returns:
        A scalar in float64; differentiable, batch by batch, where the problem is.

    Raises:
        NonFiniteError: If it is not finite.
    """

    def fit(batch: tuple[Tensor, Tensor]) -> tuple[Tensor]:
        xs, y = batch
        f = problem.forward.average(problem.params, xs)
        return (target.likelihood.log_prob(f, y).sum(dtype=torch.float64),)

    if problem.differentiable:
        (total,) = recompute(fit, problem.batches)
    else:
        with torch.no_grad():
            total = torch.stack([fit(batch)[0] for batch in problem.batches()]).sum()
    if not torch.isfinite(total):
        raise NonFiniteError(
            "a finite log-likelihood", str(float(total)), "check that the weights come from a training run that converged"
        )
    return problem.scale * total


def log_precision_sum(precision: Params, params: Params) -> Tensor:
    """``log |Λ|`` over the parameters named in ``params``.

    Args:
        precision: Prior precisions, broadcastable to each parameter.
        params: The parameters to count.

    Returns:
        A scalar in float64.
    """
    terms = [precision[k].double().log().expand(w.shape).sum() for k, w in params.items()]
    return torch.stack(terms).sum()


def make_estimate(
    target: Target,
    data: Data,
    values: list[Tensor],
    *,
    kind: Kind,
    estimator: str,
    spread: list[float] | None = None,
    assumptions: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    parts: dict[str, float] | None = None,
) -> Estimate:
    """Average repeated values into an `Estimate`.

    Args:
        target: Gives loss and temperature.
        data: Gives size and fingerprint.
        values: One value for each independent repeat.
        kind: The kind of number.
        estimator: The estimator's name and settings.
        spread: Standard error of each value from randomness within its repeat.
        assumptions: What the number assumes.
        warnings: Reservations.
        parts: Terms of the sum.

    Returns:
        The estimate; its standard error combines the spread between repeats with that within.
    """
    value = torch.stack(values).mean()
    within = math.sqrt(sum(s * s for s in spread)) / len(spread) if spread else 0.0
    between = float(torch.stack([v.detach() for v in values]).std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(
        value=value,
        stderr=math.hypot(within, between),
        kind=kind,
        estimator=estimator,
        n=data.n,
        fingerprint=data.fingerprint,
        loss=target.likelihood.loss,
        temperature=target.temperature,
        assumptions=assumptions,
        warnings=warnings,
        parts=parts or {},
    )


def invariance_assumptions(target: Target, copies: int) -> tuple[str, ...]:
    """What averaging over finitely many transformations means for a value.

    Args:
        target: The target.
        copies: S.

    Returns:
        Sentences, none without an invariance.
    """
    if target.invariance is None:
        return ()
    return (f"outputs are averaged over S={copies} sampled transformations of each input",)
