"""Inputs beside their copies under the learned transformations."""

from __future__ import annotations

import numpy as np

from novacula.reporting.figures.base import ACCENT, INK, MUTED, Picture, canvas, drawing, panel, style, svg
from novacula.reporting.words.numbers import count

_ROWS, _COLUMNS = 6, 9
_GAP = 0.08  # of a tile
_LEAD = 0.35  # the gap after the originals
_WIDTH = 880


def montage(original: np.ndarray, transformed: np.ndarray) -> Picture | None:
    """Show originals in the first column and transformed copies to their right."""
    rows, columns = min(len(original), _ROWS), min(transformed.shape[1], _COLUMNS)
    if original.ndim not in (3, 4) or transformed.ndim != original.ndim + 1 or rows == 0 or columns == 0:
        return None
    kind = "image" if original.ndim == 4 else "signal"
    draw = _images if original.ndim == 4 else _signals
    alt = (
        f"{count(rows, kind)} from the training data, each followed by {count(columns, 'copy', 'copies')} under "
        "transformations drawn from the learned range."
    )
    return Picture(
        name="montage",
        title="What the model treats as the same",
        svg=draw(original[:rows], transformed[:rows, :columns], alt),
        alt=alt,
        caption="Left: training inputs as given. Right: copies from the learned range; outputs are averaged over them.",
        wide=True,
    )


def _images(original: np.ndarray, transformed: np.ndarray, alt: str) -> str:
    low, high = (0.0, 1.0) if original.min() >= -0.01 and original.max() <= 1.01 else (original.min(), original.max())

    def show(image: np.ndarray) -> np.ndarray:
        channels = (
            image if image.shape[0] == 3 else np.repeat(image[:1] if image.shape[0] < 3 else image.mean(0)[None], 3, 0)
        )
        return np.clip((channels.transpose(1, 2, 0) - low) / max(high - low, 1e-12), 0, 1)

    rows, columns = transformed.shape[:2]
    aspect = original.shape[2] / original.shape[3]
    tile = min(_WIDTH / (1 + _LEAD + columns * (1 + _GAP)), 84)
    step_x, step_y, top = tile * (1 + _GAP), tile * (aspect + _GAP), 24.0
    width = tile * (1 + _LEAD) + columns * step_x
    with drawing(top + rows * step_y, width, left=0, right=0, bottom=0, top=0) as (figure, axes):
        axes.set(xlim=(0, width), ylim=(top + rows * step_y, 0))
        axes.axis("off")
        axes.text(0, 12, "as given", color=MUTED, va="center")
        axes.text(tile * (1 + _LEAD), 12, "copies under the learned transformations", color=MUTED, va="center")
        for i in range(rows):
            for j in range(columns + 1):
                image = show(original[i] if j == 0 else transformed[i, j - 1])
                x = 0.0 if j == 0 else tile * (1 + _LEAD) + (j - 1) * step_x
                y = top + i * step_y
                axes.imshow(image, extent=(x, x + tile, y + tile * aspect, y), interpolation="none", aspect="auto")
        axes.set(xlim=(0, width), ylim=(top + rows * step_y, 0))
        return svg(figure, "montage", alt)


def _signals(original: np.ndarray, transformed: np.ndarray, alt: str) -> str:
    rows, height, top = len(original), 96.0, 24.0
    with style():
        figure = canvas(top + rows * height, _WIDTH)
        for i in range(rows):
            axes = panel(figure, left=0, right=0, bottom=(rows - 1 - i) * height + 6, top=top + i * height)
            axes.axis("off")
            if i == 0:
                axes.set_title("as given (dark) and copies under the learned transformations", color=MUTED)
            for copy in transformed[i]:
                axes.plot(copy[0], color=ACCENT, linewidth=1, alpha=0.35)
            axes.plot(original[i, 0], color=INK, linewidth=1.6)
        return svg(figure, "montage", alt)
