"""The predictive distribution of a regression beside what was observed: bands that hold half and nine tenths of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from novacula.diagnostics.scores import evenly, within
from novacula.reporting.figures import base
from novacula.reporting.figures.residuals import MOST_COLUMNS, column_name
from novacula.reporting.words.numbers import significant

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_BARS = 120  # examples side by side that can still be told apart
_POINTS = 400  # places at which the edges of a band are drawn


def bands(
    quantiles: np.ndarray,
    levels: np.ndarray,
    y: np.ndarray,
    mean: np.ndarray,
    x: np.ndarray | None = None,
    names: Sequence[str] = (),
) -> list[base.Picture]:
    """One figure for each column of the target, up to four: over the input where it is one number, else by example."""
    if not y.size or len(mean) != len(y):
        return []
    y, mean = y.reshape(len(y), -1), mean.reshape(len(mean), -1)
    found = [np.flatnonzero(np.isclose(levels, level, atol=1e-6)) for level in _LEVELS]
    if any(len(i) == 0 for i in found) or quantiles.size != len(levels) * y.size:
        return []
    chosen = quantiles[[int(i[0]) for i in found]].reshape(len(_LEVELS), len(y), -1)
    if mean.shape != y.shape or not all(np.isfinite(a).all() for a in (chosen, y, mean)):
        return []
    over = None if x is None or x.size != len(y) or not np.isfinite(x).all() else x.ravel()
    return [
        _column(chosen[:, :, d], y[:, d], mean[:, d], over, column_name(names, d, y.shape[1]), f"bands-{d + 1}")
        for d in range(min(y.shape[1], MOST_COLUMNS))
    ]


def _column(
    q: np.ndarray, y: np.ndarray, mean: np.ndarray, x: np.ndarray | None, name: str, identity: str
) -> base.Picture:
    inside = within(q[0], q[4], y)
    held = (
        f"the 90\u00a0% band holds {100 * inside.mean():.0f}\u00a0% of the {len(y):,} test values, "
        f"the 50\u00a0% band {100 * within(q[1], q[3], y).mean():.0f}\u00a0%"
    )
    with base.drawing(330, left=60, top=26) as (figure, axes):
        base.quiet(axes, name or "target")
        if x is None:
            shown = np.argsort(q[2], kind="stable")[evenly(len(y), _BARS)]
            _by_example(axes, q[:, shown], y[shown], inside[shown])
            few = f"{len(shown)} of the {len(y):,} test examples, " if len(shown) < len(y) else "Test examples "
            how = (
                f"{few}in order of their predicted median. Thin bars hold 90\u00a0% of the predictive distribution, "
                "thick ones 50\u00a0%; dots are what was observed."
            )
            what = f"Predictive bands of {len(shown)} test examples in order of their predicted median"
        else:
            _over(axes, x, q, y, mean, inside)
            how = (
                "Line: predicted mean at the test inputs. Inner band: 50\u00a0% of the predictive distribution, outer "
                "band: 90\u00a0%; dots are what was observed."
            )
            ends = f"{significant(float(x.min()))} to {significant(float(x.max()))}"
            what = f"Predictive mean and bands over inputs from {ends}"
        caption = f"{how} Over all, {held}; values outside it are in the second colour."
        alt = f"{what}: {held}."
        title = f"Predictive bands: {name}" if name else "Predictive bands"
        return base.Picture(identity, title, base.svg(figure, identity, alt), alt, caption)


def _over(axes: Axes, x: np.ndarray, q: np.ndarray, y: np.ndarray, mean: np.ndarray, inside: np.ndarray) -> None:
    order = np.argsort(x, kind="stable")[evenly(len(x), _POINTS)]
    axes.fill_between(x[order], q[0, order], q[4, order], color=base.FAINT, linewidth=0)
    axes.fill_between(x[order], q[1, order], q[3, order], color=base.ACCENT, alpha=0.32, linewidth=0)
    axes.plot(x[order], mean[order], color=base.ACCENT)
    raster = len(x) > base.MANY_MARKS
    for mask, colour in ((inside, to_rgb(base.RASTER) if raster else base.INK), (~inside, base.SECOND)):
        axes.plot(x[mask], y[mask], "o", color=colour, markersize=2.6, markeredgewidth=0, alpha=0.75, rasterized=raster)
    axes.set_xlabel("input")
    axes.margins(x=0.01)


def _by_example(axes: Axes, q: np.ndarray, y: np.ndarray, inside: np.ndarray) -> None:
    place = np.arange(len(y))
    width = max(1.2, min(6.0, 240 / len(y)))
    base.bars(axes, place, q[0], q[4], base.ACCENT, width=max(0.8, 0.4 * width), alpha=0.35)
    base.bars(axes, place, q[1], q[3], base.ACCENT, width=width, alpha=0.5)
    for mask, colour in ((inside, base.INK), (~inside, base.SECOND)):
        axes.plot(place[mask], y[mask], "o", color=colour, markersize=3.2, markeredgewidth=0)
    axes.set(xlim=(-1, len(y)), xticks=[], xlabel="test examples, by predicted median")
