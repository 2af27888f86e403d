"""Gains of augmentations with their intervals, a line an extent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from novacula.reporting.advice.words import spoken
from novacula.reporting.figures.base import ACCENT, INK, MUTED, RULE, SECOND, Picture, canvas, panel, quiet, style, svg

_TONES = {"needed": ACCENT, "harmful": SECOND, "no effect": INK, "undecided": MUTED}
_LINE, _LEFT, _WIDTH = 22.0, 250.0, 880.0


def gains(record: Mapping[str, Any], names: Sequence[str]) -> Picture | None:
    """Draw the gain of each transformation at each extent, with its interval."""
    found = [
        (name, s)
        for name in names
        for s in record["verdicts"][name]["strengths"]
        if all(isinstance(v, (int, float)) for v in (s["gain"], *s["interval"]))
    ]
    if not found:
        return None
    alt = "Gains in loss on unseen images of each transformation at each extent, with intervals."
    reach = 1.15 * max(0.05, *(abs(s["gain"]) for _, s in found))
    with style():
        figure = canvas(_LINE * len(found) + 56, _WIDTH)
        axes = panel(figure, left=_LEFT, right=24, bottom=44, top=8)
        axes.axvline(0, color=RULE, linewidth=1.4)
        for i, (_, s) in enumerate(found):
            low, high = (min(max(v, -reach), reach) for v in s["interval"])
            tone = _TONES[s["verdict"]]
            axes.plot([low, high], [i, i], color=tone, linewidth=2, solid_capstyle="butt")
            axes.plot([s["gain"]], [i], "o", color=tone, markersize=6)
        axes.set(ylim=(len(found) - 0.4, -0.6), xlim=(-reach, reach))
        axes.set_yticks(range(len(found)), [f"{spoken(name, s['extent'])}" for name, s in found])
        axes.set_xlabel("gain in nats an example: left of 0 harmful, right of 0 helpful")
        quiet(axes, grid=False)
        return Picture(
            name="gains",
            title="What training with each transformation does",
            svg=svg(figure, "gains", alt),
            alt=alt,
            caption="Points: the paired gain on images that were not trained on. Bars: its interval, cut at the frame.",
            wide=True,
        )
