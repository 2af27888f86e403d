"""Do the chains of a sampler see the same distribution: the log-density along each, and the ranks each one takes.

References:
    Rank-normalization, folding, and localization: an improved R̂ for assessing convergence of MCMC. A. Vehtari,
    A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, 2021. arXiv:1903.08008 (rank plots).
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from novacula.diagnostics.scores import evenly, rank_counts
from novacula.reporting.figures import base
from novacula.reporting.figures.histograms import steps
from novacula.reporting.words.numbers import count, number

MOST_CHAINS = 8
"""Chains that are shown."""
_POINTS = 250  # of a chain, along its trace
_COLOURS = (base.ACCENT, base.SECOND, base.MUTED, base.INK)
_FEWEST = 10  # draws of a chain, below which ranks say nothing


def trace(log_density: np.ndarray) -> base.Picture | None:
    """The log-density along each chain; log_density ``(M, K)``."""
    if log_density.ndim != 2 or log_density.shape[1] < 4 or not np.isfinite(log_density).all():
        return None
    (m, k), values = log_density.shape, log_density.astype(float)
    shown = min(m, MOST_CHAINS)
    half = values[:, k // 2 :].mean(1)
    alt = f"Log-density along {count(m, 'chain')} of {k:,} draws. Means over the second half, in nats: " + ", ".join(
        number(float(v), 1) for v in half
    )
    with base.drawing(250, left=74, right=34 if shown > 1 else 16, top=26) as (figure, axes):
        at = evenly(k, _POINTS)
        for i in range(shown):
            axes.plot(at + 1, values[i, at], color=_COLOURS[i % 4], linewidth=0.9, alpha=0.8)
        axes.set(xlim=(1, k), xlabel="draw kept")
        axes.set_xticks([t for t in (1, *np.linspace(0, k, 5)[1:].round()) if t <= k])
        _plain_ticks(axes)
        base.quiet(axes, "log-density, nats")
        if shown > 1:
            low, high = axes.get_ylim()
            ends = [(float(values[i, -1]), str(i + 1), _COLOURS[i % 4]) for i in range(shown)]
            base.direct_labels(axes, ends, x=k, gap=0.08 * (high - low))
        caption = (
            "The chains should run level and over each other. A trend says that they had not arrived; levels of their "
            "own, that each saw another part of the posterior."
        )
        caption += " Numbers name the chains" if shown > 1 else ""
        caption += f"; the first {shown} of {m} are shown." if shown < m else ("." if shown > 1 else "")
        return base.Picture("trace", "Log-density along the chains", base.svg(figure, "trace", alt), f"{alt}.", caption)


def rank_plot(log_density: np.ndarray) -> base.Picture | None:
    """For each chain a histogram of the ranks of its log-densities among those of all chains."""
    if log_density.ndim != 2 or not np.isfinite(log_density).all():
        return None
    m, k = log_density.shape
    if m < 2 or k < _FEWEST or np.ptp(log_density) == 0:
        return None
    bins = min(20, max(5, k // 8))
    counts = rank_counts(log_density, bins)
    shown = min(m, MOST_CHAINS)
    expected, peak = k / bins, 1.05 * max(int(counts[:shown].max()), 1)
    far = np.abs(counts / k - 1 / bins).sum(1) / 2
    alt = (
        f"Rank plots of the log-density of {m} chains in {bins} bins. Share of draws out of place, by chain: "
        + ", ".join(f"{100 * f:.0f} percent" for f in far)
    )
    rows = math.ceil(shown / 2)
    height, gap, top, bottom = 62, 26, 24, 40
    total = top + bottom + rows * height + (rows - 1) * gap
    with base.style():
        figure = base.canvas(total)
        for i in range(shown):
            row, column = divmod(i, 2)
            over = top + row * (height + gap)
            axes = base.panel(
                figure,
                left=12 + column * 208,
                right=208 * (1 - column) + 12,
                top=over,
                bottom=total - over - height,
            )
            edges = np.linspace(0, 1, bins + 1)
            steps(axes, counts[i], edges, base.ACCENT)
            axes.axhline(expected, color=base.MUTED, linewidth=1, linestyle=(0, (4, 3)))
            axes.set(xlim=(0, 1), ylim=(0, peak), yticks=[], xticks=[])
            base.quiet(axes, f"chain {i + 1}", grid=False)
            axes.set_title(f"chain {i + 1}", color=base.MUTED, pad=5)
            if i + 2 >= shown:
                axes.set_xticks([0, 1], ["lowest", "highest"])
                for text, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
                    text.set_horizontalalignment(side)
        caption = (
            "How often each chain’s draws take the low and the high ranks among all draws. Chains that sample one "
            "distribution follow the dashed line, but for chance; a slope or a hump is a chain that saw another part."
        )
        caption += f" The first {shown} of {m} chains are shown." if shown < m else ""
        return base.Picture("ranks", "Ranks of the log-density", base.svg(figure, "ranks", alt), f"{alt}.", caption)


def _plain_ticks(axes: Axes) -> None:
    # Whole numbers with thousands apart, where matplotlib would factor out an offset.
    low, high = axes.get_ylim()
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9)))
    step *= next(f for f in (0.2, 0.5, 1, 2, 5) if (high - low) / (f * step) <= 5)
    ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    axes.set_yticks(ticks, [number(float(t), digits) for t in ticks])
    axes.set_ylim(low, high)
