"""Whether the model knows which of its answers are wrong: the errors among the surest, by how many are kept."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from novacula.diagnostics.scores import RiskCoverage, confidence, evenly
from novacula.diagnostics.scores import risk_coverage as curve_of
from novacula.reporting.figures.base import (
    ACCENT,
    MUTED,
    PAPER,
    SECOND,
    Picture,
    drawing,
    quiet,
    svg,
)
from novacula.reporting.words.numbers import number, percent

_POINTS = 400  # more would not show
_SETTLED = 0.05  # below this coverage a handful of examples decide; the height of the axis does not follow them
_KEPT = 0.8  # the coverage that the caption speaks of


def risk_coverage(
    mean: np.ndarray, y: np.ndarray, point: np.ndarray | None = None, *, chosen: str = "chosen predictive"
) -> Picture | None:
    """The risk–coverage curve of test predictions; mean ``(N, C)``, y ``(N,)``."""
    if not len(mean) or not np.isfinite(mean).all() or (point is not None and not np.isfinite(point).all()):
        return None
    curve = _curve(mean, y)
    other = None if point is None else _curve(point, y)
    areas = f"Area under the curve: {number(curve.area, 4)}"
    areas += f", the point estimate’s {number(other.area, 4)}" if other is not None else ""
    alt = (
        "Risk–coverage curve. Share of errors among the surest predictions: "
        + "; ".join(f"{100 * share:.0f} percent kept, {percent(curve.at(share))}" for share in (0.5, 0.8, 0.9, 1.0))
        + f". {areas}."
    )
    with drawing(330, left=52, top=26, right=22) as (figure, axes):
        _draw(axes, curve.coverage, curve.ideal, MUTED, 1.0)
        if other is not None:
            _draw(axes, other.coverage, other.risk, SECOND, 1.4)
        _draw(axes, curve.coverage, curve.risk, ACCENT, 1.8)
        shown = [c.risk[c.coverage >= _SETTLED] for c in (curve, *([other] if other is not None else []))]
        peak = max(1.3 * max(float(r.max()) for r in shown), 1e-3)
        axes.set(xlim=(0, 1), ylim=(0, peak), xlabel="share of the predictions kept")
        axes.set_xticks(np.linspace(0, 1, 6), [f"{share}\u00a0%" for share in range(0, 101, 20)])
        axes.set_yticks(ticks := _ticks(peak), [percent(t) for t in ticks])
        quiet(axes, "share of errors among them")
        entries = [(chosen, ACCENT), *([("point estimate", SECOND)] if other is not None else []), ("ideal", MUTED)]
        for row, (text, colour) in enumerate(entries):
            label = axes.annotate(
                f"— {text}", (0.03, 1), (0, -10 - 17 * row), "axes fraction", "offset points", color=colour, va="center"
            )
            label.set_bbox({"facecolor": PAPER, "linewidth": 0, "pad": 1.5})  # over the grid
        what = "labels" if y.ndim == 2 else "predictions"
        caption = (
            f"Keeping only the surest {100 * _KEPT:.0f}\u00a0% of the {what}, {percent(curve.at(_KEPT))} of them are "
            f"wrong, of all {percent(curve.at(1.0))}. The lower the curve on its left, the better the model knows what "
            f"it does not know; “ideal” drops exactly the errors first. {areas}."
        )
        return Picture("risk-coverage", "Risk–coverage", svg(figure, "risk-coverage", alt), alt, caption)


def _curve(mean: np.ndarray, y: np.ndarray) -> RiskCoverage:
    p, hit = confidence(mean, y)
    if y.ndim == 2:
        # A label's answer is the likelier of yes and no.
        p, hit = np.maximum(p, 1 - p), (p > 0.5) == (hit > 0.5)
    return curve_of(p, 1.0 - hit)


def _draw(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, width: float) -> None:
    at = evenly(len(x), _POINTS)
    axes.plot(x[at], y[at], color=colour, linewidth=width)


def _ticks(peak: float) -> list[float]:
    # Two to five round steps up to the top of the axis.
    step = next(m * 10.0**e for e in range(-6, 1) for m in (1, 2, 5) if peak / (m * 10.0**e) <= 5)
    return [step * i for i in range(int(peak / step + 1e-9) + 1)]
