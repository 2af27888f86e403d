"""Outputs averaged over one fixed set of transformations, the same for every input.

In training every input meets its own random transformations. A prediction must not depend on which other inputs it is
computed with, so here S transformations are drawn once, from a seed, and applied to all. They form a stratified set
(the invariance spreads the copies of one input evenly over its extents). A policy that augments the training data alone
(`Invariance.averages_predictions`) is no part of a prediction: the inputs are taken as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.memory import inputs_at_once, with_halving
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.target import Target
from novacula.target.many import outputs


def fixed_copies(target: Target, x: Tensor, copies: int, seed: int) -> Tensor:
    """Copies of the inputs under S transformations that are the same for all inputs: x ``(N, …)`` to ``(N, S, …)``."""
    if (invariance := target.averaged) is None or len(x) == 0:
        return x.unsqueeze(1)
    with torch.no_grad():
        noise = invariance.noise(copies, x[:1], generator(seed, "copies"))
        repeated = x.repeat_interleave(copies, 0)
        return invariance(repeated, noise.repeat(len(x), *[1] * (noise.ndim - 1))).unflatten(0, (-1, copies))


def fixed_outputs(
    target: Target, params: Params, x: Tensor, *, copies: int, seed: int, chunk: int | None = None, average: bool = True
) -> Tensor:
    """Network outputs over a fixed set of transformations: x ``(N, …)`` to ``(N, S, C)``."""
    single = {k: w.unsqueeze(0) for k, w in params.items()}
    return member_outputs(target, single, x, copies=copies, seed=seed, chunk=chunk, average=average)[0]


def member_outputs(
    target: Target, params: Params, x: Tensor, *, copies: int, seed: int, chunk: int | None = None, average: bool = True
) -> Tensor:
    """Outputs of several networks over the same fixed set of transformations, ``(M, N, S, C)``."""

    def of_inputs(start: int, stop: int) -> Tensor:
        xs = fixed_copies(target, x[start:stop], copies, seed)
        f = outputs(target, params, xs.flatten(0, 1)).unflatten(1, xs.shape[:2])
        return f.mean(2) if average else f

    with torch.no_grad():
        size = default_chunk(target, x, copies) if chunk is None else chunk
        return torch.cat(with_halving(of_inputs, len(x), size, what="inputs"), 1)


def default_chunk(target: Target, x: Tensor, copies: int) -> int:
    """How many inputs like x ``(N, …)`` to take at once."""
    return inputs_at_once(x.shape[1:], 1 if target.averaged is None else copies)
