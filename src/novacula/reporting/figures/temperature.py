"""Predictions against the posterior's temperature: a score, and how much better it is than at T = 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from novacula.reporting.figures.base import ACCENT, FAINT, INK, MUTED, PAPER, Picture, canvas, panel, style, svg
from novacula.reporting.words.numbers import significant

_HEIGHT, _SCORES = 400, 190
_NAMES = {
    "nll": "negative log-likelihood, nats an example",
    "accuracy": "accuracy",
    "brier": "Brier score",
    "ece": "expected calibration error",
    "rmse": "root mean square error",
    "crps": "CRPS",
    "loss": "loss",
}


def temperature(study: Mapping[str, Any], metric: str | None = None) -> Picture | None:
    """A score along the temperatures, above its paired difference to T = 1."""
    wanted = metric or str(study["metric"])
    rows = [r for r in study["rows"] if r["metric"] == wanted]
    if len(rows) < 2:
        return None
    alt = f"{_NAMES.get(wanted, wanted)} by temperature: " + "; ".join(
        f"{significant(r['score'])} at T = {r['temperature']:g}, {significant(r['gain'], 2)} better than at T = 1"
        for r in rows
    )
    with style():
        figure = canvas(_HEIGHT)
        upper = panel(figure, left=62, right=16, top=28, bottom=_HEIGHT - _SCORES)
        draw(upper, rows)
        upper.set_title(_NAMES.get(wanted, wanted), color=MUTED)
        upper.set_xticklabels([])
        lower = panel(figure, left=62, right=16, top=_SCORES + 34, bottom=44)
        gains(lower, rows)
        lower.set_title("better than at T = 1 by", color=MUTED)
        lower.set_xlabel("temperature of the " + str(study["which"]))
        caption = (
            f"{len(study['seeds'])} seeds (faint) and {study['n']:,} held-out examples. Above, one standard error over "
            "both; below, the same examples and seeds at two temperatures, with intervals of 95\u00a0%. Filled marks "
            "are better or worse for sure."
        )
        if study.get("underfits"):
            caption += (
                " At T = 1 the posterior predicts its own training examples worse than a colder one predicts held-out "
                "ones: it underfits, by its prior, its noise or its method."
            )
        name = f"temperature-{wanted}"
        return Picture(name, "Temperature", svg(figure, name, alt), alt, caption)


def draw(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """The score of each temperature, with one standard error, and each seed's."""
    t = [r["temperature"] for r in rows]
    for seed in zip(*(r["seeds"] for r in rows), strict=True):
        axes.plot(t, seed, color=FAINT, linewidth=1.2)
    axes.errorbar(t, [r["score"] for r in rows], [_or_nan(r["stderr"]) for r in rows], color=ACCENT, marker="o")
    _frame(axes, t)


def gains(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """How much better each temperature is than T = 1, with paired intervals."""
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for r in rows:
        sure = r["better"] or r["worse"]
        axes.errorbar(
            r["temperature"],
            r["gain"],
            0.0 if r["temperature"] == 1 else _or_nan(r["gain_reach"]),
            color=ACCENT if sure else INK,
            marker="o",
            markerfacecolor=ACCENT if sure else PAPER,
            linestyle="none",
        )
    _frame(axes, [r["temperature"] for r in rows])


def _frame(axes: Axes, t: list[float]) -> None:
    axes.set_xscale("log")
    axes.minorticks_off()
    span = math.log(max(t) / min(t))
    axes.set_xlim(min(t) * math.exp(-0.06 * span), max(t) * math.exp(0.06 * span))
    axes.set_xticks(t, [f"{v:g}" for v in t])
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
