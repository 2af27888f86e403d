"""The few statistics of predictions that scores and report share, and the report's own, in numpy.

References:
    Bias-reduced uncertainty estimation for deep neural classifiers. Y. Geifman, G. Uziel, R. El-Yaniv, 2019.
    arXiv:1805.08206 (risk–coverage curves).
    Rank-normalization, folding, and localization: an improved R̂ for assessing convergence of MCMC. A. Vehtari,
    A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, 2021. arXiv:1903.08008 (rank plots).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Z95 = 1.959963984540054


def wilson(successes: np.ndarray | float, trials: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval for a proportion.

    Returns:
        Lower and upper ends.

    References:
        Probable inference, the law of succession, and statistical inference. E. B. Wilson, 1927.
    """
    k, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    safe = np.maximum(n, 1.0)
    p, z2 = k / safe, Z95**2
    centre = (p + z2 / (2 * safe)) / (1 + z2 / safe)
    half = Z95 * np.sqrt(p * (1 - p) / safe + z2 / (4 * safe**2)) / (1 + z2 / safe)
    # At k = 0 and k = n the ends are exact; rounding would put them beside the proportion itself.
    return np.where(k == 0, 0.0, centre - half), np.where(k == n, 1.0, centre + half)


@dataclass(frozen=True, eq=False)
class Bins:
    """Predicted and observed frequencies in bins of the prediction."""

    counts: np.ndarray  # predictions in each bin
    predicted: np.ndarray  # their mean; NaN in empty bins
    hits: np.ndarray  # how many of them came true
    edges: np.ndarray  # the bins' edges, one more than bins

    @property
    def observed(self) -> np.ndarray:
        """The frequency with which predictions came true; NaN in empty bins."""
        return _mean(self.hits, self.counts)


def calibration(
    prediction: np.ndarray, hit: np.ndarray, bins: int = 10, spacing: Literal["width", "mass"] = "width"
) -> Bins:
    """Bin predictions by size: in equal steps of [0, 1], or with as many in each bin as possible."""
    p, h = np.asarray(prediction, dtype=float).ravel(), np.asarray(hit, dtype=float).ravel()
    if spacing == "width":
        edges = np.linspace(0, 1, bins + 1)
        index = bin_of(p, edges)
    else:
        order = np.argsort(p, kind="stable")
        p, h = p[order], _shared(p[order], h[order])
        _, first, index = np.unique(np.arange(len(p)) * bins // len(p), return_index=True, return_inverse=True)
        edges = np.array([0.0, *p[first[1:]], 1.0])
    counts, total, hits = (np.bincount(index, weights=w, minlength=len(edges) - 1) for w in (None, p, h))
    return Bins(counts, _mean(total, counts), hits, edges)


def bin_of(prediction: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each prediction: a bin holds its upper edge and not its lower one (the first, both)."""
    return np.clip(np.searchsorted(edges, prediction) - 1, 0, len(edges) - 2)


def _mean(total: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, total / np.maximum(counts, 1), math.nan)


def _shared(key: np.ndarray, values: np.ndarray) -> np.ndarray:
    # Neighbours of equal key share the mean of their values.
    start = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    size = np.diff(np.append(start, len(key)))
    return np.repeat(np.add.reduceat(values, start) / size, size)


def confidence(mean: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a reliability diagram compares; mean ``(N, C)``, y ``(N,)``."""
    if y.ndim == 2:
        return mean.ravel(), y.ravel()
    return mean.max(1), mean.argmax(1) == y


def confusion(mean: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Count predictions by true class: mean ``(N, C)``, y ``(N,)`` to ``(C, C)``."""
    c = mean.shape[1]
    return np.bincount(y.astype(int) * c + mean.argmax(1), minlength=c * c).reshape(c, c)


def coverage(mean: np.ndarray, sd: np.ndarray, y: np.ndarray) -> float:
    """The share of values within mean ± 1.96 sd."""
    return float((np.abs(y - mean) <= Z95 * sd).mean())


def central_levels(mean: np.ndarray, sd: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each value the level of the smallest central normal interval that holds it, ``erf(|y − mean|/(√2 sd))``."""
    z = np.abs(y - mean) / (math.sqrt(2.0) * sd)
    return np.vectorize(math.erf, otypes=[float])(z)


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """How large the risk is when only the surest predictions are kept."""

    coverage: np.ndarray  # the share that is kept, ``1/N, 2/N, …, 1``
    risk: np.ndarray  # the mean loss of what is kept
    ideal: np.ndarray  # the same, had the predictions been in order of their losses

    @property
    def area(self) -> float:
        """The area under the curve: the mean risk over all coverages."""
        return float(self.risk.mean())

    @property
    def excess(self) -> float:
        """What the area exceeds that of the best order of the same losses by."""
        return float((self.risk - self.ideal).mean())

    def at(self, share: float) -> float:
        """The risk at a coverage."""
        n = len(self.risk)
        return float(self.risk[min(max(math.ceil(share * n - 1e-9), 1), n) - 1])


def risk_coverage(confidence: np.ndarray, loss: np.ndarray) -> RiskCoverage:
    """The risk–coverage curve. Predictions of equal confidence count as their average, whatever the order of the rows.

    Args:
        confidence: Larger where the model is surer, shape ``(N,)``.
        loss: The loss of each prediction (0 or 1 for right or wrong), shape ``(N,)``.

    Returns:
        The curve.
    """
    c, values = np.asarray(confidence, dtype=float).ravel(), np.asarray(loss, dtype=float).ravel()
    order = np.argsort(-c, kind="stable")
    k = np.arange(1, len(c) + 1)
    # The average over orders of a tied group's partial sums is that of its mean loss in every place.
    return RiskCoverage(k / len(c), np.cumsum(_shared(c[order], values[order])) / k, np.cumsum(np.sort(values)) / k)


def evenly(n: int, most: int) -> np.ndarray:
    """Positions to show of n in a row, the first and the last among them."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int))


def within(low: np.ndarray, high: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether values lie between two quantiles, the ends included."""
    return (low <= y) & (y <= high)


def binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each value; those beyond the ends belong to the first or the last; values ``(N,)``."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    flat = np.asarray(values, dtype=float).ravel()
    _, group, size = np.unique(flat, return_inverse=True, return_counts=True)
    last = np.cumsum(size)
    return (last - (size - 1) / 2)[group.ravel()].reshape(np.shape(values))


def rank_counts(draws: np.ndarray, bins: int) -> np.ndarray:
    """For each chain, how often its draws take each part of the ranks among the draws of all chains, ``(M, bins)``."""
    part = np.minimum(((ranks(draws) - 0.5) / draws.size * bins).astype(int), bins - 1)
    return np.stack([np.bincount(chain, minlength=bins) for chain in part])
