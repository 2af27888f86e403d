"""How the extents of an invariance read to people. What each means, the catalogue's row of its invariance says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from novacula.reporting.words.numbers import number
from novacula.runs.catalogue.models import Extent, extent


def meaning(name: str, record: Mapping[str, Any] | None = None) -> Extent:
    """What an extent means: as its run has it, where another package made it; names of no row read as they are."""
    said = ((record or {}).get("invariance") or {}).get("words") or {}
    if name in said:
        return Extent(**said[name])
    words = name.replace("_", " ")
    return extent(name) or Extent(words, f"“{words}”", group="other extents")


def in_words(entry: Extent, eta: float) -> str:
    """An extent in words and units."""
    value = entry.scale * abs(eta) if entry.symmetric else entry.scale * eta
    sign = "±" if entry.symmetric else ""
    if entry.unit == "degrees":
        return f"{sign}{value:.0f}°"
    if entry.unit == "percent":
        digits = 0 if abs(value) >= 10 else 1
        return f"{sign}{number(value, digits)}\u00a0%{' ' + entry.of if entry.of else ''}"
    if entry.unit == "factor":
        value = min(value, 700.0)
        return f"×{math.exp(-value):.2f} to ×{math.exp(value):.2f}"
    return f"{sign}{number(value, 2)}"


def between(entry: Extent, low: float, high: float) -> str:
    """An interval of an extent in words and units; of a factor's, that of its larger end."""
    if entry.unit == "factor" and entry.symmetric:
        return " to ".join(f"×{math.exp(min(entry.scale * abs(v), 700.0)):.2f}" for v in (low, high))
    first = in_words(entry, low)
    if entry.unit == "percent":  # the unit is said once
        first = first.split("\u00a0")[0]
    return f"{first} to {in_words(entry, high)}"
