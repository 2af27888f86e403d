"""Small drawings of what an extent does: a wedge for a rotation, a band for a shift, nested squares for a scale."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Polygon, Rectangle, Wedge

from novacula.reporting.figures.base import ACCENT, FAINT, INK, MUTED, RULE, canvas, style, svg
from novacula.reporting.words.extents import in_words
from novacula.runs.catalogue.models import Extent, bare

SIZE = 104
_FRAME = 0.5  # half the side of the untransformed square


def glyph(name: str, eta: float, entry: Extent) -> str:
    """Draw one extent."""
    with style():
        figure = canvas(SIZE, SIZE)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(-1.03, 1.03), ylim=(-1.03, 1.03))
        axes.axis("off")
        colour = MUTED if entry.negligible(eta) else ACCENT
        if draw := _DRAW.get(bare(name)):
            draw(axes, name, eta, colour)
        else:
            _track(axes, entry, eta, colour)
        return svg(figure, f"glyph-{name.replace('_', '-')}", f"{entry.label}: {in_words(entry, eta)}")


def _fill(colour: str) -> str:
    return RULE if colour == MUTED else FAINT


def _rotation(axes: Axes, name: str, eta: float, colour: str) -> None:
    angle = 180 * min(abs(eta), 1.0)
    axes.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor=RULE, linewidth=1.2))
    if angle >= 179.5:
        axes.add_patch(Circle((0, 0), 1, facecolor=_fill(colour), edgecolor=colour, linewidth=1.6))
    elif angle > 0:
        axes.add_patch(
            Wedge((0, 0), 1, 90 - angle, 90 + angle, facecolor=_fill(colour), edgecolor=colour, linewidth=1.6)
        )
    axes.plot([0, 0], [0, 1], color=INK, linewidth=1.6)
    axes.plot([0], [0], "o", color=INK, markersize=3.5)


def _shift(axes: Axes, name: str, eta: float, colour: str) -> None:
    axes.add_patch(Rectangle((-1, -1), 2, 2, facecolor="none", edgecolor=RULE, linewidth=1.2))
    reach, half = min(abs(eta), 1.0), 0.26
    size = (reach + half, half) if bare(name) == "translation_x" else (half, reach + half)
    clipped = (min(size[0], 1.0), min(size[1], 1.0))
    axes.add_patch(
        Rectangle((-clipped[0], -clipped[1]), 2 * clipped[0], 2 * clipped[1], facecolor=_fill(colour), edgecolor="none")
    )
    axes.add_patch(Rectangle((-half, -half), 2 * half, 2 * half, facecolor="none", edgecolor=INK, linewidth=1.6))
    ends = np.array([[-reach, 0.0], [reach, 0.0]])
    ends = ends if bare(name) == "translation_x" else ends[:, ::-1]
    axes.plot(ends[:, 0], ends[:, 1], color=colour, linewidth=1.6, marker="o", markersize=3.5)


def _map(matrix: Callable[[float], np.ndarray]) -> Callable[[Axes, str, float, str], None]:
    # The square, and what the two ends of the range make of it.

    def draw(axes: Axes, name: str, eta: float, colour: str) -> None:
        corners = _FRAME * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)
        limit = min(abs(eta), math.log(0.98 / _FRAME))
        axes.add_patch(Rectangle((-1, -1), 2, 2, facecolor="none", edgecolor=RULE, linewidth=1.2))
        for sign, fill in ((1, _fill(colour)), (-1, "none")):
            shape = corners @ matrix(sign * limit).T
            axes.add_patch(Polygon(shape, facecolor=fill, edgecolor=colour, linewidth=1.6, joinstyle="round"))
        axes.add_patch(Polygon(corners, facecolor="none", edgecolor=INK, linewidth=1.2, linestyle=(0, (3, 2.5))))

    return draw


def _track(axes: Axes, entry: Extent, eta: float, colour: str) -> None:
    """A range on a line, for everything that has no shape."""
    reach = min(abs(eta) / max(entry.natural, 1e-12), 1.0)
    low = -reach if entry.symmetric else -1.0
    high = reach if entry.symmetric else 2 * reach - 1
    axes.plot([-1, 1], [0, 0], color=RULE, linewidth=7)
    if high > low:
        axes.plot([low, high], [0, 0], color=colour, linewidth=7)
    start = 0.0 if entry.symmetric else -1.0
    axes.plot([start, start], [-0.24, 0.24], color=INK, linewidth=1.6)


_DRAW: dict[str, Callable[[Axes, str, float, str], None]] = {
    "rotation": _rotation,
    "translation_x": _shift,
    "translation_y": _shift,
    "scale": _map(lambda s: math.exp(s) * np.eye(2)),
    "stretch": _map(lambda s: np.diag([math.exp(s), math.exp(-s)])),
    "shear": _map(lambda s: np.array([[math.cosh(s), math.sinh(s)], [math.sinh(s), math.cosh(s)]])),
}
