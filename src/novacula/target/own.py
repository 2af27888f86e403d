"""Gradients of many networks, each on examples of its own.

Elsewhere members share their minibatches. Where runs are to be draws of what training may find, the order of the data
is part of the draw, so each member has its own batch: its examples travel beside its weights through vmap. A step of
small networks is mostly bookkeeping, so it is recorded (see `novacula.core.recording.record`), once for each shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from novacula.core.many import chunk_of, in_chunks, members_of, over_members, part_of
from novacula.core.params import Params
from novacula.core.recording.record import Function, record
from novacula.target.target import Target

Loss: TypeAlias = Literal["likelihood", "squared"]
"""The negative log-likelihood; or half the squared distance to ±1, of several classes to one-hot rows."""

_X, _Y = "examples/x", "examples/y"  # no parameter's name has a slash


def coded(y: Tensor, loss: Loss, classes: int) -> Tensor:
    """Labels as a loss takes them: y ``(N,)`` of classes or ``(N, C)`` of zeros and ones."""
    if loss == "likelihood":
        return y
    dtype = torch.get_default_dtype()
    return one_hot(y, classes).to(dtype) if y.ndim == 1 else 2 * y.to(dtype) - 1


def own_gradient(target: Target, params: Params, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Params]:
    """Every member's mean loss of its own examples, x ``(M, B, …)`` to ``(M,)``, and its gradient; no prior in it."""
    names = tuple(params)

    def misfit(w: Params) -> Tensor:
        x, y = w.pop(_X), w.pop(_Y)
        f = target.forward(w, x)
        if loss == "squared":
            return 0.5 * (f - y).square().sum(1).mean()
        return -target.likelihood.log_prob(f, y).mean()

    def function(x: Tensor, y: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        leaves = {k: w.detach().requires_grad_() for k, w in zip(names, weights, strict=True)}
        with torch.enable_grad():
            fit = over_members(lambda w: misfit(dict(w)), {**leaves, _X: x, _Y: y}, target.notes)
        grads = torch.autograd.grad(fit.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
        return (fit.detach(), *grads)

    def of_chunk(start: int, stop: int) -> tuple[Tensor, ...]:
        inputs = (x[start:stop], y[start:stop], *part_of(params, start, stop).values())
        return _recorded(target, function, inputs, loss)(*inputs)

    target.notes.hold(of_chunk, members_of(params))
    rows = x.shape[1]
    parts = in_chunks(of_chunk, members_of(params), chunk_of(params, rows), target.notes, rows)
    losses, *grads = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    return losses, dict(zip(names, grads, strict=True))


def _recorded(
    target: Target, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...], loss: Loss
) -> Function:
    known, members = target.notes.recordings, len(inputs[0])
    if members == 1 or target.notes.looped or not target.notes.held:
        return function
    key = ("own", loss, type(target.likelihood), *((v.shape, v.dtype, v.device) for v in inputs))
    if key not in known:
        rng = torch.Generator().manual_seed(0)
        moved = [w + 0.1 * (1 + w.abs()) * torch.randn(w.shape, generator=rng).to(w) for w in inputs[2:]]
        known[key] = record(function, inputs, (*inputs[:2], *moved))
    return known[key] or function
