"""Histograms one above the other on a common axis, each on a scale of its own: small groups stay visible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from novacula.diagnostics.scores import binned
from novacula.reporting.figures.base import ACCENT, FAINT, canvas, panel, quiet
from novacula.reporting.words.numbers import percent

_LEFT, _RIGHT, _BOTTOM = 52, 16, 42
_TITLE = 26  # above every panel


@dataclass(frozen=True, eq=False)
class Group:
    """One histogram; values ``(n,)``."""

    label: str  # what is counted, written above it
    values: np.ndarray  # the values, shape ``(n,)``
    colour: str = ACCENT  # its colour


def edges_of(values: Sequence[np.ndarray], bins: int, low: float | None = None) -> np.ndarray:
    """Bins of equal width that hold all values."""
    every = np.concatenate([v.ravel() for v in values]).astype(float)
    start, end = float(every.min()) if low is None else low, float(every.max())
    if not end - start > 1e-9 * max(abs(start), abs(end)):
        half = max(0.5 * abs(end), 1e-6)
        start, end = (start, start + 2 * half) if low is not None else (start - half, start + half)
    return np.linspace(start, end, bins + 1)


def stacked(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels one above the other, with room for a title above each."""
    step = height + _TITLE
    total = rows * step + _BOTTOM
    figure = canvas(total)
    places = [
        panel(figure, left=_LEFT, right=_RIGHT, top=_TITLE + i * step, bottom=total - (i + 1) * step)
        for i in range(rows)
    ]
    return figure, places


def histogram(axes: Axes, group: Group, edges: np.ndarray, *, labelled: bool) -> np.ndarray:
    """Draw the share of a group in each bin."""
    share = np.bincount(binned(group.values, edges), minlength=len(edges) - 1) / max(len(group.values), 1)
    steps(axes, share, edges, group.colour)
    peak = max(float(share.max()), 1e-3)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.08 * peak))
    axes.set_yticks([0, peak], ["0", percent(peak)])
    finish(axes, group.label, group.colour, labelled=labelled)
    return share


def steps(axes: Axes, heights: np.ndarray, edges: np.ndarray, colour: str, *, fill: bool = True) -> None:
    """Draw bins as one outline, with nothing where they are empty."""
    if fill:
        tone, alpha = (FAINT, 1.0) if colour == ACCENT else (colour, 0.25)
        axes.stairs(heights, edges, fill=True, color=tone, alpha=alpha, linewidth=0)
    axes.stairs(np.where(heights > 0, heights, math.nan), edges, color=colour, linewidth=1.4)


def finish(axes: Axes, title: str, colour: str, *, labelled: bool) -> None:
    """Give a panel its title, and take the axis labels from all but the lowest."""
    quiet(axes)
    axes.set_title(title, color=colour, pad=7)
    if not labelled:
        axes.set_xticklabels([])
