"""A step of many networks as they train: losses, gradients and the statistics that the pass leaves.

A network whose layers differ in train mode (BatchNorm, dropout; see `novacula.core.modules.training`) is evaluated in
train mode here, and nowhere else. A member holds its weights and its statistics, each stacked ``(M, *shape)``; noise is
drawn from a stream of the step, anew for each member, so that a run that resumes repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from novacula.core.device import moved
from novacula.core.many import chunk_of, in_chunks, members_of, over_members, part_of
from novacula.core.modules.precision import Precision, computing
from novacula.core.modules.training import averaging
from novacula.core.params import Params
from novacula.core.rng import derive, generator, global_draws, split
from novacula.data.data import Data
from novacula.target import Density, Target
from novacula.target.batch import Batch
from novacula.target.many import loss_and_gradient, with_prior

_PASS = 256  # examples of a batch where statistics are averaged over all


def statistics_of(target: Density, data: Data | None, members: int, given: Params) -> Params:
    """The statistics that members start with, ``(M, *shape)``: given ones, or those of the network as it came."""
    if not isinstance(target, Target) or data is None:
        return {}
    own = dict(target.forward.module.named_buffers())
    moving = target.forward.trains(data.x).moving
    return {k: (given[k] if k in given else own[k].expand(members, *own[k].shape)).clone() for k in moving}


def points(params: Params, statistics: Params) -> Params:
    """What members hold, for all that evaluates them: weights, and statistics that are no counts."""
    return {**params, **{k: v for k, v in statistics.items() if v.is_floating_point()}}


def training_gradient(
    target: Density,
    params: Params,
    statistics: Params,
    batch: Batch,
    rng: torch.Generator,
    precision: Precision = "full",
    there: torch.device | None = None,
) -> tuple[Tensor, Params, Params]:
    """Every member's misfit of a batch as it trains, the gradient of its negative log-density, and its statistics.

    A batch of one example has no statistics of its own: it is taken at the running ones. Where a device is named, all
    that is given goes there, and what is found comes back.

    Returns:
        The mean negative log-likelihood, ``(M,)``, the gradient of the tempered negative log-density per example, by
        name, as `loss_and_gradient` has them, and the statistics after the pass.
    """
    if there is not None and isinstance(target, Target) and there != batch.x.device:
        return _gradient_there(there, target, params, statistics, batch, rng, precision)
    training = target.forward.trains(batch.x) if isinstance(target, Target) else None
    if not isinstance(target, Target) or training is None or not training.differs:
        return *loss_and_gradient(target, params, batch, rng, precision), statistics
    xs = target.warp(batch.x, target.copies.train, rng)
    seed = split(rng) if training.noisy else 0
    losses, fits, moved = misfit_gradient(target, params, statistics, xs, batch.y, seed, precision=precision)
    return losses, with_prior(target, params, fits, batch), moved


def _gradient_there(device: torch.device, target: Target, *given: Any) -> tuple[Tensor, Params, Params]:
    # The network is copied once a device; all else is small, and may be another in every step.
    params, statistics, batch, rng, precision = given
    copies, own = target.notes.elsewhere, target.forward
    if device not in copies or copies[device][0] is not own:
        copies[device] = own, moved(own, device)
    prior, likelihood, invariance = moved((target.prior, target.likelihood, target.invariance), device)
    other = replace(target, forward=copies[device][1], prior=prior, likelihood=likelihood, invariance=invariance)
    found = training_gradient(other, *moved((params, statistics, batch), device), rng, precision)
    return moved(found, batch.x.device)


def misfit_gradient(
    target: Target,
    params: Params,
    statistics: Params,
    xs: Tensor,
    y: Tensor,
    seed: int,
    beside: Params | None = None,
    precision: Precision = "full",
) -> tuple[Tensor, Params, Params]:
    """Mean negative log-likelihood ``(M,)`` of xs ``(B, S, …)`` as members train, its gradient, and the statistics."""
    training, rows = target.forward.trains(xs[:, 0]), xs.shape[0] * xs.shape[1]
    moves = rows > 1 or not training.moving

    def outputs(w: Params) -> tuple[Tensor, Params]:
        if not moves:
            return target.forward.average(w, xs), {k: w[k] for k in training.moving}
        f, moved = target.forward.train(w, xs.flatten(0, 1), training.moving)
        return f.unflatten(0, xs.shape[:2]).mean(1), moved

    def of_chunk(start: int, stop: int) -> tuple[Tensor, ...]:
        leaves = {k: w.detach().requires_grad_() for k, w in part_of(params, start, stop).items()}
        held, fixed = _split(part_of(statistics, start, stop))

        def fits(w: Params) -> tuple[Tensor, ...]:
            with computing(precision, xs):
                f, moved = outputs({**w, **fixed})
            return target.likelihood.log_prob(f, y).mean(), *(moved[k] for k in statistics)

        with torch.enable_grad():
            stream = derive(seed, "noise", start) if training.noisy else None
            given = part_of(beside or {}, start, stop)
            fit, *moved = _repeatable(target, fits, {**leaves, **held, **given}, stream)
            found = torch.autograd.grad(-fit.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
        return -fit.detach(), *found, *(v.detach() for v in moved)

    # Autocast does not reach what vmap batches.
    size = _size(params, statistics, rows) if precision == "full" else 1
    parts = in_chunks(of_chunk, members_of(params), size, target.notes, rows)
    losses, *rest = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    grads = dict(zip(params, rest, strict=False))
    return losses, grads, dict(zip(statistics, rest[len(params) :], strict=True))


@torch.no_grad()
def averaged_statistics(target: Target, params: Params, data: Data, *, seed: int) -> Params:
    """Statistics of M networks that are no counts, anew: averages over one pass over the data in train mode."""
    moving = target.forward.trains(data.x).moving
    if not moving:
        return {}
    m, module = members_of(params), target.forward.module
    own = {k: b for k, b in module.named_buffers() if k in moving}
    # Counts begin at nought, so that the first batch takes the place of what was there.
    now = {k: (b if b.is_floating_point() else torch.zeros_like(b)).expand(m, *b.shape).clone() for k, b in own.items()}
    for i, (x, _, _) in enumerate(data.batches(_PASS, seed, 0)):
        xs = target.warp(x, target.copies.train, generator(seed, "warp", i)).flatten(0, 1)
        if len(xs) > 1:
            now = _passed(target, params, now, xs, derive(seed, "noise", i))
    return {k: v for k, v in now.items() if v.is_floating_point()}


def _passed(target: Target, params: Params, now: Params, xs: Tensor, seed: int) -> Params:
    def of_chunk(start: int, stop: int) -> tuple[Tensor, ...]:
        held, fixed = _split(part_of(now, start, stop))

        def moved(w: Params) -> tuple[Tensor, ...]:
            found = target.forward.train({**w, **fixed}, xs, tuple(now))[1]
            return tuple(found[k] for k in now)

        with averaging(target.forward.module):
            return _repeatable(target, moved, {**part_of(params, start, stop), **held}, derive(seed, start))

    parts = in_chunks(of_chunk, members_of(params), _size(params, now, len(xs)), target.notes, len(xs))
    return dict(zip(now, map(torch.cat, zip(*parts, strict=True)), strict=True))


def _split(statistics: Params) -> tuple[Params, Params]:
    # Those that differ between members, and counts, which are one for all.
    fixed = {k: v[0] for k, v in statistics.items() if not v.is_floating_point() and bool((v == v[:1]).all())}
    return {k: v for k, v in statistics.items() if k not in fixed}, fixed


def _size(params: Params, statistics: Params, rows: int) -> int:
    # Layers read counts as numbers, which cannot be done from inside vmap unless they are one for all members.
    alike = all(v.is_floating_point() or bool((v == v[:1]).all()) for v in statistics.values())
    return chunk_of(params, rows) if alike else 1


def _repeatable(
    target: Target, function: Callable[[Params], tuple[Tensor, ...]], points: Params, seed: int | None
) -> tuple[Tensor, ...]:
    # Of each member, with noise that only the seed decides: not what was drawn before it was known that vmap fails.
    if seed is None:  # there is no noise
        return over_members(function, points, target.notes)
    looped, device = target.notes.looped, next(iter(points.values())).device
    with global_draws(device, seed=seed):
        found = over_members(function, points, target.notes)
    if target.notes.looped and not looped:
        with global_draws(device, seed=seed):
            found = over_members(function, points, target.notes)
    return found
