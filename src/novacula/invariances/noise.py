"""Randomness of transformations: draws for inputs, spread evenly over the copies of one input, and in opposite pairs.

A network's outputs are averaged over the S transformed copies of an input. Copies drawn independently leave gaps and
clusters; a Latin hypercube cuts the range of every coordinate into S strata of equal probability and puts exactly one
copy into each, in an order of its own for every coordinate and input. Every single draw keeps its distribution, the
average stays unbiased, and its variance falls (for any square-integrable function it is at most S/(S−1) times that of
independent draws, and far less where the function is close to additive).

Symmetric draws come as pairs ``u, −u``. An output moves by ``η u · f' + O(η²)`` under a transformation of extent η; in
a pair the odd part cancels, and with it nearly all noise of the gradient in η where η is small. This decides whether
an extent that the data do not want is seen to vanish, or lost in a random walk.

References:
    A comparison of three methods for selecting values of input variables in the analysis of output from a computer
    code. M. McKay, R. Beckman, W. Conover, 1979. doi:10.1080/00401706.1979.10489755.
    A new Monte Carlo technique: antithetic variates. J. Hammersley, K. Morton, 1956. doi:10.1017/S0305004100031455.
    Monte Carlo variance of scrambled net quadrature. A. Owen, 1997. doi:10.1137/S0036142994277468.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Distribution = Literal["uniform", "gaussian"]
DISTRIBUTIONS: tuple[Distribution, ...] = ("uniform", "gaussian")


def working_dtype(x: Tensor) -> torch.dtype:
    """The precision that transformations of ``x`` are computed in."""
    return torch.promote_types(x.dtype, torch.float32)


def unit(n: int, shape: Sequence[int], x: Tensor, rng: torch.Generator) -> Tensor:
    """Draws uniform in [0, 1).

    Where ``n`` is a multiple S > 1 of the N inputs in ``x``, the draws belong to S copies of each input, copies of one
    input side by side, and form a Latin hypercube over them. Otherwise they are independent.

    Returns:
        Shape ``(n, *shape)``.
    """
    size, rest = x.shape[0], math.prod(shape)
    copies = n // size if size and n % size == 0 else 1

    def rand() -> Tensor:
        return torch.rand(n // max(copies, 1), copies, rest, generator=rng, device=rng.device, dtype=working_dtype(x))

    u = rand()
    if copies > 1:
        u = (rand().argsort(1) + u).div_(copies).clamp_(max=1 - torch.finfo(u.dtype).eps)
    return u.view(n, *shape).to(x.device)


def symmetric(n: int, shape: Sequence[int], x: Tensor, rng: torch.Generator, distribution: Distribution) -> Tensor:
    """Draws symmetric about zero with standard deviation ``1/√3``: x ``(N, …)`` to ``(n, *shape)``."""
    if len(x) and n % (2 * len(x)) == 0:
        # Strata of the magnitude, with signs at random: the pairs then fill one stratum each on both sides.
        size = unit(n // 2, shape, x, rng)
        signs = torch.rand(n // 2, *shape, generator=rng, device=rng.device, dtype=size.dtype).to(x.device).round_()
        half = size.add_(1).div_(2)
        half = torch.where(signs > 0, half, 1 - half).unflatten(0, (len(x), -1))
        u = torch.cat([half, 1 - half], 1).flatten(0, 1)
    else:
        u = unit(n, shape, x, rng)
    if distribution == "uniform":
        return u.mul_(2).sub_(1)
    tiny = torch.finfo(u.dtype).eps / 2
    return torch.special.ndtri(u.clamp_(min=tiny, max=1 - tiny)).div_(math.sqrt(3))
