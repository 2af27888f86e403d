"""What a table's columns may mean besides what they were taken for: said in warnings, and left as it is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from novacula.core.errors import NovaculaWarning

_CODES = (-99, -999, -9999, -99999, 999, 9999, 99999)
_LEAST, _ROWS = 2, 20  # times that a code occurs at least; rows from which on equal columns are no accident


def warn_of_doubts(columns: Mapping[str, np.ma.MaskedArray], targets: Sequence[str]) -> None:
    """Warn of copies of a target, codes that may be missing values, and words that differ in capitals alone."""
    said = []
    for name, cells in columns.items():
        values = np.ma.compressed(cells)
        if values.dtype.kind == "U" and (alike := _alike(values)):
            said.append(f"the column {name!r} has words that differ in capitals alone ({alike}): each counts by itself")
        if values.dtype.kind in "iuf" and name not in targets and (code := _code(values)) is not None:
            times = int((values == code).sum())
            said.append(
                f"the column {name!r} has {code} in {times:,} rows, far from all other values: "
                "leave these cells empty if it stands for a missing value"
            )
        if len(values) >= _ROWS and name not in targets:
            copied = [t for t in targets if _equal(cells, columns[t])]
            said += [f"the column {name!r} is a copy of the target {t!r}: drop it if new rows lack it" for t in copied]
    for text in said:
        warnings.warn(text, NovaculaWarning, stacklevel=3)


def _equal(one: np.ma.MaskedArray, other: np.ma.MaskedArray) -> bool:
    whole = not np.ma.is_masked(one) and not np.ma.is_masked(other)
    return whole and np.array_equal(np.ma.getdata(one), np.ma.getdata(other))


def _alike(words: np.ndarray) -> str:
    # The first words that are the same but for capitals.
    first: dict[str, str] = {}
    for word in np.unique(words):
        if (other := first.setdefault(str(word).casefold(), str(word))) != word:
            return f"{other!r}, {str(word)!r}"
    return ""


def _code(values: np.ndarray) -> int | None:
    # A usual code for a missing value that lies further from the other values than these from each other.
    for code in _CODES:
        others = values[values != code]
        if len(others) < _LEAST or len(values) - len(others) < _LEAST:
            continue
        low, high = float(others.min()), float(others.max())
        if max(low - code, code - high) > max(high - low, 1.0):
            return code
    return None
