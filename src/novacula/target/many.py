"""A target's loss on a batch and its gradient, for many networks at once; recorded and replayed in a long run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from novacula.core.many import chunk_of, looped, members_of, over_members
from novacula.core.params import Params
from novacula.core.recording.record import Function, record
from novacula.target import Density, Target
from novacula.target.batch import Batch
from novacula.target.decay import decays

_LONG = 2_000
"""Steps, times chunks of members, from which on a run is worth a recording (which takes about half a second)."""


# Recordings of networks by all that they depend on; None where there can be none.
_RECORDINGS: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Function | None]] = WeakKeyDictionary()

# Whether a prior is Gaussian around zero, of those that were asked.
_DECAYS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def owner_of(target: Density) -> object:
    """What decides whether vmap works for a target."""
    return target.forward.module if isinstance(target, Target) else target


def loss_and_gradient(target: Density, params: Params, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Params]:
    """Every member's misfit of a batch, and the gradient of its negative log-density.

    In a long run the function is recorded (see `novacula.core.recording.record`): that changes results by rounding
    alone.

    Returns:
        The mean negative log-likelihood of the batch, in nats per example, shape ``(M,)`` (without the prior, whose
        constant would hide it; the negative log-density itself for a plain one), and the gradient of the tempered
        negative log-density per example, by name.
    """
    if not isinstance(target, Target):

        def density(w: Params) -> tuple[Tensor, Tensor]:
            value = target.log_density(w)
            return value, value

        return _in_chunks(params, chunk_of(params), lambda w: _gradient(density, w, target, batch.total))

    xs = target.warp(batch.x, target.copies.train, rng)
    size = chunk_of(params, xs.shape[0] * xs.shape[1])
    if batch.steps * math.ceil(members_of(params) / size) >= _LONG:
        replayed = _replayed(target, params, xs.detach(), batch, size)
        if replayed is not None:
            return replayed

    def densities(w: Params) -> tuple[Tensor, Tensor]:
        return target.densities(w, xs, batch.y, batch.total)

    return _in_chunks(params, size, lambda w: _gradient(densities, w, owner_of(target), batch.total))


def _gradient(
    densities: Callable[[Params], tuple[Tensor, Tensor]], params: Params, owner: object, total: int
) -> tuple[Tensor, ...]:
    leaves = {k: w.detach().requires_grad_() for k, w in params.items()}
    with torch.enable_grad():
        fit, density = over_members(densities, leaves, owner)
        # A parameter that a network does not use has its prior's gradient; one that a plain density ignores has none.
        found = torch.autograd.grad(
            -density.sum() / total, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
    return -fit.detach(), *found


def _in_chunks(params: Params, size: int, function: Callable[[Params], tuple[Tensor, ...]]) -> tuple[Tensor, Params]:
    starts = range(0, members_of(params), size)
    parts = [function({k: w[i : i + size] for k, w in params.items()}) for i in starts]
    losses, *grads = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    return losses, dict(zip(params, grads, strict=True))


def _replayed(target: Target, params: Params, xs: Tensor, batch: Batch, size: int) -> tuple[Tensor, Params] | None:
    # The same from recordings of the likelihood's gradient, to which the prior's is added.
    if members_of(params) > 1 and looped(target.forward.module):
        size = 1
    starts = range(0, members_of(params), size)
    chunks = [{k: w[i : i + size] for k, w in params.items()} for i in starts]
    functions = {
        n: _recording(target, {k: w[:n] for k, w in params.items()}, xs, batch.y)
        for n in {members_of(chunks[0]), members_of(chunks[-1])}
    }
    if size > 1 and looped(target.forward.module):  # which recording has just found out
        return _replayed(target, params, xs, batch, 1)
    data = (xs, batch.y, *_learnable(target))
    losses = []
    grads = {k: torch.empty_like(w) for k, w in params.items()}
    scale = 1 / (target.temperature * batch.total)
    slopes = _prior_slopes(target, params)
    for start, chunk in zip(starts, chunks, strict=True):
        function = functions[members_of(chunk)]
        if function is None:
            return None
        loss, *found = function(*data, *chunk.values())
        losses.append(loss)
        for (k, w), g in zip(chunk.items(), found, strict=True):
            slope, out = slopes[k], grads[k][start : start + size]
            # The prior's gradient, while the likelihood's is still near the processor.
            if isinstance(slope, Tensor):
                torch.add(g, slope[start : start + size], alpha=scale, out=out)
            else:
                torch.add(g, w, alpha=slope * scale, out=out)
    return torch.cat(losses), grads


def _recording(target: Target, params: Params, xs: Tensor, y: Tensor) -> Function | None:
    likelihood = target.likelihood
    fixed = tuple(
        getattr(likelihood, f.name)
        for f in dataclasses.fields(likelihood)  # type: ignore[arg-type]
        if f.name not in likelihood.learnable
    )
    if not all(v is None or isinstance(v, int | float | str) for v in fixed):
        return None  # a function of the user's own may change
    inputs = (xs, y, *_learnable(target), *params.values())
    shapes = tuple((x.shape, x.dtype, x.device) for x in inputs)
    numbers = (target.temperature, target.likelihood_temperature)
    key = (type(likelihood), fixed, numbers, tuple(params), shapes)
    known = _RECORDINGS.setdefault(target.forward.module, {})
    if key in known:
        return known[key]
    forward, likelihood_temperature, temperature = target.forward, target.likelihood_temperature, target.temperature
    names, learnable = tuple(params), likelihood.learnable

    def function(xs: Tensor, y: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(learnable, rest, strict=False))
        likely = dataclasses.replace(likelihood, **values) if values else likelihood  # type: ignore[type-var]

        def densities(w: Params) -> tuple[Tensor, Tensor]:
            fit = likely.log_prob(forward.average(w, xs), y).mean()
            return fit, fit / (likelihood_temperature * temperature)

        return _gradient(densities, dict(zip(names, rest[len(learnable) :], strict=True)), forward.module, 1)

    known[key] = None
    function(*inputs)
    if members_of(params) > 1 and looped(forward.module):
        return None  # the loop would make too long a recording
    rng = torch.Generator().manual_seed(0)
    moved = [w + 0.1 * (1 + w.abs()) * torch.randn(w.shape, generator=rng).to(w) for w in params.values()]
    known[key] = record(function, inputs, (*inputs[: -len(moved)], *moved))
    return known[key]


def _learnable(target: Target) -> list[Tensor]:
    return [getattr(target.likelihood, k).detach() for k in target.likelihood.learnable]


def _prior_slopes(target: Target, params: Params) -> dict[str, float | Tensor]:
    # The gradient of minus the log-prior: a factor of the weights where the prior is Gaussian, else stacked tensors.
    prior, like = target.prior, {k: w[0] for k, w in params.items()}
    if prior not in _DECAYS:
        _DECAYS[prior] = decays(prior, like)
    if _DECAYS[prior]:
        with torch.no_grad():
            precision = prior.precision(like)
        if all(p.numel() == 1 for p in precision.values()):
            return {k: float(p) for k, p in precision.items()}

    def log_prob(w: Params) -> tuple[Tensor, Tensor]:
        value = prior.log_prob(w)
        return value, value

    _, *found = _gradient(log_prob, params, prior, 1)
    return dict(zip(params, found, strict=True))
