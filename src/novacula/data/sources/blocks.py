"""Columns of a text file, gathered block by block: numbers as arrays, and only cells that are none as text.

What a column is depends on all of it. Its numbers need not be kept as text for that: a cell that is a number by itself
is the same number in every reading of a column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from novacula.core.errors import InputError
from novacula.data.sources.cells import Numbers, as_dates

MISSING = frozenset({"", "na", "n/a", "nan", "null", "?", "<na>", "-nan", "#n/a"})
_NO_NUMBER = frozenset({"none", "-", "--", "—", ".", "n.a.", "#div/0!", "#value!", "#num!", "unknown", "missing"})
"""Words that are missing values among numbers and dates; among other words they are words."""
_BOOLEANS = {"true": 1, "false": 0}


class Gathered:
    """One column: its numbers in blocks, and its other cells with their rows."""

    def __init__(self, number: Numbers) -> None:
        self.number = number
        self.blocks: list[np.ndarray] = []
        self.gaps: list[np.ndarray] = []  # which entries of a block are no numbers: missing, or other cells
        self.strange: list[tuple[int, str]] = []
        self.n = 0
        self.same: dict[str, str] = {}  # one object for each word
        self.padded = ""  # a number with zeros before it, as codes have, among the first

    def add(self, cells: Sequence[str]) -> None:
        """The next block of cells."""
        values, gaps = _plain(cells), np.zeros(len(cells), bool)
        if not self.blocks:
            self.padded = next((c for c in cells if c[:1] == "0" and c.isdecimal() and len(c) > 1), "")
        if values is None:
            values, gaps = _with_holes(cells)
        if values is None:
            found: list[int | float | None] = [None if c.lower() in MISSING else self.number(c) for c in cells]
            for i, (cell, value) in enumerate(zip(cells, found, strict=True)):
                if value is None:
                    gaps[i] = True
                    if cell.lower() not in MISSING:
                        self.strange.append((self.n + i, self.same.setdefault(cell, cell)))
            numbers = np.array([0 if v is None else v for v in found])
            values = numbers if numbers.dtype.kind in "if" else numbers.astype(np.float64)
        self.blocks.append(values)
        self.gaps.append(gaps)
        self.n += len(cells)

    def column(self, place: Callable[[int], str]) -> np.ma.MaskedArray:
        """What the cells mean, numbers, yes and no, dates, or words, masked where missing; mixtures are refused."""
        held = [(row, cell) for row, cell in self.strange if cell.lower() not in _NO_NUMBER]
        if len(held) < len(self.strange) and (found := self._column(held, place)).dtype.kind != "U":
            return found
        return self._column(self.strange, place)

    def _column(self, strange: list[tuple[int, str]], place: Callable[[int], str]) -> np.ma.MaskedArray:
        gaps = np.concatenate(self.gaps)
        if not strange:
            known = [b for b, g in zip(self.blocks, self.gaps, strict=True) if not g.all()]
            whole = all(b.dtype.kind == "i" for b in known) and bool(known)
            values = np.concatenate([b.astype(np.int64 if whole else np.float64) for b in self.blocks])
            return np.ma.MaskedArray(values, gaps)
        rows, cells = [row for row, _ in strange], [cell for _, cell in strange]
        mixed = int((~gaps).sum()) > 0
        if not mixed and all(cell.lower() in _BOOLEANS for cell in cells):
            return self._placed(np.array([_BOOLEANS[cell.lower()] for cell in cells]), rows)
        numbers = self.number.column(cells)
        words = [i for i, value in enumerate(numbers) if value is None]
        if not words:
            return self._with(np.array(numbers), rows, gaps)
        if not mixed and (days := as_dates(cells)) is not None:
            return self._placed(days, rows)
        if not mixed and (measured := self.number.measured(cells)) is not None:
            return self._placed(measured, rows)
        if mixed or len(words) < len(cells):
            got = f"{cells[words[0]]!r} in {place(rows[words[0]])}"
            raise InputError("a number, as in other rows of the column", got, "correct it")
        return self._placed(np.array(cells), rows)

    def _placed(self, found: np.ndarray, rows: list[int]) -> np.ma.MaskedArray:
        values, missing = np.zeros(self.n, found.dtype), np.ones(self.n, bool)
        values[rows], missing[rows] = found, False
        return np.ma.MaskedArray(values, missing)

    def _with(self, found: np.ndarray, rows: list[int], gaps: np.ndarray) -> np.ma.MaskedArray:
        # Numbers with groups of digits or a decimal comma among plain ones.
        values = np.concatenate([*(b.astype(np.float64) for b in self.blocks)])
        kinds = {found.dtype.kind} | {b.dtype.kind for b, g in zip(self.blocks, self.gaps, strict=True) if not g.all()}
        values[rows] = found
        missing = gaps.copy()
        missing[rows] = False
        return np.ma.MaskedArray(values.astype(np.int64) if kinds == {"i"} else values, missing)


def _with_holes(cells: Sequence[str]) -> tuple[np.ndarray | None, np.ndarray]:
    # A block of plain numbers some of which are missing.
    gaps = np.array([c in MISSING or c.lower() in MISSING for c in cells])
    there = [c for c, gap in zip(cells, gaps.tolist(), strict=True) if not gap]
    found = _plain(there) if there else np.zeros(0)
    if found is None:
        return None, np.zeros(len(cells), bool)
    values = np.zeros(len(cells), found.dtype)
    values[~gaps] = found
    return values, gaps


def _plain(cells: Sequence[str]) -> np.ndarray | None:
    # A block of plain numbers, whole where all are; None where it takes a closer look.
    if "_" in "".join(cells):  # Python's own digit separators are not numbers in a file
        return None
    try:
        return np.array(list(map(int, cells)), dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        values = np.array(list(map(float, cells)))
    except ValueError:
        return None
    return None if np.isnan(values).any() else values
