"""How probable each function is under the posterior and among trained networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from novacula.reporting.figures import base
from novacula.reporting.words.numbers import percent

_ABSENT = 0.35  # of one draw: where functions stand that a sample does not hold


def trained(bayes: np.ndarray, nets: np.ndarray, beyond: Sequence[int]) -> base.Picture:
    """Probabilities of functions: draws of the posterior ``(F,)`` and networks ``(K, F)`` at the stop and beyond."""
    total = int(bayes.sum())
    shown = [(0, base.ACCENT, "o"), (len(nets) - 1, base.SECOND, "D")][: min(2, len(nets))]
    names = ["at the stop", f"{beyond[-1]} epochs later"]
    missed = 1 - bayes[nets[0] > 0].sum() / total
    alt = (
        f"Probabilities of {len(bayes):,} functions, under the posterior and among trained networks. Functions that no "
        f"network found at the stop hold {percent(float(missed))} of the posterior."
    )
    with base.drawing(380, left=72, top=26, right=22) as (figure, axes):
        axes.set(xscale="log", yscale="log", xlabel="probability under the posterior")
        low = math.log10(_ABSENT * 0.6 / max(total, nets[0].sum()))
        axes.plot([10**low, 1.5], [10**low, 1.5], color=base.MUTED, linewidth=1.0)
        for row, colour, marker in shown:
            there = (bayes > 0) | (nets[row] > 0)
            x = np.maximum(bayes[there], _ABSENT) / total
            y = np.maximum(nets[row][there], _ABSENT) / nets[row].sum()
            axes.plot(x, y, marker, color=colour, markersize=3.5, alpha=0.6, linestyle="none", markeredgewidth=0)
        axes.set(xlim=(10**low, 1.6), ylim=(10**low, 1.6))
        ticks = base.log_ticks(low, math.log10(1.6))
        axes.set_xticks(ticks, base.tick_texts(ticks))
        axes.set_yticks(ticks, base.tick_texts(ticks))
        axes.minorticks_off()
        base.quiet(axes, "share of trained networks")
        for place, ((_, colour, marker), name) in enumerate(zip(shown, names, strict=False)):
            text = f"{'●◆'[marker == 'D']} {name}"
            axes.annotate(text, (0, 1), (8, -10 - 17 * place), "axes fraction", "offset points", color=colour)
        caption = (
            "Each mark is a function on the held-out examples. On the line it is as probable among trained networks as "
            "under the posterior. Marks along the left and lower edges are functions that only one of both samples "
            f"holds: a correlation over the others does not see them. {percent(float(missed))} of the posterior is on "
            "functions that no network found at the stop."
        )
        return base.Picture(
            "trained", "Trained networks and the posterior", base.svg(figure, "trained", alt), alt, caption
        )
