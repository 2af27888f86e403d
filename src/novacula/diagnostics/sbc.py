"""Simulation-based calibration: whether a sampler's posteriors are right on average over the model's own data.

Draw a parameter from the prior, data from the model, and L draws of the posterior given the data. If the sampler is
exact, the parameter is exchangeable with the draws, so that its rank among them is uniform on 0, …, L.

References:
    Validating Bayesian inference algorithms with simulation-based calibration. S. Talts, M. Betancourt, D. Simpson,
    A. Vehtari, A. Gelman, 2018. arXiv:1804.06788.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import chi2
from torch import Tensor

from novacula.core.errors import InputError

_LEAST = 5.0  # expected ranks in a bin for the chi-squared approximation


@dataclass(frozen=True, eq=False)
class Uniformity:
    """Ranks, and how far from uniform they are; ranks ``(R, Q)``, p_value ``(Q,)``, bias ``(Q,)``, spread ``(Q,)``."""

    ranks: Tensor  # ranks of R runs for Q quantities, shape ``(R, Q)``, from 0 to L
    draws: int  # L
    p_value: Tensor  # probability of a chi-squared statistic as large or larger under uniformity, shape ``(Q,)``
    bias: Tensor  # mean of ``(rank + ½)/(L + 1) − ½`` over its standard error, shape ``(Q,)``
    spread: Tensor  # variance of the ranks over that of a uniform one, shape ``(Q,)``

    @property
    def passed(self) -> bool:
        """Whether no quantity is refuted at a false-alarm rate of 1 % for all of them together (Bonferroni)."""
        return float(self.p_value.min()) > 0.01 / len(self.p_value)

    def __str__(self) -> str:
        worst = int(self.p_value.argmin())
        return (
            f"{len(self.ranks)} runs, {self.ranks.shape[1]} quantities: smallest p {float(self.p_value[worst]):.2g} "
            f"(bias {float(self.bias[worst]):+.1f} s.e., spread {float(self.spread[worst]):.2f})"
        )


def rank(truth: Tensor, draws: Tensor, rng: torch.Generator) -> Tensor:
    """How many draws are below the truth; ties are broken at random.

    Returns:
        Shape ``(Q,)``, int64, from 0 to L.

    Raises:
        InputError: If the shapes do not fit.

    Example:
        >>> rank(torch.tensor([0.5]), torch.tensor([[0.1], [0.7], [0.2]]), torch.Generator())
        tensor([2])
    """
    if draws.ndim != 2 or truth.shape != draws.shape[1:]:
        raise InputError(
            "draws (L, Q) and a truth (Q,)", f"{tuple(draws.shape)} and {tuple(truth.shape)}", "flatten both"
        )
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    u = torch.rand(len(truth), generator=rng, dtype=torch.float64)
    return below + (u * (equal.cpu() + 1)).long().minimum(equal.cpu()).to(below)


def uniformity(ranks: Tensor, draws: int) -> Uniformity:
    """Test ranks for uniformity.

    The chi-squared test has as many bins as leave 5 expected ranks in each (at most 20), of whole ranks; where L + 1 is
    no multiple of the number of bins, each bin expects as many as it has ranks.

    Returns:
        The test.

    Raises:
        InputError: If there are fewer than 20 runs, or ranks outside 0 to L.
    """
    if ranks.ndim != 2 or len(ranks) < 20:
        raise InputError("ranks (R, Q) of 20 or more runs", f"shape {tuple(ranks.shape)}", "simulate more")
    if int(ranks.min()) < 0 or int(ranks.max()) > draws:
        raise InputError(f"ranks from 0 to {draws}", f"{int(ranks.min())} to {int(ranks.max())}", "pass L as draws=")
    r, values = len(ranks), ranks.double()
    bins = max(2, min(20, draws + 1, int(r / _LEAST)))
    edges = torch.arange(1, bins) * (draws + 1) // bins
    where = torch.bucketize(ranks.cpu(), edges, right=True)
    sizes = torch.bincount(torch.bucketize(torch.arange(draws + 1), edges, right=True), minlength=bins).double()
    expected = r * sizes / (draws + 1)
    counts = torch.stack([torch.bincount(column, minlength=bins) for column in where.T]).double()
    statistic = ((counts - expected).square() / expected).sum(1)
    p_value = torch.from_numpy(chi2.sf(statistic.numpy(), bins - 1))
    variance = ((draws + 1) ** 2 - 1) / 12
    mean = (values.mean(0) - draws / 2) / math.sqrt(variance / r)
    return Uniformity(ranks, draws, p_value, mean, values.sub(draws / 2).square().mean(0) / variance)
