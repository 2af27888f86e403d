"""R-hat and effective sample sizes of everything that was examined: how many are good, and how bad the worst are.

References:
    Rank-normalization, folding, and localization: an improved R̂ for assessing convergence of MCMC. A. Vehtari,
    A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, 2021. arXiv:1903.08008 (the limit 1.01).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from novacula.diagnostics.scores import binned
from novacula.reporting.figures import base
from novacula.reporting.figures.histograms import steps
from novacula.reporting.words.diagnosis import AIM_ESS, AIM_RHAT, LEAST_ESS, MOST_RHAT, rhat_text
from novacula.reporting.words.numbers import count, percent, significant

_HEIGHT = 250
_LOWEST = 1e-3  # R-hat − 1 of the first bin's right edge at most; below that differences are chance
_STEP = math.log10((MOST_RHAT - 1) / (AIM_RHAT - 1)) / 3  # so that both marks are edges of bins


def rhats(rhat: np.ndarray) -> base.Picture | None:
    """How R-hat is distributed over what was examined, by its distance from 1 on a logarithmic axis; rhat ``(Q,)``."""
    known = rhat[~np.isnan(rhat)].astype(float)
    if len(known) < 2:
        return None
    good, bad = float((known <= AIM_RHAT).mean()), float((known > MOST_RHAT).mean())
    above = known[np.isfinite(known)].max(initial=MOST_RHAT)
    start, aim = math.log10(_LOWEST), math.log10(AIM_RHAT - 1)
    first = math.floor((start - aim) / _STEP)
    last = max(math.ceil((math.log10(above - 1) + 1e-9 - aim) / _STEP), 6)
    edges = aim + _STEP * np.arange(first, last + 1)
    excess = np.log10(np.clip(known - 1, 10 ** edges[0], 10 ** edges[-1]))
    # Left edges belong to their bins, but a value at a mark has not passed it.
    counts = np.bincount(binned(excess - 1e-9, edges), minlength=len(edges) - 1)
    many = count(len(known), "quantity", "quantities")
    alt = (
        f"Distribution of R-hat over {many}: {percent(good)} at most {AIM_RHAT}, {percent(bad)} above {MOST_RHAT}, the "
        f"largest {rhat_text(float(known.max()))}."
    )
    with base.drawing(_HEIGHT, left=52, right=16, top=26) as (figure, axes):
        limit = math.log10(MOST_RHAT - 1) - 1e-6
        for colour, mask in ((base.ACCENT, edges[:-1] < limit), (base.SECOND, edges[:-1] >= limit)):
            steps(axes, np.where(mask, counts, 0), edges, colour)
        _marks(axes, [(aim, f"{AIM_RHAT}", "right"), (math.log10(MOST_RHAT - 1), f"{MOST_RHAT}", "left")])
        ticks = [
            t for t in (1.001, 1.003, 1.01, 1.05, 1.2, 2, 5, 20, 100) if edges[0] <= math.log10(t - 1) <= edges[-1]
        ]
        axes.set_xticks([math.log10(t - 1) for t in ticks], [f"{t:g}" for t in ticks])
        axes.set(xlim=(edges[0], edges[-1]), xlabel="R-hat (distance from 1 on a log scale)")
        _counted(axes, counts)
        base.quiet(axes, "quantities")
        caption = (
            f"R-hat compares the spread between chains with that within them; 1 is agreement. {percent(good)} of "
            f"{many} are at most {AIM_RHAT}, {percent(bad)} above {MOST_RHAT}, where chains disagree."
        )
        if missing := len(rhat) - len(known):
            left = "that does not vary is" if missing == 1 else "that do not vary are"
            caption += f" {count(missing, 'quantity', 'quantities')} {left} left out."
        return base.Picture("rhat", "R-hat", base.svg(figure, "rhat", alt), alt, caption)


def sizes(bulk: np.ndarray, tail: np.ndarray | None = None) -> base.Picture | None:
    """How effective sample sizes are distributed over what was examined, on a logarithmic axis."""
    series = [("bulk", bulk, base.ACCENT), *([("tail", tail, base.SECOND)] if tail is not None else [])]
    known = [(name, v[np.isfinite(v) & (v > 0)].astype(float), colour) for name, v, colour in series]
    known = [(name, v, colour) for name, v, colour in known if len(v) >= 2]
    if not known or known[0][0] != "bulk":
        return None
    every = np.log10(np.concatenate([v for _, v, _ in known]))
    low = min(math.floor(10 * every.min()) / 10, math.log10(LEAST_ESS)) - 0.1
    high = max(math.ceil(10 * every.max()) / 10, math.log10(AIM_ESS)) + 0.1
    edges = np.linspace(low, high, 25)
    said = "; ".join(
        f"{name}: smallest {significant(v.min())}, median {significant(np.median(v))}" for name, v, _ in known
    )
    alt = f"Effective sample sizes of {count(len(known[0][1]), 'quantity', 'quantities')}: {said}."
    with base.drawing(_HEIGHT, left=52, right=16, top=26) as (figure, axes):
        drawn = [np.bincount(binned(np.log10(v), edges), minlength=24) for _, v, _ in known]
        for i, ((_, _, colour), counts) in enumerate(zip(known, drawn, strict=True)):
            steps(axes, counts, edges, colour, fill=i == 0)
        _marks(axes, [(math.log10(LEAST_ESS), f"{LEAST_ESS}", "right"), (math.log10(AIM_ESS), f"{AIM_ESS}", "left")])
        ticks = base.log_ticks(low, high)
        axes.set_xticks([math.log10(t) for t in ticks], base.tick_texts(ticks))
        axes.set(xlim=(low, high), xlabel="independent draws they are worth (log scale)")
        _counted(axes, np.maximum.reduce(drawn))
        base.quiet(axes, "quantities")
        if len(known) > 1:
            axes.annotate("— bulk", (1, 1), (-52, 10), "axes fraction", "offset points", color=base.ACCENT, ha="right")
            axes.annotate("— tail", (1, 1), (0, 10), "axes fraction", "offset points", color=base.SECOND, ha="right")
        caption = (
            "Draws of a chain resemble each other; so many independent ones would be as good. Bulk: for the centre of "
            f"each distribution; tail: for its 5\u00a0% and 95\u00a0% quantiles. {AIM_ESS} is what one wants, below "
            f"{LEAST_ESS} summaries are uncertain."
        )
        return base.Picture("ess", "Effective sample size", base.svg(figure, "ess", alt), alt, caption)


def _marks(axes: Axes, marks: Sequence[tuple[float, str, str]]) -> None:
    for place, text, side in marks:
        axes.axvline(place, color=base.INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            text,
            (place, 1),
            (-4 if side == "right" else 4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha=side,
            va="top",
            color=base.MUTED,
            fontsize=10.5,
        )


def _counted(axes: Axes, counts: np.ndarray) -> None:
    # Whole counts, with room above the highest bar for the marks' labels.
    peak = max(int(counts.max()), 1)
    step = next(m * 10**e for e in range(9) for m in (1, 2, 5) if peak / (m * 10**e) <= 4)
    ticks = list(range(0, peak + 1, step))
    axes.set_ylim(0, 1.16 * peak)
    axes.set_yticks(ticks, [f"{t:,}" for t in ticks])
