"""Have the chains converged, and how many independent draws are they worth?

Every function takes draws of shape ``(M chains, K draws, …)`` and gives a float64 tensor of the trailing shape. Chains
are split in halves first (the middle draw is left out where K is odd), so that a trend within a chain counts as a
difference between chains. `rhat` and the bulk and tail `ess` are computed from ranks or quantiles: they exist for
distributions without moments and do not change under monotone maps.

What cannot be said is NaN: a quantity that never varies, or one with a draw that is not finite. Chains that stand still
at different values have an infinite `rhat`.

References:
    Rank-normalization, folding, and localization: an improved R̂ for assessing convergence of MCMC. A. Vehtari,
    A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, 2021. arXiv:1903.08008.
    Practical Markov chain Monte Carlo. C. J. Geyer, 1992 (the initial monotone sequence).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import InputError

_AT_ONCE = 1 << 19  # draws in a chunk of columns: a few megabytes, so that sorting and FFT stay in the cache


def rhat(draws: Tensor) -> Tensor:
    """The rank-normalised split R̂: the larger of that of the draws and that of their distance to the median.

    ``R̂ = √(((K − 1)/K · W + B/K) / W)`` of the draws' normal scores, with W the mean variance within chains and B/K
    the variance of their means. The folded one sees chains that differ in spread alone. Below 1.01 is what one wants.

    Args:
        draws: Shape ``(M, K, …)`` with ``K ≥ 4``; one chain will do, as it is split.

    Returns:
        R̂, shape ``(…)``; NaN where all draws are equal or some are not finite.

    Raises:
        InputError: If ``draws`` has fewer than two axes or fewer than four draws.

    Example:
        >>> import torch
        >>> x = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
        >>> bool(rhat(x) < 1.02), bool(rhat(x + torch.arange(4.0)[:, None]) > 1.2)
        (True, True)
    """

    def both(x: Tensor) -> Tensor:
        x = _halves(x)
        folded = (x - _quantile(x.flatten(1), 0.5)[:, None, None]).abs()
        return torch.maximum(_plain_rhat(_normal_scores(x)), _plain_rhat(_normal_scores(folded)))

    return _by_column(draws, both)


def ess(draws: Tensor, kind: Literal["bulk", "tail", "mean", "sd"] = "bulk") -> Tensor:
    """The effective sample size: how many independent draws would estimate as precisely.

    ``S / τ`` with S the number of draws and ``τ = −1 + 2 Σ P_t`` summed over pairs of autocorrelations, cut at the
    first negative pair and made monotone. Differences between chains count as correlation, so chains that disagree have
    a small size. It can exceed S (at most ``S log₁₀ S``) where draws are negatively correlated.

    Args:
        draws: Shape ``(M, K, …)`` with ``K ≥ 4``.
        kind: ``"bulk"``: of the normal scores of the ranks; ``"tail"``: the smaller of those of the events "at most the
            5 % quantile" and "at most the 95 % quantile" (an event that always happens is left out); ``"mean"``: of the
            draws themselves; ``"sd"``: of their squared distance to the mean.

    Returns:
        Sizes, shape ``(…)``; NaN where all draws are equal or some are not finite.

    Raises:
        InputError: If ``draws`` has fewer than two axes or fewer than four draws, or the kind is unknown.

    Example:
        >>> import torch
        >>> x = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
        >>> bool(1500 < ess(x) < 2600), bool(ess(x.repeat_interleave(10, 1)) < 2600)
        (True, True)
    """
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "bulk": lambda x: _plain_ess(_normal_scores(_halves(x))),
        "tail": _tail_ess,
        "mean": lambda x: _plain_ess(_halves(x)),
        "sd": _sd_ess,
    }
    if kind not in kinds:
        raise InputError(f"a kind among {', '.join(kinds)}", repr(kind), 'use "bulk" if in doubt')
    return _by_column(draws, kinds[kind])


def mcse(draws: Tensor, kind: Literal["mean", "sd"] = "mean") -> Tensor:
    """The Monte-Carlo standard error of the mean or of the standard deviation of all draws.

    That of the mean is ``sd / √ess``. That of the standard deviation follows by the delta method from that of the
    variance: ``√((m₄ − m₂²) / ess_sd) / (2 √m₂)``, with central moments m.

    Args:
        draws: Shape ``(M, K, …)`` with ``K ≥ 4``.
        kind: ``"mean"`` or ``"sd"``.

    Returns:
        Standard errors in the draws' units, shape ``(…)``; NaN where all draws are equal or some are not finite.

    Raises:
        InputError: If ``draws`` has fewer than two axes or fewer than four draws, or the kind is unknown.
    """

    def of_mean(x: Tensor) -> Tensor:
        return x.flatten(1).std(1) / _plain_ess(_halves(x)).sqrt()

    def of_sd(x: Tensor) -> Tensor:
        square = (x - x.mean((1, 2), keepdim=True)).square().flatten(1)
        m2, m4 = square.mean(1), square.square().mean(1)
        return ((m4 - m2.square()) / _sd_ess(x)).sqrt() / (2 * m2.sqrt())

    kinds = {"mean": of_mean, "sd": of_sd}
    if kind not in kinds:
        raise InputError(f"a kind among {', '.join(kinds)}", repr(kind), "ask for the error of the mean or of the sd")
    return _by_column(draws, kinds[kind])


def _by_column(draws: Tensor, statistic: Callable[[Tensor], Tensor]) -> Tensor:
    # Apply a statistic of (columns, chains, draws) -> (columns,) in chunks, and blank what cannot be said.
    if draws.ndim < 2 or draws.shape[0] < 1 or draws.shape[1] < 4:
        raise InputError(
            "draws of shape (chains, draws, …) with at least 4 draws",
            f"shape {tuple(draws.shape)}",
            "take more steps, keep more of them, or add the leading axis of chains with draws[None]",
        )
    m, k = draws.shape[:2]
    flat = draws.detach().reshape(m, k, -1)
    out = torch.empty(flat.shape[2], dtype=torch.float64, device=draws.device)
    width = max(1, _AT_ONCE // (m * k))
    for at in range(0, flat.shape[2], width):
        x = flat[:, :, at : at + width].permute(2, 0, 1).to(torch.float64, memory_format=torch.contiguous_format)
        usable = torch.isfinite(x).all(2).all(1) & (x != x[:, :1, :1]).flatten(1).any(1)
        out[at : at + width] = statistic(x).where(usable, math.nan)
    return out.reshape(draws.shape[2:])


def _halves(x: Tensor) -> Tensor:
    half = x.shape[2] // 2
    return torch.cat([x[:, :, :half], x[:, :, -half:]], 1)


def _sorted(flat: Tensor) -> tuple[Tensor, Tensor]:
    # On a CPU numpy's vectorised sort is four times as fast as torch's.
    if flat.device.type != "cpu":
        ordered, order = flat.sort(1)
        return ordered, order
    order = torch.from_numpy(np.argsort(flat.numpy(), 1))
    return flat.gather(1, order), order


def _normal_scores(x: Tensor) -> Tensor:
    # Φ⁻¹((rank − 3/8) / (S + 1/4)) among all chains' draws; equal draws share the mean of their ranks.
    flat = x.flatten(1)
    s = flat.shape[1]
    ordered, order = _sorted(flat)
    # Mean ranks are whole or half numbers, so 2S − 1 scores are all there can be.
    table = torch.special.ndtri((torch.arange(2, 2 * s + 1, dtype=x.dtype, device=x.device) / 2 - 0.375) / (s + 0.25))
    new = ordered[:, 1:] != ordered[:, :-1]
    if bool(new.all()):
        scores = table[::2].expand_as(flat)
    else:
        position = torch.arange(s, device=x.device).expand_as(flat)
        edge = torch.ones_like(new[:, :1])
        first = position.where(torch.cat([edge, new], 1), 0).cummax(1).values
        last = position.where(torch.cat([new, edge], 1), s).flip(1).cummin(1).values.flip(1)
        scores = table[first + last]
    return torch.empty_like(flat).scatter_(1, order, scores).reshape(x.shape)


def _quantile(flat: Tensor, q: float) -> Tensor:
    # Linear between order statistics. torch.quantile sorts, and refuses more than 2^24 values.
    at = q * (flat.shape[1] - 1)
    below = math.floor(at)
    low, high = (flat.kthvalue(min(k, flat.shape[1]), 1).values for k in (below + 1, below + 2))
    return torch.lerp(low, high, at - below)


def _plain_rhat(x: Tensor) -> Tensor:
    k = x.shape[2]
    within, between = x.var(2).mean(1), x.mean(2).var(1)
    return (((k - 1) / k * within + between) / within).sqrt()


def _tail_ess(x: Tensor) -> Tensor:
    flat = x.flatten(1)
    sizes = [
        _plain_ess(_halves((x <= _quantile(flat, q)[:, None, None]).to(x.dtype))).nan_to_num(math.inf)
        for q in (0.05, 0.95)
    ]
    least = torch.minimum(sizes[0], sizes[1])
    return least.where(torch.isfinite(least), math.nan)


def _sd_ess(x: Tensor) -> Tensor:
    return _plain_ess(_halves((x - x.mean((1, 2), keepdim=True)).square()))


def _plain_ess(x: Tensor) -> Tensor:
    m, n = x.shape[1], x.shape[2]
    length = 1 << (2 * n - 1).bit_length()  # zeros behind the chain keep the circular correlation from wrapping
    spectrum = torch.fft.rfft(x - x.mean(2, keepdim=True), n=length)
    power = (spectrum.real.square() + spectrum.imag.square()).mean(1)
    covariance = torch.fft.irfft(power, n=length)[:, :n] / n
    within = covariance[:, :1] * n / (n - 1)
    total = covariance[:, :1] + (x.mean(2).var(1, keepdim=True) if m > 1 else 0.0)
    rho = 1 - (within - covariance) / total
    rho[:, 0] = 1
    # The longest lags rest on a handful of products: they are left out, as the reference implementations do.
    pairs = rho[:, : 2 * max(1, (n - 3) // 2)].unflatten(1, (-1, 2)).sum(2)
    # Geyer: keep pairs until the first that is negative, none larger than those before it.
    kept = (pairs > 0).to(x.dtype).cumprod(1)
    tau = 2 * (pairs.cummin(1).values * kept).sum(1) - 1
    # The even autocorrelation that follows is still evidence of positive correlation where it is positive.
    index = kept.sum(1).long() * 2
    beyond = rho.gather(1, index.clamp(max=n - 1)[:, None])[:, 0]
    tau = tau + beyond.clamp(min=0).where(index < n, 0.0)
    size = m * n
    # A column of equal values has 0/0 here. It is NaN also where rounding makes it something else.
    constant = (x == x[:, :1, :1]).flatten(1).all(1)
    return (size / tau.clamp(min=1 / math.log10(size))).where(~constant, math.nan)
