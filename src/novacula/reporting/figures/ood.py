"""Whether inputs of another kind look strange to the model: its doubt on test data and on foreign inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from novacula.reporting.figures.base import INK, MUTED, SECOND, Picture, style, svg
from novacula.reporting.figures.histograms import Group, edges_of, histogram, stacked
from novacula.reporting.words.numbers import number, percent

_BINS = 32
_HEIGHT = 104
_USUAL = 0.95
_SCORES = {
    "entropy": "entropy of the prediction, nats",
    "max_probability": "1 − largest probability",
    "epistemic": "information about the weights, nats",
    "energy": "energy, −log Σ exp of the outputs",
}


def ood(usual: np.ndarray, foreign: np.ndarray, found: Mapping[str, Any] | None = None) -> Picture | None:
    """Histograms of a score on test and foreign inputs; usual ``(N,)``, foreign ``(n,)``."""
    usual, foreign, found = usual.ravel().astype(float), foreign.ravel().astype(float), found or {}
    if not usual.size or not foreign.size or not (np.isfinite(usual).all() and np.isfinite(foreign).all()):
        return None
    name = str(found.get("name") or "foreign inputs")
    # The smallest score that lets in 95 % of the test inputs.
    limit = float(np.sort(usual)[-(-19 * len(usual) // 20) - 1])
    passed = float((foreign <= limit).mean())
    numbers = _numbers(found)
    let_in = f"where 95\u00a0% of the test data pass as usual, {percent(passed)} of {name} do too"
    alt = f"Histograms of how strange {len(usual):,} test inputs and {len(foreign):,} inputs of {name} look: {let_in}."
    alt += f" {numbers}" if numbers else ""
    score = str(found.get("score") or "")
    low = float(min(usual.min(), foreign.min()))
    # From zero where the values reach down there; an entropy of a density may be negative, or far from it.
    near = 0 <= low < 0.25 * float(max(usual.max(), foreign.max()))
    edges = edges_of([usual, foreign], _BINS, 0.0 if near else None)
    with style():
        figure, (upper, lower) = stacked(2, _HEIGHT)
        histogram(upper, Group(f"test data ({len(usual):,})", usual), edges, labelled=False)
        histogram(lower, Group(f"{_short(name)} ({len(foreign):,})", foreign, SECOND), edges, labelled=True)
        for axes in (upper, lower):
            axes.axvline(limit, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        _note(upper, f"{percent(_USUAL)} left of the line")
        _note(lower, f"{percent(passed)} left of the line")
        lower.set_xlabel(_SCORES.get(score, score.replace("_", " ") or "strangeness"))
        caption = f"Further right is stranger; foreign inputs should lie there. At the dashed line, {let_in}. {numbers}"
        return Picture("ood", "Inputs of another kind", svg(figure, "ood", alt), alt, caption.strip())


def _numbers(found: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if (area := found.get("auroc")) is not None:
        parts.append(f"AUROC {number(area)} (0.5 is a coin’s, 1 separates them wholly)")
    if (share := found.get("fpr95")) is not None:
        parts.append(f"FPR95 {number(share)}")
    return f"{', '.join(parts)}." if parts else ""


def _note(axes: Axes, text: str) -> None:
    # Above the panel, across from its title: nothing is drawn there.
    axes.annotate(text, (1, 1), (0, 7), "axes fraction", "offset points", ha="right", color=MUTED)


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"
