"""What the cells of a text file mean: numbers with a decimal point or comma, and dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from novacula.data.meaning.known import DAYS, in_unit

_DECIMAL_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?P<by>[,'’ ])\d{3}(?:(?P=by)\d{3})*(?:[.,]\d+)?")
_CURRENCY = r"[$€£¥₹]|(?:US\$|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|BRL|MXN|ZAR)(?=[\s\d])"
_POWER = r"[^\W\d_]{1,8}(?:\^?-?[1-4])?"  # of a unit: m, m2, m^2, s-1
_UNIT = rf"[^\d\s.,+-]\D{{0,11}}|[kcdm]?m[23]|ft[23]|{_POWER}(?:[·* ]{_POWER})*/[(]?{_POWER}(?:[·*/ ]{_POWER})*[)]?"
_MEASURED = re.compile(
    rf"(?P<sign>[+-]?)(?P<before>{_CURRENCY})?\s*(?P<number>[+-]?[\d.,]+(?:'\d{{3}}[\d.]*|[eE][+-]?\d+)?)"
    rf"(?:\s*(?P<after>{_UNIT})|\s+(?P<apart>{_POWER}(?:[·* ]{_POWER})*))?"
)
"""A number with a currency before it or a unit behind it; what may as well be a code (3a4) stands apart from it."""
_TYPESET = str.maketrans({"\u2212": "-", "\u00a0": "", "\u2009": "", "\u202f": ""})
"""The minus of typesetting, and spaces that do not break, which group digits."""
_DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_YEAR_FIRST = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})\b(.*)")
_SLASHED = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})\b(.*)")
_MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
_NAMED = re.compile(r"(?:(\d{1,2})[ -])?([A-Za-z]{3,9})[ -](?:(\d{1,2}),? )?(\d{4})")
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

        What is written otherwise is read by what the whole column shows: groups of three digits (``1'250``,
        ``1 250``, and quoted in a file whose delimiter is the comma ``1,250``) are thousands; in such a file numbers
        that are no groups have a decimal comma.

        Args:
            cells: The cells.

        Returns:
            A number for each, or None.
        """
        found = [self(cell) for cell in cells]
        if all(value is not None for value in found):
            return found
        strange = [cell for cell, value in zip(cells, found, strict=True) if value is None]
        by = {None if m is None else m["by"] for m in map(_GROUPED.fullmatch, strange)}
        if len(by) == 1 and (apart := by.pop()) and not (self.comma and apart == ","):
            return self.column([cell.replace(apart, "") for cell in cells])
        if not self.comma and all(_DECIMAL_COMMA.fullmatch(cell) for cell in strange):
            return [Numbers(comma=True)(cell) for cell in cells]
        return found

    def measured(self, cells: Sequence[str]) -> np.ndarray | None:
        """The numbers ``(N,)`` of a column in which all have one unit, which is kept (``$1,250``); or None."""
        found = [_MEASURED.fullmatch(cell) for cell in cells]
        units = {"" if m is None else (m["before"] or "") + (m["after"] or m["apart"] or "") for m in found}
        if len(units) != 1 or units == {""}:
            return None
        numbers = self.column([m["sign"] + m["number"] for m in found if m is not None])
        known = [value for value in numbers if value is not None]
        return in_unit(np.array(known, np.float64), units.pop()) if len(known) == len(cells) else None


def as_dates(cells: Sequence[str]) -> np.ndarray | None:
    """Dates as days since 1970-01-01, with the time of the day as a fraction; None where the cells are no dates.

    ``2024-01-31``, with or without a time (that of UTC where no zone is written), ``2024/1/31``, ``31.1.2024``,
    ``31-Jan-2024``, ``Jan 31, 2024`` and ``Jan 2024``; ``1/31/2024`` and ``31/1/2024`` where a number above 12 in the
    column tells which is the day.

    Returns:
        Float64, shape ``(N,)``: order and distance are kept, so that a later date is none the worse for being new.

    Example:
        >>> as_dates(["1970-01-02", "1970-01-03 12:00"])
        array([1. , 2.5])
    """
    slashed = [_SLASHED.fullmatch(cell) for cell in cells]
    if all(slashed):
        first, second = (max(int(m[i]) for m in slashed if m) for i in (1, 2))
        if (first > 12) == (second > 12):
            return None
        day, month = (1, 2) if first > 12 else (2, 1)
        cells = [f"{m[3]}-{int(m[month]):02}-{int(m[day]):02}{m[4]}" for m in slashed if m]
    days = [_day(cell) for cell in cells]
    known = [day for day in days if day is not None]
    return in_unit(np.array(known), DAYS) if len(known) == len(days) else None


def _day(cell: str) -> float | None:
    if (parts := _DAY_FIRST.fullmatch(cell)) is not None:
        day, month, year = map(int, parts.groups())
        cell = f"{year:04}-{month:02}-{day:02}"
    elif (parts := _YEAR_FIRST.fullmatch(cell)) is not None:
        cell = f"{parts[1]}-{int(parts[2]):02}-{int(parts[3]):02}{parts[4]}"
    elif (parts := _NAMED.fullmatch(cell)) is not None and not (at := _MONTHS.find(parts[2][:3].lower())) % 3:
        cell = f"{parts[4]}-{at // 3 + 1:02}-{int(parts[1] or parts[3] or 1):02}"
    if not _ISO.match(cell):
        return None
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() / _DAY
