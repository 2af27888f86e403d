"""Means over runs and examples, with a standard error that holds the spread over both.

A score of S runs (seeds, orders of the data) on N examples is a table ``a_sn``, possibly with gaps. Runs and examples
are both drawn from something larger, ``a_sn = μ + α_s + β_n + ε_sn``, so that the mean's variance is
``σ_α²/S + σ_β²/N + σ_ε²/(SN)``. With the variance of the runs' means ``V_s``, of the examples' means ``V_n``, and of
what is left ``V_sn = Σ (a_sn − ā_s − ā_n + ā)² / ((S − 1)(N − 1))``,

    s.e.² = V_s/S + V_n/N − V_sn/(SN),

where the last term was counted in both others; at least the larger of the first two. It has about

    ν = s.e.⁴ / [(V_s/S)²/(S − 1) + (V_n/N)²/(N − 1)]

degrees of freedom: with three runs that differ much, two standard errors are far less than 95 %.

Where each example belongs to one run alone (the folds of a cross-validation, each predicted by one network), the spread
within folds and that between them are told apart instead, see `nested`.

References:
    An approximate distribution of estimates of variance components. F. E. Satterthwaite, 1946.
    The pigeonhole bootstrap. A. B. Owen, 2007. arXiv:0712.1111 (tables whose rows and columns are both random).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import norm, t
from torch import Tensor

_SIGMAS = 2.0


@dataclass(frozen=True)
class Mean:
    """A mean with its error."""

    value: float  # the mean
    stderr: float  # its standard error; NaN where there is one example
    freedom: float  # the degrees of freedom of ``stderr``

    @property
    def margin(self) -> float:
        """How many standard errors are worth two of a normal distribution (level 97.7 % on one side)."""
        return _SIGMAS if math.isnan(self.freedom) else float(t.ppf(norm.cdf(_SIGMAS), max(1.0, self.freedom)))

    @property
    def reach(self) -> float:
        """Half the width of an interval with the level of two standard errors of a normal distribution, 95.4 %."""
        return self.margin * self.stderr

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} ± {self.stderr:{spec}}" if spec else str(self)


def two_way(table: Tensor) -> Mean:
    """The mean of a table whose rows and columns are both random.

    Returns:
        The mean of all numbers there are, with its error.

    Example:
        >>> import torch
        >>> two_way(torch.tensor([[1.0, 3.0], [1.0, 3.0]])).value
        2.0
    """
    a = table.double()
    known = ~a.isnan()
    runs, examples = a.shape
    mean = a.nanmean()
    by_example = a.nanmean(0)
    if examples < 2:
        return Mean(float(mean), math.nan, math.nan)
    of_examples = float(_variance(by_example, known.sum(0), mean))
    if runs < 2:
        return Mean(float(mean), math.sqrt(of_examples), examples - 1)
    by_run = a.nanmean(1)
    of_runs = float(_variance(by_run, known.sum(1), mean))
    rest = (a - by_run.unsqueeze(1) - by_example + mean).nan_to_num(0.0).square().sum()
    left = int(known.sum()) - runs - examples + 1
    both = float(rest) / left / int(known.sum()) if left > 0 else 0.0
    squared = max(of_runs + of_examples - both, of_runs, of_examples)
    spread = of_runs**2 / (runs - 1) + of_examples**2 / (examples - 1)
    return Mean(float(mean), math.sqrt(squared), squared**2 / spread if spread > 0 else math.inf)


def nested(values: Tensor, folds: Tensor) -> Mean:
    """The mean of N values, each predicted by the network of its fold.

    Examples of one fold share a network, and so a part of their errors. Two estimates of the variance of the mean are
    ``Σ_n (a_n − ā_k(n))² / (N (N − K))``, from the spread within folds, which knows nothing of that part, and
    ``K/(K − 1) Σ_k (Σ_{n in k} (a_n − ā))² / N²``, from that of the K folds, which does but is rough. The larger one is
    taken. That networks share most of their training data is in neither: no estimate from one cross-validation has it.

    Args:
        values: Shape ``(N,)``.
        folds: The fold of each, shape ``(N,)``.

    Returns:
        The mean with its error.

    References:
        No unbiased estimator of the variance of K-fold cross-validation. Y. Bengio, Y. Grandvalet, 2004.

    Example:
        >>> import torch
        >>> round(nested(torch.tensor([1.0, 3.0, 1.0, 3.0]), torch.tensor([0, 0, 1, 1])).stderr ** 2, 6)
        0.5
    """
    a = values.detach().double().cpu()
    _, which, counts = folds.cpu().unique(return_inverse=True, return_counts=True)
    n, k, mean = len(a), len(counts), float(a.mean())
    sums = torch.zeros(k, dtype=a.dtype).index_add(0, which, a - mean)
    between = float(sums.square().sum()) * k / (k - 1) / n**2 if k > 1 else math.nan
    if n == k:
        return Mean(mean, math.sqrt(between), k - 1)
    within = float((a - mean - (sums / counts)[which]).square().sum()) / (n * (n - k))
    return Mean(mean, math.sqrt(within), n - k) if not between > within else Mean(mean, math.sqrt(between), k - 1)


def _variance(means: Tensor, counts: Tensor, mean: Tensor) -> Tensor:
    # Of the weighted average of the means of M groups; with equal counts their variance divided by M.
    m = len(means)
    return ((counts * (means - mean)) ** 2).sum() / counts.sum() ** 2 * (m / (m - 1))
