"""What the cells of a text file mean: numbers with a decimal point or comma, and dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from novacula.data.meaning.known import DAYS

_DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_MEASURED = re.compile(
    r"(?P<sign>[+-]?)(?P<before>[$€£¥]?)\s*(?P<number>[+-]?[\d.,]+)\s*(?P<after>[^\d\s.,+-]\D{0,11}|[kcdm]?m[23]|ft[23])?"
)
_TYPESET = str.maketrans({"\u2212": "-", "\u00a0": "", "\u2009": "", "\u202f": ""})
"""The minus of typesetting, and spaces that do not break, which group digits."""
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}")
_DAY = 86_400.0


@dataclass(frozen=True)
class Numbers:
    """How numbers are written.

    Args:
        comma: Whether a comma is decimal (``1.234,5`` is 1234.5), as it may be where it does not delimit.
    """

    comma: bool = False

    def __call__(self, cell: str) -> int | float | None:
        """A number, whole where it is written so; None for other words."""
        if "_" in cell:  # Python's own digit separators are not numbers in a file
            return None
        cell = cell if cell.isascii() else cell.translate(_TYPESET)
        if self.comma and _DECIMAL_COMMA.fullmatch(cell):
            return float(cell.replace(".", "").replace(",", "."))
        try:
            whole = int(cell)
        except ValueError:
            try:
                return float(cell)
            except ValueError:
                return None
        return whole if abs(whole) < 2**63 else float(cell)  # infinite where it is larger than any number

    def column(self, cells: Sequence[str]) -> list[int | float | None]:
        """The numbers of a column, None where a cell is none.

        Quoted numbers in a file whose delimiter is the comma are read by what the whole column shows: with groups of
        three digits alone (``1,250``) as thousands, else with a decimal comma.

        Args:
            cells: The cells.

        Returns:
            A number for each, or None.
        """
        found = [self(cell) for cell in cells]
        if self.comma or all(value is not None for value in found):
            return found
        strange = [cell for cell, value in zip(cells, found, strict=True) if value is None]
        if all(_THOUSANDS.fullmatch(cell) for cell in strange):
            return [self(cell.replace(",", "")) for cell in cells]
        if all(_DECIMAL_COMMA.fullmatch(cell) for cell in strange):
            return [Numbers(comma=True)(cell) for cell in cells]
        return found

    def measured(self, cells: Sequence[str]) -> list[int | float] | None:
        """The numbers of a column in which all have one unit (``7.5 %``, ``12 m2``, ``$1,250``); None for others."""
        found = [_MEASURED.fullmatch(cell) for cell in cells]
        units = {None if m is None else (m["before"], m["after"]) for m in found}
        if len(units) != 1 or units <= {None, ("", None)}:
            return None
        numbers = self.column([m["sign"] + m["number"] for m in found if m is not None])
        known = [value for value in numbers if value is not None]
        return known if len(known) == len(cells) else None


def as_dates(cells: Sequence[str]) -> np.ndarray | None:
    """Dates as days since 1970-01-01, with the time of the day as a fraction; None where the cells are no dates.

    ``2024-01-31``, with or without a time (that of UTC where no zone is written), and ``31.1.2024``.

    Returns:
        Float64, shape ``(N,)``: order and distance are kept, so that a later date is none the worse for being new.

    Example:
        >>> as_dates(["1970-01-02", "1970-01-03 12:00"])
        array([1. , 2.5])
    """
    days = [_day(cell) for cell in cells]
    known = [day for day in days if day is not None]
    return np.array(known, DAYS) if len(known) == len(days) else None


def _day(cell: str) -> float | None:
    if (parts := _DAY_FIRST.fullmatch(cell)) is not None:
        day, month, year = map(int, parts.groups())
        cell = f"{year:04}-{month:02}-{day:02}"
    if not _ISO.match(cell):
        return None
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() / _DAY
