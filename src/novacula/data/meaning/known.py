"""Columns of a table whose missing entries are known: from cells, frames and arrays to numbers or words with a mask."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from novacula.core.errors import InputError

_DAY = np.timedelta64(1, "D")
_FIXED = {"W", "D", "h", "m", "s", "ms", "us", "ns"}  # units of durations that are as long in every year
DAYS = "days since 1970"
"""The unit of what were dates."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Named columns of one length, each of numbers or of words, masked where an entry is missing."""

    values: Mapping[str, np.ma.MaskedArray]
    where: str = "the table"  # the source, for people

    @property
    def n(self) -> int:
        """The number of rows N."""
        return len(next(iter(self.values.values()), ()))


def known(values: Any, missing: np.ndarray | None = None, *, where: str = "") -> np.ma.MaskedArray:
    """A column as numbers or words, masked where an entry is missing.

    NaN and None are missing; dates become days since 1970, as those of text files do, and durations days.

    Args:
        values: The entries, shape ``(N,)``.
        missing: Which of them are missing beside these.
        where: The column, for people.

    Returns:
        Booleans, whole numbers, floats or strings, shape ``(N,)``.

    Raises:
        InputError: If the entries are of another kind, or of several.

    Example:
        >>> known(np.array([1.5, np.nan])).mask.tolist(), known(np.array([2, None], dtype=object)).compressed().tolist()
        ([False, True], [2])
    """
    if isinstance(values, np.ma.MaskedArray):
        own = np.ma.getmaskarray(values)
        values, missing = np.ma.getdata(values), own if missing is None else own | missing
    a = np.asarray(values)
    mask = np.zeros(len(a), bool) if missing is None else np.array(missing, bool)
    if a.dtype.kind == "f":
        mask |= np.isnan(a)
    elif a.dtype.kind == "M":
        mask |= np.isnat(a)
        a = _days(a)
    elif a.dtype.kind == "m" and np.datetime_data(a.dtype)[0] in _FIXED:
        mask |= np.isnat(a)
        a = np.where(mask, 0.0, a / _DAY)
    elif a.dtype.kind == "S":
        a = np.char.decode(a, "utf-8")
    elif a.dtype.kind == "O":
        mask |= np.array([v is None or (isinstance(v, float | np.floating) and v != v) for v in a.tolist()], bool)
        a = _plain(a, mask, where)
    if a.dtype.kind not in "biufU" or a.ndim != 1:
        raise InputError("columns of numbers or words", f"{a.dtype}{where and f' in {where}'}", "drop or convert it")
    return np.ma.MaskedArray(a, mask)


def frame_of(x: Any) -> Columns | None:
    """The columns of a pandas frame; nothing for anything else."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(x, pandas.DataFrame):
        return None
    names = [str(name) for name in x.columns]
    if len(set(names)) < len(names):
        repeated = next(name for name, times in Counter(names).items() if times > 1)
        raise InputError("columns with different names", f"{repeated!r} twice", "rename one")
    return Columns({name: _series(x.iloc[:, i], f"column {name!r}") for i, name in enumerate(names)}, "the frame")


def matrix_of(x: np.ndarray, names: tuple[str, ...] | None, where: str) -> Columns:
    """The columns of a matrix of floats ``(N, D)``, called by their places where they have no names."""
    named = names if names is not None and len(names) == x.shape[1] else tuple(map(str, range(x.shape[1])))
    return Columns({name: known(x[:, i]) for i, name in enumerate(named)}, where)


def in_unit(values: np.ndarray, unit: str) -> np.ndarray:
    """Floats that remember a unit, which their kind carries."""
    return values.astype(np.dtype(np.float64, metadata={"unit": unit}))


def unit_of(column: np.ndarray) -> str:
    """The unit of numbers, empty where they were written without one."""
    return str((column.dtype.metadata or {}).get("unit", ""))


def words_of(column: np.ma.MaskedArray) -> np.ma.MaskedArray:
    """The entries as words; numbers without a fraction are written without one."""
    a, mask = np.ma.getdata(column), np.ma.getmaskarray(column)
    if a.dtype.kind == "U":
        return column
    if a.dtype.kind == "f":
        a = np.where(mask, 0, a)
        if bool((a == np.round(a)).all()) and bool((np.abs(a) < 2**53).all()):
            a = a.astype(np.int64)
    elif a.dtype.kind == "b":
        a = a.astype(np.int64)
    return np.ma.MaskedArray(a.astype(np.str_), mask)


def _series(column: Any, where: str) -> np.ma.MaskedArray:
    # Nullable, categorical and Arrow-backed columns become plain arrays by way of what they hold; whose owner says that
    # its numbers are categories has words.
    missing = column.isna().to_numpy(bool)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind != "O":
        return known(column.to_numpy(), missing, where=where)
    cells = known(np.array([None, *column.tolist()], dtype=object)[1:], missing, where=where)
    return words_of(cells) if isinstance(column.dtype, sys.modules["pandas"].CategoricalDtype) else cells


def _plain(a: np.ndarray, mask: np.ndarray, where: str) -> np.ndarray:
    # Python's own numbers, words or dates as an array of one kind; zeros or empty words where they are missing.
    found = a[~mask].tolist()
    kinds = {type(v) for v in found}
    if all(issubclass(k, (bool, int, float, Decimal, np.number, np.bool_)) for k in kinds):
        try:
            numbers = np.array(found) if found else np.zeros(0)
        except OverflowError:
            numbers = np.array(found, dtype=np.float64)
        if numbers.dtype.kind == "O":
            numbers = numbers.astype(np.float64)
    elif all(issubclass(k, (str, np.str_)) for k in kinds):
        numbers = np.array(found, dtype=np.str_)
    elif all(issubclass(k, timedelta) for k in kinds):
        numbers = np.array([v / timedelta(days=1) for v in found])
    elif all(issubclass(k, date) for k in kinds):
        moments = [v.replace(tzinfo=None) - (v.utcoffset() or 0 * v.resolution) if isinstance(v, datetime) else v
                   for v in found]  # fmt: skip
        numbers = _days(np.array(moments, dtype="datetime64[us]"))
    else:
        words = sum(issubclass(k, str) for k in kinds)
        names = sorted(k.__name__ for k in kinds if not words or not issubclass(k, (bool, int, float)))
        row = int(np.flatnonzero(~mask)[next(i for i, v in enumerate(found) if type(v).__name__ == names[0])])
        got = f"{names[0]} {found[0]!r:.40} in row {row}, {where}" if not words else f"words beside numbers in {where}"
        raise InputError("columns of numbers or words", got, "drop the column, or convert it to numbers")
    out = np.zeros(len(a), numbers.dtype)
    out[~mask] = numbers
    return out


def _days(moments: np.ndarray) -> np.ndarray:
    epoch = np.datetime64(0, "D")
    return in_unit(np.where(np.isnat(moments), 0.0, (moments - epoch) / _DAY), DAYS)
