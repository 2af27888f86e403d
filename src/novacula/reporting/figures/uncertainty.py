"""How unsure the predictions are, whether the wrong ones are more so, and how much of it more data could remove."""

from __future__ import annotations

import math

import numpy as np

from novacula.diagnostics.scores import binned
from novacula.reporting.figures.base import ACCENT, MUTED, SECOND, Picture, style, svg
from novacula.reporting.figures.histograms import Group, edges_of, finish, histogram, stacked, steps
from novacula.reporting.words.numbers import count, number, percent

_BINS = 24
_HEIGHT = 84


def uncertainty(
    total: np.ndarray, epistemic: np.ndarray | None, hit: np.ndarray | None, classes: int | None = None
) -> Picture | None:
    """Entropies of the predictions, and the part of them that is about the weights."""
    total = total.ravel().astype(float)
    known = epistemic is not None and epistemic.size == total.size and bool(np.isfinite(epistemic).all())
    part = np.clip(epistemic.ravel().astype(float), 0, None) if epistemic is not None and known else None
    if not total.size or not np.isfinite(total).all() or (hit is not None and hit.shape != total.shape):
        return None
    groups = _groups(total, hit)
    edges = edges_of([total], _BINS, 0.0 if hit is not None else None)
    caption, alt = _words(total, part, hit, classes)
    with style():
        figure, panels = stacked(len(groups) + (part is not None), _HEIGHT)
        for i, (axes, group) in enumerate(zip(panels, groups, strict=False)):
            histogram(axes, group, edges, labelled=part is None and i == len(groups) - 1)
        if part is not None:
            axes, index = panels[-1], binned(total, edges)
            inside, own = (np.bincount(index, weights=v, minlength=_BINS) for v in (total, part))
            counts = np.bincount(index, minlength=_BINS)
            # A share of an entropy makes sense for classes; a density's entropy may be negative.
            values = own / np.maximum(inside if hit is not None else counts, 1e-300)
            values = np.where(counts > 0, values, 0.0)
            steps(axes, values, edges, ACCENT)
            axes.set(xlim=(edges[0], edges[-1]))
            if hit is not None:
                axes.set_ylim(0, 1.04)
                axes.set_yticks([0, 0.5, 1], ["0", "50\u00a0%", "100\u00a0%"])
            else:
                axes.set_ylim(0, 1.08 * max(float(values.max()), 1e-3))
            title = "epistemic share of the entropy" if hit is not None else "epistemic part, nats"
            finish(axes, title, MUTED, labelled=True)
        panels[-1].set_xlabel("entropy of the prediction, nats")
        return Picture("uncertainty", "Total and epistemic uncertainty", svg(figure, "uncertainty", alt), alt, caption)


def _groups(total: np.ndarray, hit: np.ndarray | None) -> list[Group]:
    if hit is None:
        return [Group("test predictions", total)]
    right = hit.astype(bool)
    groups = [
        Group(f"right predictions ({right.sum():,})", total[right]),
        Group(f"wrong predictions ({(~right).sum():,})", total[~right], SECOND),
    ]
    return [g for g in groups if len(g.values)]


def _words(total: np.ndarray, part: np.ndarray | None, hit: np.ndarray | None, classes: int | None) -> tuple[str, str]:
    # Caption and text alternative.
    alt = f"Entropy of {count(len(total), 'test prediction')}: median {number(float(np.median(total)))} nats"
    caption = "The entropy of each predictive distribution, noise included; lower is surer. " if hit is None else ""
    if hit is not None:
        right = hit.astype(bool)
        sizes = " and ".join(
            f"{number(float(np.median(total[m])))} nats for {name}"
            for name, m in (("right", right), ("wrong", ~right))
            if m.any()
        )
        bound = f"; {number(math.log(classes), 2)} would be a guess among {classes} classes" if classes else ""
        caption = f"0 is certain{bound}. Wrong predictions should lie further right; the median is {sizes}. "
        alt += f"; {sizes}"
    if part is not None:
        caption += (
            "Epistemic is what the weights leave open and more data could settle; the rest is noise in the answers"
        )
        if hit is not None:
            said = f"{percent(float(part.sum() / max(total.sum(), 1e-300)))} of all entropy is epistemic"
        else:
            said = f"it is {number(float(part.mean()))} nats on average"
        caption += f". Over all, {said}."
        alt += f"; {said}"
    return caption.strip(), f"{alt}."
