"""Gradients of functions of weights and of noise, for many members at once.

What `members.loss_and_gradient` does for a target's density, for objectives that also depend on tensors no gradient is
wanted of: the noise of variational methods, the masks of dropout. Noise is drawn outside, from the run's generator, so
that a step repeats exactly with vmap and without.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.inference.members import chunk_of, over_members


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
