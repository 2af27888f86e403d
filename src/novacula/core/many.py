"""A function of weights, for many networks at once: chunks, vmap or a loop, gradients.

`torch.func.vmap` in chunks of members, small enough that what they compute stays near the processor. Where vmap does
not cover a network (an LSTM, say), the members are taken one after another; which of the two is found out once a
network. `noisy_gradient` is for objectives that also depend on tensors no gradient is wanted of: the noise of
variational methods, the masks of dropout. Noise is drawn outside, from the run's generator, so that a step repeats
exactly with vmap and without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.func import vmap

from novacula.core.params import Params, count, unstack

_FLOATS = 2**20
"""Weights and activations that one chunk of members may have, about."""

# Networks and functions that vmap has failed on.
_UNSUPPORTED: WeakSet[Any] = WeakSet()


def chunk_of(params: Params, rows: int = 1) -> int:
    """How many members to take at once."""
    members = members_of(params)
    each = count(params) // members
    # As a layer's inputs and outputs are about as many as the root of its weights, so are activations for each row.
    most = max(1, min(members, int(_FLOATS / (each + 4 * rows * each**0.5))))
    # Of that many chunks, the least uneven ones.
    return math.ceil(members / math.ceil(members / most))


def over_members(function: Callable[[Params], Any], params: Params, owner: object) -> Any:
    """``function`` of each member, by vmap or one after another; params ``(M, *shape)``."""
    if next(iter(params.values())).shape[0] > 1 and owner not in _UNSUPPORTED:
        try:
            return vmap(function, randomness="different")(params)
        except (RuntimeError, NotImplementedError, ValueError):
            found = [function(w) for w in unstack(params)]  # where the function itself is at fault, it fails here too
            _UNSUPPORTED.add(owner)
    else:
        found = [function(w) for w in unstack(params)]
    if isinstance(found[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True))
    return torch.stack(found)


def looped(owner: object) -> bool:
    """Whether members must be taken one after another, as far as is known."""
    return owner in _UNSUPPORTED


def members_of(params: Params) -> int:
    """M, of stacked weights ``(M, *shape)``."""
    return next(iter(params.values())).shape[0]


def per_member(numbers: Tensor, like: Tensor) -> Tensor:
    """A number for each member, in a shape that meets its weights, ``(M, 1, …)``."""
    return numbers.reshape(-1, *[1] * (like.ndim - 1))


def normal_like(params: Params, rng: torch.Generator) -> Params:
    """Standard normal noise in the shape of weights."""
    return {
        k: torch.randn(w.shape, generator=rng, device=rng.device, dtype=w.dtype).to(w.device) for k, w in params.items()
    }


def noisy_gradient(
    function: Callable[[Params], tuple[Tensor, ...]], leaves: Params, noise: Params, *, owner: object, rows: int
) -> tuple[tuple[Tensor, ...], Params]:
    """Evaluate a function of each member, and differentiate its last value, ``(M,)``."""
    size = chunk_of(leaves, rows)
    values: list[tuple[Tensor, ...]] = []
    grads: list[tuple[Tensor, ...]] = []
    for start in range(0, next(iter(leaves.values())).shape[0], size):
        mine = {k: w[start : start + size].detach().requires_grad_() for k, w in leaves.items()}
        fixed = {k: w[start : start + size] for k, w in noise.items()}
        with torch.enable_grad():
            found = over_members(function, {**mine, **fixed}, owner)
        grads.append(
            torch.autograd.grad(found[-1].sum(), list(mine.values()), allow_unused=True, materialize_grads=True)
        )
        values.append(tuple(v.detach() for v in found))
    gathered = tuple(torch.cat(parts) for parts in zip(*values, strict=True))
    return gathered, {k: torch.cat(parts) for k, parts in zip(leaves, zip(*grads, strict=True), strict=True)}
