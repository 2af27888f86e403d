"""What more rows bring: from networks that have seen a part of the rows to the network that has seen all.

A quantity θ of networks (a loss, the logarithm of a loss, noise or threshold) is known at two shares of the
rows, b and a < b. Where ``θ(s) = θ∞ + β s^{−α}``,

    θ(1) = θ(b) − c [θ(a) − θ(b)],        c = (b^{−α} − 1) / (a^{−α} − b^{−α}).

c hangs little on the exponent: for b = 2/3 and a = 1/3 it is .33 for the 1 of regular models, .42 for .6, and .58 in
the limit 0 (a power law without a floor, if θ is a logarithm). The value of .4 is taken, and the range from 0 to 1
counted in the error. What is measured is the drop ``d = θ(a) − θ(b)``, in pairs over the same rows, with an error e. A
drop of which little is known is more likely the smaller: with ``d ~ N(0, τ²)`` and τ² estimated by ``d²``, its
expectation is

    w d,        w = d² / (d² + e²),

next to nothing where d is within its error, and d where it is far beyond. None of these rises with more rows: a
negative drop is chance, and none.

References:
    Learning curve theory. M. Hutter, 2021. arXiv:2102.04074.
    Deep learning scaling is predictable, empirically. J. Hestness and others, 2017. arXiv:1712.00409.
    Stein's estimation rule and its competitors: an empirical Bayes approach. B. Efron, C. Morris, 1973.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from novacula.diagnostics.crossed_mean import nested

_EXPONENT, _RANGE = 0.6, (0.0, 1.0)


class Measured(NamedTuple):
    """A quantity and how each row pulls it."""

    value: float  # θ
    pulls: Tensor  # n times what it owes to each row, less their mean, (n,): the error of θ is that of their mean

    def __sub__(self, other: Measured) -> Measured:
        """A difference in pairs: both of the same rows."""
        return Measured(self.value - other.value, self.pulls - other.pulls)

    def log(self) -> Measured:
        """The logarithm, by the delta method."""
        return Measured(math.log(self.value), self.pulls / self.value)


class Grown(NamedTuple):
    """What is to be expected with all rows."""

    value: float  # θ(1)
    stderr: float  # its standard error: over rows, and what is not known of the exponent
    drop: float  # d, as it was measured


def grown(here: Measured, drop: Measured, shares: tuple[float, float], folds: Tensor) -> Grown:
    """θ for all rows.

    Args:
        here: ``θ(b)``, of n rows.
        drop: ``θ(a) − θ(b)``; its pulls are nought for rows of which ``θ(a)`` is not known.
        shares: a and b.
        folds: The fold of each row, shape ``(n,)``.

    Returns:
        θ, its standard error and the drop.

    Example:
        >>> none, folds = torch.zeros(4), torch.tensor([0, 0, 1, 1])
        >>> found = grown(Measured(1.0, none), Measured(0.5, none), (1 / 3, 2 / 3), folds)
        >>> round(found.value, 2), round(found.stderr, 2)
        (0.79, 0.04)
    """
    c, (most, least) = share(*shares, _EXPONENT), (share(*shares, e) for e in _RANGE)
    d = max(drop.value, 0.0)
    error = nested(drop.pulls, folds).stderr
    w = d**2 / (d**2 + error**2) if d > 0 and math.isfinite(error) else 0.0
    rows = nested(here.pulls - c * drop.pulls, folds).stderr
    exponent = (most - least) / 12**0.5 * w * d  # as if anywhere in the range
    return Grown(here.value - c * w * d, math.hypot(rows, exponent), drop.value)


def share(a: float, b: float, exponent: float) -> float:
    """c, by which the drop from a share a to b goes on to all."""
    if exponent == 0:
        return math.log(1 / b) / math.log(b / a)
    few, most = a**-exponent, b**-exponent
    return (most - 1) / (few - most)


def seen(folds: Tensor) -> float:
    """The share of rows that the networks blind to each fold have seen, on average over the rows that they predict."""
    counts = folds.unique(return_counts=True)[1].double()
    return float(((1 - counts / counts.sum()) * counts).sum() / counts.sum())


def mean(values: Tensor) -> Measured:
    """The mean of rows' values ``(n,)``."""
    values = values.detach().double().cpu()
    return Measured(float(values.mean()), values - values.mean())


def quantile(values: Tensor, found: float, level: float) -> Measured:
    """A quantile of rows' values ``(n,)``, found already: by how far a row pulls it, from the density around it."""
    # The density is the slope between two quantiles, as far apart as makes the slope's errors small.
    values = values.detach().double().cpu()
    width = 0.5 * len(values) ** (-1 / 3)
    around = torch.tensor([max(level - width, 0.0), min(level + width, 1.0)], dtype=values.dtype)
    low, high = values.quantile(around).tolist()
    slope = (high - low) / float(around[1] - around[0])
    below = (values <= found).double()
    return Measured(found, slope * (below.mean() - below))
