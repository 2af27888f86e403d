"""Many networks of a target at once: outputs; losses on a batch and their gradients, recorded in a long run."""

from __future__ import annotations

# torch._foreach_* fuse a loop over tensors; they are not exported.
# pyright: reportPrivateImportUsage=false
import dataclasses
import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from novacula.core.many import Notes, chunk_of, in_chunks, members_of, over_members, part_of
from novacula.core.modules.precision import Precision, computing
from novacula.core.params import Params
from novacula.core.recording.record import Function, record
from novacula.target import Density, Target
from novacula.target.batch import Batch

_LONG = {False: 2_000, True: 500}
"""Steps, times chunks of members, from which on a run is worth a recording (which takes about half a second), of one
member and of several, of which vmap costs more."""


def outputs(target: Target, params: Params, x: Tensor) -> Tensor:
    """Evaluate M networks ``(M, *shape)`` on the same inputs, by chunks: x ``(N, …)`` to ``(M, N, C)``, no graph."""

    def of_chunk(start: int, stop: int) -> Tensor:
        return over_members(lambda w: target.forward(w, x), part_of(params, start, stop), target.notes)

    with torch.no_grad():
        return _joined(in_chunks(of_chunk, members_of(params), chunk_of(params, len(x)), target.notes, len(x)))


