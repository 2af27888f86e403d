"""Loss, evidence and extents along training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from novacula.reporting.figures import base
from novacula.reporting.words.extents import meaning
from novacula.reporting.words.numbers import number
from novacula.runs.catalogue.models import Extent

History = Sequence[Mapping[str, Any]]
_HEIGHT = 232
_COLOURS = (base.ACCENT, base.SECOND, base.MUTED, base.INK)


def series(history: History, key: str) -> np.ndarray:
    """One quantity along training."""
    return np.array([math.nan if e.get(key) is None else float(e[key]) for e in history], dtype=float)


def loss(history: History) -> base.Picture | None:
    """The training loss."""
    return _curve(
        history,
        "loss",
        "Training loss",
        "nats per example",
        "The negative log-posterior per example, averaged over each epoch.",
    )


def evidence(history: History) -> base.Picture | None:
    """The evidence that learning climbs."""
    return _curve(
        history,
        "evidence",
        "Log evidence during training",
        "nats per example",
        "The estimate that is climbed, from random subsets of the training data: its trend shows learning. The final "
        "score uses another estimator, and the two do not compare.",
    )


def extents(history: History, record: Mapping[str, Any] | None = None) -> list[base.Picture]:
    """Learned extents, one figure for each group."""
    if len(history) < 2:
        return []
    groups: dict[str, dict[str, Extent]] = {}
    for name in dict.fromkeys(k.removeprefix("extent/") for e in history for k in e if k.startswith("extent/")):
        entry = meaning(name, record)
        if entry.shown:
            groups.setdefault(entry.group or entry.label, {})[name] = entry
    return [_extents(history, title, found) for title, found in groups.items()]


def _unit(entries: list[Extent]) -> str:
    units = {e.unit for e in entries}
    whole = " or ".join(dict.fromkeys(e.of for e in entries)).strip()
    words = {"degrees": "degrees", "percent": f"% {whole}".strip(), "factor": "log factor"}
    word = words.get(units.pop(), "extent") if len(units) == 1 else "extent"
    return f"{word} (±)" if all(e.symmetric for e in entries) else word


def _extents(history: History, title: str, found: Mapping[str, Extent]) -> base.Picture:
    epochs, unit = _epochs(history), _unit([*found.values()])
    lines = [(n, entry, _scaled(entry, unit, series(history, f"extent/{n}"))) for n, entry in found.items()]
    alt = f"Extent along training, in {unit}: " + "; ".join(
        f"{m.label} ends at {number(_last(v), 2)}" for _, m, v in lines
    )
    name = "extent-" + title.replace(" ", "-").replace(",", "")
    with base.drawing(_HEIGHT, right=122 if len(lines) > 1 else 16, top=26) as (figure, axes):
        _frame(axes, epochs, unit)
        for (_, _, values), colour in zip(lines, _cycle(len(lines)), strict=True):
            _draw(axes, epochs, values, colour)
        peak = max((float(np.nanmax(v)) for _, _, v in lines if np.isfinite(v).any()), default=0.0)
        if unit.startswith("degrees") and peak <= 180:
            axes.set(ylim=(0, 188), yticks=[0, 45, 90, 135, 180])
        else:
            axes.set_ylim(0, max(1.1 * peak, 5.0 if unit.startswith("%") else 0.12))
        if len(lines) > 1:
            ends = [(_last(v), m.label, c) for (_, m, v), c in zip(lines, _cycle(len(lines)), strict=True)]
            low, high = axes.get_ylim()
            base.direct_labels(
                axes, [e for e in ends if math.isfinite(e[0])], x=float(epochs[-1]), gap=0.09 * (high - low)
            )
        return base.Picture(name, title[0].upper() + title[1:], base.svg(figure, name, alt), alt, "")


def _scaled(entry: Extent, unit: str, values: np.ndarray) -> np.ndarray:
    return values if unit.startswith("extent") and entry.unit != "plain" else entry.scale * values


def _curve(history: History, key: str, title: str, unit: str, caption: str) -> base.Picture | None:
    values, epochs = series(history, key), _epochs(history)
    if np.isfinite(values).sum() < 2:
        return None
    first = values[np.isfinite(values)][0]
    alt = f"{title}: from {number(float(first))} to {number(_last(values))} {unit} over {len(values)} epochs."
    with base.drawing(_HEIGHT, right=16, top=26, left=56) as (figure, axes):
        _frame(axes, epochs, unit)
        _draw(axes, epochs, values, base.ACCENT)
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        pad = 0.08 * max(high - low, 1e-3 * max(abs(high), 1e-3))
        axes.set_ylim(low - pad, high + pad)
        return base.Picture(key, title, base.svg(figure, key, alt), alt, caption)


def _frame(axes: Axes, epochs: np.ndarray, unit: str) -> None:
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.set(xlim=(min(float(epochs[0]), 1.0), max(float(epochs[-1]), float(epochs[0]) + 1)), xlabel="epoch")
    axes.set_xticks(ticks(math.ceil(epochs[0]), float(epochs[-1])))
    axes.set_title(unit, color=base.MUTED, pad=4)


def ticks(first: float, last: float) -> list[float]:
    """Epochs to label: the first, and round numbers up to the last.

    Returns:
        At most six epochs.

    Example:
        >>> ticks(1.0, 24.0)
        [1.0, 6.0, 12.0, 18.0, 24.0]
    """
    steps = [m * 10**k for k in range(7) for m in (1, 2, 3, 4, 5, 6)]
    fitting = [s for s in steps if last / s <= 5]
    even = [s for s in fitting if last % s == 0 and last / s >= 3]
    step = (even or fitting)[0]
    return [first, *(float(t) for t in range(step, int(last) + 1, step) if t - first > 0.4 * step)]


def _draw(axes: Axes, epochs: np.ndarray, values: np.ndarray, colour: str) -> None:
    axes.plot(epochs, values, color=colour, clip_on=False)
    finite = np.flatnonzero(np.isfinite(values))
    if finite.size:
        axes.plot(epochs[finite[-1]], values[finite[-1]], "o", color=colour, markersize=5, clip_on=False)


def _epochs(history: History) -> np.ndarray:
    return np.array([float(e.get("epoch") or i + 1) for i, e in enumerate(history)])


def _last(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if finite.size else math.nan


def _cycle(n: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(n)]
