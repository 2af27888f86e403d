"""Monte-Carlo kernels: the covariance of a network's outputs under its prior, for any module.

    K̂[(n, c), (m, d)] = 1/S Σ_s f_c(w_s, x_n) f_d(w_s, x_m),   w_s ~ p(w),

the uncentred second moment, which is the covariance where outputs have the mean 0, as under a zero-mean prior of the
last layer. It is unbiased for the network as wide as it is; only of an infinitely wide one is it the whole story.

References:
    Bayesian deep convolutional networks with many channels are Gaussian processes. R. Novak et al., 2019.
    arXiv:1810.05148.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import NonFiniteError
from novacula.core.forward import Forward
from novacula.core.many import chunk_of, in_chunks, over_members, part_of
from novacula.core.rng import generator
from novacula.priors.base import Prior


def monte_carlo(network: nn.Module | Forward, prior: Prior, x: Tensor, *, draws: int = 1_000, seed: int) -> Tensor:
    """Average products of outputs over networks drawn from a prior.

    Args:
        network: Any module from ``(N, …)`` to ``(N, C)``, in eval mode; it is not changed.
        prior: Of its weights.
        x: Inputs ``(N, …)``.
        draws: S, how many networks are drawn. The relative error of an entry is about ``√(2/S)``.
        seed: Of the draws.

    Returns:
        Shape ``(N, C, N, C)``, in float64, of a rank of at most S.

    Raises:
        NonFiniteError: If a drawn network's outputs are not finite.

    Example:
        >>> from novacula.priors import Gaussian
        >>> monte_carlo(nn.Linear(3, 2), Gaussian(), torch.ones(4, 3), draws=10, seed=0).shape
        torch.Size([4, 2, 4, 2])
    """
    check_whole("draws", draws)
    forward = network if isinstance(network, Forward) else Forward(network)
    like, rng = forward.params(), generator(seed, "kernel")
    prior = prior.bind(like)
    size = chunk_of({k: w.expand(draws, *w.shape) for k, w in like.items()}, len(x))
    total = None
    with torch.no_grad():
        for first in range(0, draws, size):
            members = min(size, draws - first)
            weights = prior.sample(like, members, rng)

            def of_chunk(start: int, stop: int, weights: dict[str, Tensor] = weights) -> Tensor:
                return over_members(lambda w: forward(w, x), part_of(weights, start, stop), forward.notes)

            f = torch.cat(in_chunks(of_chunk, members, members, forward.notes, len(x))).double()
            if not torch.isfinite(f).all():
                raise NonFiniteError("finite outputs", "NaN or infinite ones", "draw from a narrower prior")
            flat = f.flatten(1)
            total = flat.T @ flat if total is None else total + flat.T @ flat
    assert total is not None
    c = total.shape[0] // len(x)
    return (total / draws).reshape(len(x), c, len(x), c)