def prior_outputs(target: Target, x: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Draw networks from the prior and evaluate them, a chunk at a time, so that no weights are kept.

    Args:
        target: The target; its invariance is not applied.
        x: Inputs, ``(N, …)``.
        n: How many networks.
        rng: Random stream of the weights.

    Returns:
        Outputs ``(n, N, C)``, without a graph.

    Example:
        >>> target = Target(torch.nn.Linear(3, 2))
        >>> prior_outputs(target, torch.zeros(5, 3), 4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 5, 2])
    """
    like = target.params()
    size = chunk_of({k: w.expand(n, *w.shape) for k, w in like.items()}, len(x))
    starts = range(0, n, size)
    return _joined([outputs(target, target.prior.sample(like, min(size, n - i), rng), x) for i in starts])


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def loss_and_gradient(
    target: Density, params: Params, batch: Batch, rng: torch.Generator, precision: Precision = "full"
) -> tuple[Tensor, Params]:
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

        _hold(params, target.notes, density, batch.total)
        return _in_chunks(params, chunk_of(params), target.notes, 1, density, batch.total)

    xs = target.warp(batch.x, target.copies.train, rng)
    rows = xs.shape[0] * xs.shape[1]

    def misfit(w: Params) -> tuple[Tensor, Tensor]:
        with computing(precision, xs):
            f = target.forward.average(w, xs)
        fit = target.likelihood.log_prob(f, batch.y).mean()
        return fit, fit

    if precision != "full":
        # One by one, as autocast does not reach what vmap batches; what a recording saves is nothing to wide networks.
        losses, fits = _in_chunks(params, 1, target.notes, rows, misfit, 1)
        return losses, with_prior(target, params, fits, batch)
    _hold(params, target.notes, misfit, 1)
    size = chunk_of(params, rows)
    members = members_of(params)
    long = batch.steps * batch.alike * math.ceil(members / size) >= _LONG[members > 1]
    if long or target.notes.recordings:  # one that was made for a run that went before is as good
        replayed = _replayed(target, params, xs.detach(), batch, size, new=long)
        if replayed is not None:
            return replayed
    losses, fits = _in_chunks(params, size, target.notes, rows, misfit, 1)
    return losses, with_prior(target, params, fits, batch)


def with_prior(target: Target, params: Params, fits: Params, batch: Batch) -> Params:
    """The gradient of the tempered negative log-density per example, from that of the mean misfit."""
    slopes, scale = prior_slopes(target, params), batch.prior / (target.temperature * batch.total)
    tempered = torch._foreach_mul([*fits.values()], 1 / (target.likelihood_temperature * target.temperature))
    grads: Params = {}
    for (k, w), g in zip(params.items(), tempered, strict=True):
        slope = slopes[k]
        if isinstance(slope, Tensor):
            grads[k] = torch.add(g, slope, alpha=scale)
        else:
            grads[k] = torch.add(g, w.detach(), alpha=slope * scale)
    return grads


def _gradient(
    densities: Callable[[Params], tuple[Tensor, Tensor]], params: Params, notes: Notes, total: int
) -> tuple[Tensor, ...]:
    leaves = {k: w.detach().requires_grad_() for k, w in params.items()}
    with torch.enable_grad():
        fit, density = over_members(densities, leaves, notes)
        # A parameter that a network does not use has its prior's gradient; one that a plain density ignores has none.
        found = torch.autograd.grad(
            -density.sum() / total, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
    return -fit.detach(), *found


def _hold(params: Params, notes: Notes, densities: Callable[[Params], tuple[Tensor, Tensor]], total: int) -> None:
    notes.hold(lambda i, j: _gradient(densities, part_of(params, i, j), notes, total), members_of(params))


def _in_chunks(
    params: Params,
    size: int,
    notes: Notes,
    rows: int,
    densities: Callable[[Params], tuple[Tensor, Tensor]],
    total: int,
) -> tuple[Tensor, Params]:
    def of_chunk(start: int, stop: int) -> tuple[Tensor, ...]:
        return _gradient(densities, part_of(params, start, stop), notes, total)

    parts = in_chunks(of_chunk, members_of(params), size, notes, rows)
    losses, *grads = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    return losses, dict(zip(params, grads, strict=True))


def _replayed(
    target: Target, params: Params, xs: Tensor, batch: Batch, size: int, *, new: bool
) -> tuple[Tensor, Params] | None:
    # The same from recordings of the likelihood's gradient, to which the prior's is added; None where there is none.
    data = (xs, batch.y, *_learnable(target))
    scale = batch.prior / (target.temperature * batch.total)

    @cache  # as soon as there is a recording
    def room() -> tuple[dict[str, float | Tensor], Params]:
        return prior_slopes(target, params), {k: torch.empty_like(w) for k, w in params.items()}

    def of_chunk(start: int, stop: int) -> Tensor | None:
        chunk = part_of(params, start, stop)
        function = _recording(target, chunk, xs, batch.y, new=new)
        if function is None:
            return None
        loss, *found = function(*data, *chunk.values())
        slopes, grads = room()
        for (k, w), g in zip(chunk.items(), found, strict=True):
            slope, out = slopes[k], grads[k][start:stop]
            # The prior's gradient, while the likelihood's is still near the processor.
            if isinstance(slope, Tensor):
                torch.add(g, slope[start:stop], alpha=scale, out=out)
            else:
                torch.add(g, w, alpha=slope * scale, out=out)
        return loss

    size, rows = 1 if target.notes.looped else size, xs.shape[0] * xs.shape[1]
    losses = in_chunks(of_chunk, members_of(params), size, target.notes, rows)
    known = [loss for loss in losses if loss is not None]
    return (_joined(known), room()[1]) if len(known) == len(losses) else None


def _recording(target: Target, params: Params, xs: Tensor, y: Tensor, *, new: bool) -> Function | None:
    likelihood = target.likelihood
    fixed = tuple(
        getattr(likelihood, f.name)
        for f in dataclasses.fields(likelihood)  # type: ignore[arg-type]
        if f.name not in likelihood.learnable
    )
    if not all(v is None or isinstance(v, int | float | str) for v in fixed) or target.forward.learnable():
        return None  # a function of the user's own may change, and a network's hyperparameters will
    inputs = (xs, y, *_learnable(target), *params.values())
    shapes = tuple((x.shape, x.dtype, x.device) for x in inputs)
    numbers = (target.temperature, target.likelihood_temperature)
    key = (type(likelihood), fixed, numbers, tuple(params), shapes)
    known = target.notes.recordings
    if key in known or not new:
        return known.get(key)
    forward, likelihood_temperature, temperature = target.forward, target.likelihood_temperature, target.temperature
    names, learnable = tuple(params), likelihood.learnable

    def function(xs: Tensor, y: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(learnable, rest, strict=False))
        likely = dataclasses.replace(likelihood, **values) if values else likelihood  # type: ignore[type-var]

        def densities(w: Params) -> tuple[Tensor, Tensor]:
            fit = likely.log_prob(forward.average(w, xs), y).mean()
            return fit, fit / (likelihood_temperature * temperature)

        return _gradient(densities, dict(zip(names, rest[len(learnable) :], strict=True)), forward.notes, 1)

    function(*inputs)
    several = members_of(params) > 1
    if several and forward.notes.looped:
        return known.setdefault(key, None)  # the loop would make too long a recording
    rng = torch.Generator().manual_seed(0)
    moved = [w + 0.1 * (1 + w.abs()) * torch.randn(w.shape, generator=rng).to(w) for w in params.values()]
    known[key] = record(function, inputs, (*inputs[: -len(moved)], *moved), fewer=several)
    return known[key]


def _learnable(target: Target) -> list[Tensor]:
    return [getattr(target.likelihood, k).detach() for k in target.likelihood.learnable]


def prior_slopes(target: Target, params: Params) -> dict[str, float | Tensor]:
    """The gradient of minus the log-prior: a factor of the weights where that is all it is, else stacked tensors."""
    # What autograd makes of it is a dozen small operations a tensor, as long as a small network itself.
    prior, like = target.prior, {k: w[0] for k, w in params.items()}
    if prior.gaussian:
        with torch.no_grad():
            precision, centre = prior.precision(like), prior.centre(like)
        if centre is not None:
            return {k: p * (params[k].detach() - centre[k]) for k, p in precision.items()}
        if all(p.numel() == 1 for p in precision.values()):
            return {k: float(p) for k, p in precision.items()}

    def log_prob(w: Params) -> tuple[Tensor, Tensor]:
        value = prior.log_prob(w)
        return value, value

    _, *found = _gradient(log_prob, params, target.notes, 1)
    return dict(zip(params, found, strict=True))
