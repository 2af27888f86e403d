"""How probable functions are, by rank, beside Zipf's line."""

from __future__ import annotations

import math

import numpy as np

from novacula.reporting.figures import base
from novacula.reporting.words.numbers import percent, significant

_POINTS = 300  # of a logarithmic axis


def ranks(counts: np.ndarray, n: int, inputs: int, classes: int) -> base.Picture:
    """Probability by rank of functions drawn: counts ``(F,)`` in decreasing order, of n draws on N inputs."""
    rank = np.unique(np.geomspace(1, len(counts), _POINTS).round().astype(int))
    p = counts[rank - 1] / n
    zipf = 1 / (rank * inputs * math.log(max(classes, 2)))
    once = int((counts == 1).sum())
    alt = (
        f"Probability of functions by rank. The first has {significant(float(p[0]))}; "
        f"{len(counts):,} were drawn, {once:,} of them once."
    )
    with base.drawing(330, left=72, top=26, right=22) as (figure, axes):
        axes.set(xscale="log", yscale="log", xlabel="rank")
        axes.plot(rank, zipf, color=base.MUTED, linewidth=1.0)
        axes.plot(rank, p, color=base.ACCENT, marker="o", markersize=2.5, linewidth=1.2)
        if once:
            axes.axhline(1 / n, color=base.SECOND, linewidth=1.0)
        low, high = math.log10(0.4 / n), math.log10(1.6)
        axes.set_ylim(10**low, 10**high)
        axes.set_yticks(up := base.log_ticks(low, high), base.tick_texts(up))
        axes.set_xticks(across := base.log_ticks(0.0, max(1.0, math.log10(len(counts)))), base.tick_texts(across))
        axes.minorticks_off()
        base.quiet(axes, "probability")
        entries = [
            ("functions drawn", base.ACCENT),
            ("Zipf’s line", base.MUTED),
            *([("drawn once", base.SECOND)] if once else []),
        ]
        for row, (text, colour) in enumerate(entries):
            axes.annotate(
                f"— {text}", (1, 1), (-8, -10 - 17 * row), "axes fraction", "offset points", color=colour, ha="right"
            )
        caption = (
            f"Each point is a function that {n:,} networks drawn at random compute on {inputs} inputs. Zipf’s line is "
            f"what would hold if probability fell as one over the rank among all {classes}^{inputs} functions. "
            f"{percent(once / n)} of the draws were of functions drawn once: below that line counting says nothing."
        )
        return base.Picture("ranks", "Functions by rank", base.svg(figure, "ranks", alt), alt, caption)
