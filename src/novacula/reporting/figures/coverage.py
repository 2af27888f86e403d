"""Whether intervals of a regression hold what they promise: observed against nominal coverage, at every level."""

from __future__ import annotations

import numpy as np

from novacula.diagnostics.scores import central_levels, wilson
from novacula.reporting.figures.base import ACCENT, FAINT, MUTED, Picture, drawing, svg

_LEVELS = np.linspace(0.05, 0.95, 19)


def coverage(mean: np.ndarray, sd: np.ndarray, y: np.ndarray) -> Picture | None:
    """The share of test values within central normal intervals, by the intervals' level; mean ``(N, D)``."""
    if not y.size:
        return None
    reached = central_levels(mean, sd, y).ravel()
    hits = np.array([(reached <= level).sum() for level in _LEVELS])
    low, high = wilson(hits, reached.size)
    observed = hits / reached.size
    shown = {round(100 * float(a)): round(100 * float(b)) for a, b in zip(_LEVELS, observed, strict=True)}
    alt = "Coverage of central intervals: " + "; ".join(f"{a} percent hold {shown[a]}" for a in (50, 80, 95)) + "."
    with drawing(330, left=52, top=26, right=16) as (figure, axes):
        axes.fill_between(_LEVELS, low, high, color=FAINT, linewidth=0)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(_LEVELS, observed, color=ACCENT)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
        axes.set_xlabel("level of the predicted interval")
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.tick_params(axis="x", pad=7)
        axes.set_title("share of test values inside", color=MUTED, pad=8)
        caption = (
            "On the dashed line, intervals hold what they promise; below it they are too narrow, above it too wide. "
            "Shaded: Wilson’s 95\u00a0% interval at each level."
        )
        return Picture("coverage", "Coverage of intervals", svg(figure, "coverage", alt), alt, caption)
