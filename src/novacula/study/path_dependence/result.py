"""What was found of runs, and the record of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from novacula.core.brief import brief
from novacula.core.storage.plain import record
from novacula.paths.crossed import Measured
from novacula.study.comparing.settings import SettingGap
from novacula.study.path_dependence.words import told

LITTLE, MUCH = 0.25, 0.75
"""Of the error: below the one the path hardly matters, above the other it matters much."""


@dataclass(frozen=True, eq=False)
class PathDependence:
    """How much trained networks depend on the path of their training.

    Attributes:
        names: Of the runs, R of them.
        task: ``"classification"``, ``"multilabel"`` or ``"regression"``.
        n: Examples on which runs were compared.
        measured: By name, with 90 % intervals over runs. Of runs: ``loss`` and ``error``. Of pairs that share no cause:
            ``disagreement`` and ``total_variation`` (of measurements ``difference``, in standard deviations of the
            labels), the same ``outside/NAME`` and how much more that is, ``excess/NAME``; ``similarity`` and
            ``barrier/NAME``. ``share`` is the first of these over the error.
        components: Of a crossed layout, the variance of what is predicted by its causes; empty otherwise.
        pairs: What was measured of pairs, by name, ``(R, R)``, NaN where a pair was not looked at.
        stability: Of each example, the share of pairs that say the same class, ``(N,)``; None of other tasks.
        curves: Losses on the lines between runs, ``(pairs, T)``, as trained, matched and repaired, from 0 to 1.
        about: The layer, measure, chance level and largest p-value of the similarity.
        values: What each run predicts, ``(R, N, C)``.
        warnings: Reservations a reader must know.
        against: The same of the other setting; None without one.
        between: How much further runs of two settings are apart than runs of one; None without another setting.
        gap: The difference of the settings' losses by pairs of runs; None without another of as many runs.
    """

    names: tuple[str, ...]
    task: str
    n: int
    measured: dict[str, Measured]
    components: dict[str, Measured]
    pairs: dict[str, np.ndarray] = field(repr=False)
    stability: np.ndarray | None = field(repr=False)
    curves: dict[str, np.ndarray] = field(repr=False)
    about: dict[str, Any]
    values: np.ndarray = field(repr=False)
    warnings: tuple[str, ...] = ()
    against: PathDependence | None = None
    between: Measured | None = None
    gap: SettingGap | None = None

    __repr__ = brief

    @property
    def matters(self) -> str:
        """``"hardly"`` where runs differ in less than a quarter of the error, ``"much"`` in more than three quarters.

        Between the two it is ``"somewhat"``; where the interval reaches over a border, two words joined by "or", and
        over both ``"undecided"``.
        """
        share = self.measured["share"]
        low, high = share.interval or (share.value, share.value)
        found = {"hardly": low <= LITTLE, "somewhat": high > LITTLE and low < MUCH, "much": high >= MUCH}
        return "undecided" if all(found.values()) else " or ".join(word for word, holds in found.items() if holds)

    @property
    def words(self) -> tuple[str, ...]:
        """The verdict, a sentence or two for each thing that was measured."""
        return told(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values.

        Returns:
            All but what each run predicts.
        """
        names = ("task", "n", "matters", "pairs", "stability", "curves", "warnings")
        tables = {k: {name: m.to_dict() for name, m in getattr(self, k).items()} for k in ("measured", "components")}
        others = {k: None if (v := getattr(self, k)) is None else v.to_dict() for k in ("against", "between", "gap")}
        return record(self, *names, runs=self.names, similarity=self.about, **tables, **others)
