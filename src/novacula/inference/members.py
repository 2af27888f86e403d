"""A function of weights, for many members at once.

`torch.func.vmap` in chunks of members, small enough that what they compute stays near the processor. Where vmap does
not cover a network (an LSTM, say), the members are taken one after another; which of the two is found out once a
network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.func import vmap

from novacula.core.params import Params, count, unstack
from novacula.inference.method import Batch
from novacula.target import Density, Target

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
    members = next(iter(params.values())).shape[0]
    each = count(params) // members
    # As a layer's inputs and outputs are about as many as the root of its weights, so are activations for each row.
    return max(1, min(members, int(_FLOATS / (each + 4 * rows * each**0.5))))


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


def owner_of(target: Density) -> object:
    """What decides whether vmap works for a target.

    Args:
        target: The target.

    Returns:
        The network or function.
    """
    return target.forward.module if isinstance(target, Target) else target


def loss_and_gradient(target: Density, params: Params, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Params]:
    """Every member's misfit of a batch, and the gradient of its negative log-density.

    Args:
        target: The target.
        params: Stacked weights, shape ``(M, *shape)``.
        batch: A minibatch that stands for all data.
        rng: Randomness of the transformations, which the members share.

    Returns:
        The mean negative log-likelihood of the batch, in nats per example, shape ``(M,)`` (without the prior, whose
        constant would hide it; the negative log-density itself for a plain one), and the gradient of the tempered
        negative log-density per example, by name.
    """
    if isinstance(target, Target):
        xs = target.warp(batch.x, target.copies.train, rng)

        def densities(w: Params) -> tuple[Tensor, Tensor]:
            return target.densities(w, xs, batch.y, batch.total)

        size = chunk_of(params, xs.shape[0] * xs.shape[1])
    else:

        def densities(w: Params) -> tuple[Tensor, Tensor]:
            value = target.log_density(w)
            return value, value

        size = chunk_of(params)
    losses: list[Tensor] = []
    grads: list[tuple[Tensor, ...]] = []
    for start in range(0, next(iter(params.values())).shape[0], size):
        leaves = {k: w[start : start + size].detach().requires_grad_() for k, w in params.items()}
        with torch.enable_grad():
            fit, density = over_members(densities, leaves, owner_of(target))
        # A parameter that a network does not use has its prior's gradient; one that a plain density ignores has none.
        found = torch.autograd.grad(
            -density.sum() / batch.total, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        losses.append(-fit.detach())
        grads.append(found)
    if len(losses) == 1:
        return losses[0], dict(zip(params, grads[0], strict=True))
    return torch.cat(losses), {k: torch.cat(parts) for k, parts in zip(params, zip(*grads, strict=True), strict=True)}


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
