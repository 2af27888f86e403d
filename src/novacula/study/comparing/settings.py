"""Is the gap between two settings real? Paired runs, an interval, and how many more would tell.

Of R pairs of runs (the same seed, split or fold) the differences ``d_r = a_r − b_r`` are taken for normal: the mean has
the interval ``d̄ ± t s/√R`` with R − 1 degrees of freedom, and a new pair the difference ``d̄ + s √(1 + 1/R) t``, which
gives the probability that a run of A beats one of B. The smallest difference that R pairs show with probability
``power`` at the level ``alpha``, two-sided, solves Student's noncentral power at the noise found; so does the number of
pairs that the difference found would take.

References:
    The probable error of a mean. Student, 1908.
    Statistical power analysis for the behavioral sciences. J. Cohen, 1988.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from scipy.stats import t as student

from novacula.core.errors import InputError
from novacula.core.storage.plain import record

_MOST = 1000
"""Pairs beyond which no number is told."""


@dataclass(frozen=True)
class SettingGap:
    """How far two settings lie apart, ``a − b``, by runs in pairs.

    Attributes:
        differences: One of each pair.
        alpha: One minus the level of the interval.
        power: The probability with which a difference is to be shown.
    """

    differences: tuple[float, ...]
    alpha: float = 0.05
    power: float = 0.8

    @property
    def value(self) -> float:
        """The mean difference."""
        return float(np.mean(self.differences))

    @property
    def stderr(self) -> float:
        """Its standard error over pairs."""
        return float(np.std(self.differences, ddof=1)) / math.sqrt(self.pairs)

    @property
    def pairs(self) -> int:
        """R."""
        return len(self.differences)

    @property
    def interval(self) -> tuple[float, float]:
        """Covers the difference of the settings with probability ``1 − alpha``."""
        reach = float(student.isf(self.alpha / 2, self.pairs - 1)) * self.stderr
        return self.value - reach, self.value + reach

    @property
    def real(self) -> bool:
        """Whether the interval leaves out nought."""
        low, high = self.interval
        return low > 0 or high < 0

    @property
    def a_is_higher(self) -> float:
        """The probability that a new run of A gives a higher number than its partner of B."""
        spread = self.stderr * math.sqrt(self.pairs + 1)
        if spread == 0:
            return 0.5 + 0.5 * float(np.sign(self.value))
        return float(student.cdf(self.value / spread, self.pairs - 1))

    @property
    def smallest(self) -> float:
        """The smallest difference that as many pairs show with the power asked for, at the noise found."""
        if self.stderr == 0:
            return 0.0
        effect = cast("float", brentq(lambda e: _power(e, self.pairs, self.alpha) - self.power, 0.0, 1e3))
        return effect * self.stderr * math.sqrt(self.pairs)

    @property
    def pairs_needed(self) -> int | None:
        """Pairs in all that would show the difference found with that power; None beyond a thousand."""
        spread = self.stderr * math.sqrt(self.pairs)
        if spread == 0:
            return 2 if self.value else None
        effect = abs(self.value) / spread
        if _power(effect, _MOST, self.alpha) < self.power:
            return None
        low, high = 1, _MOST
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _power(effect, middle, self.alpha) >= self.power else (middle, high)
        return high

    def to_dict(self) -> dict[str, object]:
        """As plain JSON values.

        Returns:
            All of it.
        """
        names = ("value", "stderr", "pairs", "real", "a_is_higher", "smallest", "pairs_needed", "alpha", "power")
        return record(self, *names, "interval")


def gap(a: ArrayLike, b: ArrayLike, *, alpha: float = 0.05, power: float = 0.8) -> SettingGap:
    """Compare two settings by a number of each run, such as its test loss.

    Args:
        a: Of the runs of A, shape ``(R,)``.
        b: Of the runs of B in the same order: run r of both had the same seed, split or fold.
        alpha: One minus the level of the interval.
        power: The probability with which a difference is to be shown.

    Returns:
        The difference ``a − b``, its interval, and what more runs would tell.

    Raises:
        InputError: If there are fewer than two pairs, runs have no partner, or a number is not finite.

    Example:
        >>> found = gap([0.31, 0.30, 0.33], [0.25, 0.26, 0.26])
        >>> found.real, round(found.a_is_higher, 2), found.pairs_needed
        (True, 0.96, 3)
    """
    one, two = (np.asarray(v, dtype=np.float64) for v in (a, b))
    if one.ndim != 1 or one.shape != two.shape or len(one) < 2:
        hint = "give run r of both settings the same seed"
        raise InputError("at least two pairs of runs, shapes (R,) and (R,)", f"{one.shape} and {two.shape}", hint)
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise InputError("finite numbers", "NaN or infinity", "a run that diverged has no loss to compare")
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise InputError(f"{name} between 0 and 1", repr(value), "alpha=0.05, power=0.8")
    if power <= alpha:
        raise InputError("power above alpha", f"{power:g} and {alpha:g}", "alpha=0.05, power=0.8")
    return SettingGap(tuple((one - two).tolist()), alpha, power)


def _power(effect: float, pairs: int, alpha: float) -> float:
    # That |t| exceeds its bound where the mean is `effect` standard deviations from nought.
    if pairs < 2:
        return 0.0
    bound = float(student.isf(alpha / 2, pairs - 1))
    # SciPy's noncentral t gives nonsense far out: the mean over the spread found is taken instead.
    shift = effect * math.sqrt(pairs)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    spread = np.sqrt(chi2.ppf((nodes + 1) / 2, pairs - 1) / (pairs - 1))
    return float(weights @ (norm.cdf(shift - bound * spread) + norm.cdf(-shift - bound * spread))) / 2
