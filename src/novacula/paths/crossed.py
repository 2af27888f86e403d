"""Means over pairs of runs, their intervals, and the variance of a crossed layout by its causes.

Runs that were trained with every level of one cause (the first weights, say) and every level of another (the order of
the data) share levels: they are not independent. A mean over pairs is therefore one over the pairs that share nothing,
and its standard error comes from a bootstrap that draws the levels of each cause anew with replacement (Owen's
pigeonhole bootstrap); for runs that share nothing this is the usual bootstrap over runs. A pair of a run with itself is
no pair. Percentiles of so few runs are too narrow: of four to sixteen runs they cover 65 to 89 % in simulations where
90 % are claimed (``benchmarks.run_intervals``). Student's quantile at L − 1 degrees of freedom, times the bootstrap's
standard deviation and ``√(L/(L − 1))``, L the levels of the cause that has fewest, covers 84 to 96 %. Of a crossed
layout the bootstrap counts what the causes do together more than once. Variance components therefore have the jackknife
that leaves out one level after another, its variances summed over causes: it covers 95 to 99 %.

Variance components follow from products of runs. With ``C_S`` the mean of ``⟨p_r, p_s⟩`` over pairs of runs that share
the levels of the causes S and no others, ``C_S = |μ|² + Σ_{T ⊆ S} σ²_T``, whence

    σ²_cause = C_{cause} − C_∅,        σ²_together = C_all − C_∅ − Σ σ²_cause,        C_all the mean of ``|p_r|²``,

without bias, whether or not the layout is complete; of a complete one these are what the analysis of variance gives.

References:
    The pigeonhole bootstrap. A. B. Owen, 2007. arXiv:0712.1111.
    Variance components. S. R. Searle, G. Casella, C. E. McCulloch, 1992.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import t as student

from novacula.core.errors import InputError
from novacula.core.rng import derive

Statistic = Callable[[np.ndarray], np.ndarray]
"""From weights of runs, ``(B, R)``, to B numbers."""
TOGETHER = "together"
ANY, SHARE = (-math.inf, math.inf), (0.0, 1.0)
"""Bounds of a number, and of a share."""


@dataclass(frozen=True)
class Measured:
    """A number with its interval over runs.

    Attributes:
        value: The number.
        interval: Where it is for runs without end; None where there are too few levels to tell.
    """

    value: float
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, object]:
        """As plain JSON values."""
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}


@dataclass(frozen=True, eq=False)
class Layout:
    """What runs share.

    Attributes:
        levels: By cause, the level of each run, R whole numbers each.
    """

    levels: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, runs: int, causes: Mapping[str, Sequence[int]] | None = None) -> Layout:
        """The layout of so many runs.

        Args:
            runs: R.
            causes: By cause, the level of each run; without, runs share nothing.

        Returns:
            The layout.

        Raises:
            InputError: If a cause has another number of levels than there are runs, or less than two different ones,
                or two runs are the same.
        """
        if causes is None:
            return cls({"run": tuple(range(runs))})
        for name, levels in causes.items():
            if len(levels) != runs or len(set(levels)) < 2:
                hint = 'for instance {"first weights": [0, 0, 1, 1], "order": [0, 1, 0, 1]}'
                raise InputError(f"the level of each of {runs} runs, two or more", f"{name!r}: {list(levels)}", hint)
        if len(set(zip(*causes.values(), strict=True))) < runs:
            raise InputError(
                "runs that differ in a cause", "two at the same levels", "name the cause that they differ in"
            )
        return cls({name: tuple(map(int, levels)) for name, levels in causes.items()})

    @cached_property
    def shared(self) -> np.ndarray:
        """Whether two runs have the same level of each cause, ``(F, R, R)``."""
        table = np.array(list(self.levels.values()))
        return table[:, :, None] == table[:, None, :]

    @property
    def fewest(self) -> int:
        """L, the levels of the cause that has fewest."""
        return min(len(set(levels)) for levels in self.levels.values())

    @property
    def apart(self) -> np.ndarray:
        """Pairs that share nothing, ``(R, R)``."""
        return np.asarray(~self.shared.any(0))

    def weights(self, draws: int, seed: int) -> np.ndarray:
        """How often each run comes when the levels of all causes are drawn anew, ``(draws, R)``."""
        rng, found = np.random.default_rng(derive(seed, "levels")), np.ones((draws, self.shared.shape[1]))
        for levels in self.levels.values():
            names, where = np.unique(levels, return_inverse=True)
            found *= rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)[:, where]
        return found

    def measure(
        self,
        statistic: Statistic,
        *,
        bounds: tuple[float, float] = (0.0, math.inf),
        alpha: float = 0.1,
        draws: int = 1000,
        seed: int = 0,
    ) -> Measured:
        """A statistic of the runs, with its interval.

        Args:
            statistic: What is measured.
            bounds: Between what it must lie; the interval ends there.
            alpha: One minus the level of the interval.
            draws: Samples of the bootstrap; 0 for the jackknife.
            seed: Their seed.

        Returns:
            The number; its interval is None where a cause has two levels only.
        """
        value = float(statistic(np.ones((1, self.shared.shape[1])))[0])
        if self.fewest < 3 or not math.isfinite(value):
            return Measured(value, None)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = self._drawn(statistic, draws, seed) if draws else self._left_out(statistic)
        reach = float(student.isf(alpha / 2, self.fewest - 1)) * spread
        return Measured(value, (max(bounds[0], value - reach), min(bounds[1], value + reach)))

    def _drawn(self, statistic: Statistic, draws: int, seed: int) -> float:
        found = statistic(self.weights(draws, seed))
        return float(np.std(found[np.isfinite(found)], ddof=1)) * math.sqrt(self.fewest / (self.fewest - 1))

    def _left_out(self, statistic: Statistic) -> float:
        variance = 0.0
        for levels in map(np.array, self.levels.values()):
            names = np.unique(levels)
            found = statistic((levels != names[:, None]).astype(float))
            variance += (len(names) - 1) * float(np.var(found))
        return math.sqrt(variance)


def over_runs(values: np.ndarray) -> Statistic:
    """The mean of a number of each run, ``(R,)``."""
    return lambda w: (w @ values) / w.sum(1)


def over_pairs(matrix: np.ndarray, pairs: np.ndarray) -> Statistic:
    """The mean of a matrix ``(R, R)`` over pairs, a mask of its shape."""
    kept = np.where(pairs, matrix, 0.0)
    return lambda w: ((w @ kept) * w).sum(1) / ((w @ pairs) * w).sum(1)


def components(values: np.ndarray, layout: Layout, *, alpha: float = 0.1) -> dict[str, Measured]:
    """The variance of what runs predict by its causes.

    Args:
        values: What each run predicts, shape ``(R, N, C)``.
        layout: What runs share.
        alpha: One minus the level of the intervals.

    Returns:
        By cause, and ``"together"`` for what no cause explains alone: averages over examples of the variance, summed
        over outputs. Estimates are unbiased, and may be below nought.

    Raises:
        InputError: If the layout has one cause only, or no pair of runs shares a cause alone, or nothing.

    Example:
        >>> levels = {"first": (0, 0, 1, 1), "order": (0, 1, 0, 1)}
        >>> values = np.array([0.0, 0.1, 1.0, 1.1]).reshape(4, 1, 1)
        >>> found = components(values, Layout.of(4, levels))
        >>> {name: round(part.value, 4) for name, part in found.items()}
        {'first': 0.5, 'order': 0.005, 'together': 0.0}
    """
    names, shared = list(layout.levels), layout.shared
    alone = [shared[f] & (shared.sum(0) == 1) for f in range(len(names))]
    if len(names) < 2 or not all(mask.any() for mask in [*alone, layout.apart]):
        got = f"{', '.join(names)}, of which some are never shared alone"
        raise InputError(
            "runs of a crossed layout of two causes or more", got, "every level of one with each of the others"
        )
    centred = (values - values.mean(0)).reshape(len(values), -1)
    gram = centred @ centred.T / values.shape[1]
    nothing, total = over_pairs(gram, layout.apart), over_runs(gram.diagonal())
    sharing = [over_pairs(gram, mask) for mask in alone]

    def of(f: int) -> Statistic:
        return lambda w: sharing[f](w) - nothing(w)

    def together(w: np.ndarray) -> np.ndarray:
        return total(w) - nothing(w) - sum(of(f)(w) for f in range(len(names)))

    parts = {**{name: of(f) for f, name in enumerate(names)}, TOGETHER: together}
    return {name: layout.measure(part, bounds=ANY, alpha=alpha, draws=0) for name, part in parts.items()}
