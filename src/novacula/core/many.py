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
    """How many members to take at once.

    Args:
        params: Stacked weights.
        rows: Inputs that each member is evaluated on.

    Returns:
        A number of members.
    """
    members = members_of(params)
    each = count(params) // members
    # As a layer's inputs and outputs are about as many as the root of its weights, so are activations for each row.
    most = max(1, min(members, int(_FLOATS / (each + 4 * rows * each**0.5))))
    # Of that many chunks, the least uneven ones.
    return math.ceil(members / math.ceil(members / most))


def over_members(function: Callable[[Params], Any], params: Params, owner: object) -> Any:
    """``function`` of each member, by vmap or one after another.

    Args:
        function: From one member's weights to a tensor, or a tuple of tensors.
        params: Stacked weights, shape ``(M, *shape)``.
        owner: What decides whether vmap works: the network, or a plain function.

    Returns:
        What the function returns, with a leading axis M.

    Raises:
        RuntimeError: What the function raises for a single member.
    """
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
    """Whether members must be taken one after another, as far as is known.

    Args:
        owner: What decides it: the network, or a plain function.

    Returns:
        Whether vmap has failed on it.
    """
    return owner in _UNSUPPORTED


def members_of(params: Params) -> int:
    """M, of stacked weights ``(M, *shape)``."""
    return next(iter(params.values())).shape[0]


def per_member(numbers: Tensor, like: Tensor) -> Tensor:
    """A number for each member, in a shape that meets its weights.

    Args:
        numbers: Shape ``(M,)``.
        like: Stacked weights, shape ``(M, *shape)``.

    Returns:
        Shape ``(M, 1, …)``, with as many axes as ``like``.
    """
    return numbers.reshape(-1, *[1] * (like.ndim - 1))


def normal_like(params: Params, rng: torch.Generator) -> Params:
    """Standard normal noise in the shape of weights.

    Args:
        params: Weights, stacked or not.
        rng: Randomness.

    Returns:
        One tensor for each of ``params``.
    """
    return {
        k: torch.randn(w.shape, generator=rng, device=rng.device, dtype=w.dtype).to(w.device) for k, w in params.items()
    }


def noisy_gradient(
    function: Callable[[Params], tuple[Tensor, ...]], leaves: Params, noise: Params, *, owner: object, rows: int
) -> tuple[tuple[Tensor, ...], Params]:
    """Evaluate a function of each member, and differentiate its last value.

    Args:
        function: From one member's tensors, ``leaves`` and ``noise`` under their names, to scalars.
        leaves: What to differentiate in, shape ``(M, *shape)``.
        noise: What else the function depends on, shape ``(M, …)``; names apart from those of the leaves.
        owner: What decides whether vmap works: the network.
        rows: Inputs that each member is evaluated on.

    Returns:
        The function's values, each of shape ``(M,)`` and without a graph, and the last one's gradient by name.
    """
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
