"""Residuals of a regression, with the intervals that were predicted for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from novacula.diagnostics.scores import Z95, coverage
from novacula.reporting.figures import base
from novacula.reporting.figures.base import bars
from novacula.reporting.words.numbers import significant

MOST_COLUMNS = 4
"""Columns of a target that are shown."""


def residuals(
    mean: np.ndarray, y: np.ndarray, sd: np.ndarray | None = None, names: Sequence[str] = ()
) -> list[base.Picture]:
    """One figure for each column of the target, up to four; mean ``(N, D)``, y ``(N, D)``, sd ``(N, D)``."""
    mean, y = mean.reshape(len(mean), -1), y.reshape(len(y), -1)
    if not len(mean) or mean.shape != y.shape:
        return []
    sd = None if sd is None else np.broadcast_to(sd.reshape(len(sd), -1) if sd.ndim else sd, mean.shape)
    columns = range(min(mean.shape[1], MOST_COLUMNS))
    return [
        _column(
            mean[:, d],
            y[:, d],
            None if sd is None else sd[:, d],
            column_name(names, d, mean.shape[1]),
            f"residuals-{d + 1}",
        )
        for d in columns
    ]


def column_name(names: Sequence[str], d: int, size: int) -> str:
    """What a column of the target is called."""
    return str(names[d]) if len(names) == size else ("" if size == 1 else f"target {d + 1}")


def _column(mean: np.ndarray, y: np.ndarray, sd: np.ndarray | None, name: str, identity: str) -> base.Picture:
    residual = y - mean
    rms = significant(float(np.sqrt((residual**2).mean())))
    alt = f"Residuals of {len(y)} test values against their predictions; root mean square {rms}."
    caption = "Observed minus predicted."
    raster = len(y) > base.MANY_MARKS
    outside = np.zeros(len(y), dtype=bool)
    if sd is not None:
        share = coverage(mean, sd, y)
        outside = np.abs(residual) > Z95 * sd
        said = f"The predicted 95\u00a0% intervals contain {100 * share:.1f}\u00a0% of the test values"
        alt += f" {said}."
        bars = "" if raster else " Bars: ± 1.96 predicted standard deviations."
        caption += f"{bars} {said}; the others are marked in the second colour."
    with base.drawing(330, left=60, top=26) as (figure, axes):
        axes.axhline(0, color=base.INK, linewidth=1)
        for mask, colour in ((~outside, base.ACCENT), (outside, base.SECOND)):
            _points(axes, mean[mask], residual[mask], None if sd is None else sd[mask], colour, raster=raster)
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.locator_params(axis="x", nbins=7)
        axes.set_xlabel(f"predicted {name}".strip())
        axes.set_title("residual", color=base.MUTED, pad=8)
        title = f"Residuals: {name}" if name else "Residuals"
        return base.Picture(identity, title, base.svg(figure, identity, alt), alt, caption)


def _points(axes: Axes, x: np.ndarray, r: np.ndarray, sd: np.ndarray | None, colour: str, *, raster: bool) -> None:
    tone = to_rgb(base.RASTER) if raster and colour == base.ACCENT else colour
    if sd is not None and not raster:
        bars(axes, x, r - Z95 * sd, r + Z95 * sd, tone, width=0.8, alpha=0.35)
    axes.plot(x, r, "o", color=tone, markersize=2.6 if raster else 3.4, markeredgewidth=0, rasterized=raster)
