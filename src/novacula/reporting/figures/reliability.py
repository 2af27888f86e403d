"""Whether probabilities mean what they say: observed frequency against predicted, with counts."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from novacula.diagnostics.scores import Bins, calibration, confidence, wilson
from novacula.reporting.figures import base

_HEIGHT, _COUNTS = 430, 96


def reliability(
    mean: np.ndarray, y: np.ndarray, point: np.ndarray | None = None, *, chosen: str = "chosen predictive"
) -> base.Picture | None:
    """The reliability diagram of test predictions; mean ``(N, C)``, y ``(N,)``."""
    if not len(mean):
        return None
    bins = calibration(*confidence(mean, y))
    other = None if point is None else calibration(*confidence(point, y))
    labels = y.ndim == 2
    what = "predicted probability" if labels else "confidence"
    alt = f"Reliability diagram. By {what}: " + "; ".join(
        f"{bins.predicted[i]:.2f} predicted, {bins.observed[i]:.2f} observed, n = {bins.counts[i]}"
        for i in np.flatnonzero(bins.counts)
    )
    with base.drawing(_HEIGHT, left=52, bottom=_COUNTS + 58, top=26, right=16) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=base.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        if other is not None:
            _marks(axes, other, base.SECOND, hollow=True, shift=0.008)
        _marks(axes, bins, base.ACCENT, hollow=False, shift=0.0)
        axes.set(xlim=(0, 1.0), ylim=(0, 1.02), xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
        axes.set_xticklabels([])
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.set_title("observed frequency" if labels else "accuracy", color=base.MUTED, pad=10)
        axes.text(0.97, 0.13, f"● {chosen}", color=base.ACCENT, ha="right")
        if other is not None:
            axes.text(0.97, 0.05, "○ point estimate", color=base.SECOND, ha="right")
        lower = base.panel(figure, left=52, bottom=44, top=_HEIGHT - 44 - _COUNTS, right=16)
        _counts(lower, bins, what)
        caption = (
            "On the dashed line a prediction of 80\u00a0% comes true 80\u00a0% of the time. Bars: Wilson’s 95\u00a0% "
            f"intervals; below, how many {'label ' if labels else ''}predictions each mark stands for."
        )
        return base.Picture("reliability", "Reliability", base.svg(figure, "reliability", alt), alt, caption)


def _marks(axes: Axes, bins: Bins, colour: str, *, hollow: bool, shift: float) -> None:
    used = bins.counts > 0
    x, y = bins.predicted[used] + shift, bins.observed[used]
    low, high = wilson(bins.hits[used], bins.counts[used])
    axes.vlines(x, low, high, color=colour, linewidth=1.4, alpha=0.55)
    axes.plot(x, y, "o", color=colour, markersize=6.5, markerfacecolor=base.PAPER if hollow else colour, clip_on=False)


def _counts(axes: Axes, bins: Bins, what: str) -> None:
    centres = (bins.edges[:-1] + bins.edges[1:]) / 2
    axes.bar(centres, bins.counts, width=0.09, color=base.FAINT)
    peak = max(int(bins.counts.max()), 1)
    for x, n in zip(centres, bins.counts, strict=True):
        if n:
            axes.text(x, n + 0.04 * peak, f"{n:,}", ha="center", va="bottom", fontsize=10.5, color=base.INK)
    axes.set(xlim=(0, 1), ylim=(0, 1.25 * peak), xticks=np.linspace(0, 1, 6), yticks=[], xlabel=what)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
