"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from novacula.diagnostics.scores import confusion as count_confusions
from novacula.reporting.figures import base
from novacula.reporting.words.numbers import listing

_WRITTEN = 12  # up to this many classes the counts are written into the cells
_NAMED = 30
_LARGEST = 300


def confusion(mean: np.ndarray, y: np.ndarray, classes: Sequence[str] | None = None) -> base.Picture | None:
    """The confusion matrix of test predictions; mean ``(N, C)``, y ``(N,)``."""
    if y.ndim != 1 or mean.ndim != 2 or not len(mean) or not 2 <= mean.shape[1] <= _LARGEST:
        return None
    counts = count_confusions(mean, y)
    c = len(counts)
    names = [str(n) for n in classes] if classes and len(classes) == c else [str(i) for i in range(c)]
    wrong = counts - np.diag(np.diag(counts))
    worst = [divmod(int(i), c) for i in np.argsort(-wrong, axis=None, kind="stable")[:3] if wrong.flat[i] > 0]
    pairs = [f"{names[i]} taken for {names[j]} ({wrong[i, j]})" for i, j in worst]
    alt = f"Confusion matrix of {c} classes: {int(np.trace(counts))} of {len(y)} right. " + (
        f"Most frequent errors: {listing(pairs)}." if pairs else "No errors."
    )
    with base.style():
        longest = max(len(_short(n)) for n in names) if c <= _NAMED else 0
        left = 34 + 6.4 * max(longest, 2)
        figure = base.canvas(430)
        side = min(420 - left - 8, 430 - 62 - 26)
        axes = base.panel(figure, left=left, right=420 - left - side, bottom=430 - 26 - side, top=26)
        axes.set(xlim=(-0.5, c - 0.5), ylim=(c - 0.5, -0.5), xlabel="predicted", ylabel="true")
        _raster(axes, counts, wrong) if c * c > base.MANY_MARKS else _cells(axes, counts, wrong)
        if c <= _NAMED:
            upright = c * 6.4 * max(len(_short(n)) for n in names) < side * 1.4 and longest <= 6
            axes.set_xticks(range(c), [_short(n) for n in names], rotation=0 if upright else 90)
            axes.set_yticks(range(c), [_short(n) for n in names])
        axes.tick_params(length=0, labelcolor=base.INK)
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(base.RULE)
        caption = (
            "Test examples; right ones on the diagonal, shaded by their share of the class, errors up to the largest. "
        )
        caption += f"Most frequent: {listing(pairs)}." if pairs else "There are no errors."
        return base.Picture("confusion", "Confusion", base.svg(figure, "confusion", alt), alt, caption)


def _shades(counts: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shade = np.where(wrong > 0, 0.12 + 0.75 * wrong / max(int(wrong.max()), 1), 0.0)
    np.fill_diagonal(shade, 0.9 * np.diag(share))
    return shade


def _cells(axes: object, counts: np.ndarray, wrong: np.ndarray) -> None:
    c, shade = len(counts), _shades(counts, wrong)
    for i, j in zip(*np.nonzero(counts), strict=True):
        colour = base.ACCENT if i == j else base.SECOND
        cell = Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=colour, alpha=float(shade[i, j]), linewidth=0)
        axes.add_patch(cell)  # type: ignore[attr-defined]
        if c <= _WRITTEN:
            ink = base.PAPER if shade[i, j] > 0.55 else base.INK
            axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=ink, fontsize=11)  # type: ignore[attr-defined]
    if c <= _WRITTEN:
        for k in range(1, c):
            axes.axhline(k - 0.5, color=base.RULE, linewidth=0.6)  # type: ignore[attr-defined]
            axes.axvline(k - 0.5, color=base.RULE, linewidth=0.6)  # type: ignore[attr-defined]


def _raster(axes: object, counts: np.ndarray, wrong: np.ndarray) -> None:
    image = np.empty((*counts.shape, 4))
    image[..., :3] = to_rgb(base.SECOND)
    image[np.arange(len(counts)), np.arange(len(counts)), :3] = to_rgb(base.RASTER)
    image[..., 3] = _shades(counts, wrong)
    axes.imshow(image, interpolation="none", aspect="auto", extent=(-0.5, len(counts) - 0.5, len(counts) - 0.5, -0.5))  # type: ignore[attr-defined]


def _short(name: str) -> str:
    return name if len(name) <= 11 else name[:10] + "…"
