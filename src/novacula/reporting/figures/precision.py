"""The learned prior precision of every tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping

from novacula.reporting.figures import base
from novacula.reporting.words.numbers import significant

_NAMED = 40  # above this many tensors, names would be too many to read
_LONGEST = 24


def precision(values: Mapping[str, float | None]) -> base.Picture | None:
    """One mark for each tensor, in the network's order, on a logarithmic axis."""
    found = {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v) and v > 0}
    if len(found) < 2:
        return None
    low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    ends = f"from {significant(found[low])} ({low}) to {significant(found[high])} ({high})"
    alt = f"Prior precision of {len(found)} tensors, {ends}."
    named = len(found) <= _NAMED
    step = 22.0 if named else max(4.0, 640.0 / len(found))
    with base.style():
        figure = base.canvas(68 + step * len(found))
        longest = max(len(_short(k)) for k in found) if named else 0
        axes = base.panel(figure, left=16 + 6.9 * longest if named else 40, right=18, bottom=42, top=26)
        for row, (name, value) in enumerate(found.items()):
            bias = name.rsplit(".", 1)[-1].startswith("bias")
            if named:
                axes.axhline(row, color=base.RULE, linewidth=0.8)
            axes.plot(
                [value],
                [row],
                "o",
                color=base.ACCENT,
                markersize=7,
                markerfacecolor=base.PAPER if bias else base.ACCENT,
            )
        axes.set_xscale("log")
        lowest, highest = math.log10(found[low]), math.log10(found[high])
        pad = max(0.12 * (highest - lowest), 0.15)
        axes.set(
            xlim=(10 ** (lowest - pad), 10 ** (highest + pad)),
            ylim=(len(found) - 0.4, -0.6),
            xlabel="prior precision (log scale)",
        )
        axes.tick_params(length=0, which="both")
        axes.spines["left"].set_visible(False)
        ticks = base.log_ticks(lowest - pad, highest + pad)
        axes.set_xticks(ticks, base.tick_texts(ticks))
        axes.set_xticks([], minor=True)
        if named:
            axes.set_yticks(range(len(found)), [_short(k) for k in found])
            axes.tick_params(axis="y", labelcolor=base.INK)
        else:
            axes.set_yticks([0, len(found) - 1], ["first", "last"])
        if any(n.rsplit(".", 1)[-1].startswith("bias") for n in found):
            axes.set_title("filled: weights, hollow: biases", color=base.MUTED, pad=8)
        return base.Picture("precision", "Prior precision by layer", base.svg(figure, "precision", alt), alt, "")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2 - 1]}…{name[-_LONGEST // 2 :]}"
