"""Delimited text and Parquet as named columns.

Text files are read by the standard library, on every machine in the same way, so that a fingerprint does not depend on
which packages are installed. Parquet needs pyarrow, or pandas with an engine of its own.
"""

from __future__ import annotations

import csv
import importlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from novacula.core.errors import InputError
from novacula.data.columns import RawColumns
from novacula.data.known import frame_of, known
from novacula.data.sources.bounded import check_expanded, decoded
from novacula.data.sources.cells import Numbers, as_dates

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "<na>", "-nan", "#n/a"})
_PLAIN = frozenset({"bool", "float", "double", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64))})
_BOOLEANS = {"true": 1, "false": 0}


def open_delimited(path: Path) -> RawColumns:
    """Open comma-, semicolon- or tab-separated text."""
    # The delimiter is the one that the first line has most of. If every entry of the first line is a number, or any has
    # a decimal point, there is no header, and columns are called "0", "1", …. A column of whole numbers stays whole, so
    # that it may hold classes. Where commas do not delimit, they may be decimal.
    try:
        header, rows, lines, numbers = _parse(io.StringIO(decoded(path), newline=""), path)
    except csv.Error as error:
        raise InputError("UTF-8 text with one row a line", f"{path}: {error}", "save it as CSV in UTF-8") from error
    place = {name: i for i, name in enumerate(header)}

    def read(name: str) -> np.ma.MaskedArray:
        return _column([row[place[name]] for row in rows], name, lines, path, numbers)

    return RawColumns(str(path), tuple(header), len(rows), read)


def open_parquet(path: Path) -> RawColumns:
    """Open a Parquet file."""
    names, n, column = _parquet_columns(path)

    def read(name: str) -> np.ma.MaskedArray:
        values, missing = column(name)
        return known(values, missing, where=f"column {name!r} of {path}")

    return RawColumns(str(path), names, n, read)


def _parse(file: TextIO, path: Path) -> tuple[list[str], list[list[str]], list[int], Numbers]:
    first = file.readline()
    while first and not first.strip():
        first = file.readline()
    if not first:
        raise InputError("a header and at least two rows", f"{path}, which is empty", "check the file")
    delimiter = max(",;\t", key=first.count)
    file.seek(0)
    reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
    rows, lines = [], []
    for row in reader:
        if any(cell.strip() for cell in row):
            rows.append([cell.strip() for cell in row])
            lines.append(reader.line_num)
    header, numbers = rows[0], Numbers(comma=delimiter != ",")
    found = [numbers(cell) for cell in header]
    if all(value is not None for value in found) or any(isinstance(value, float) for value in found):
        header = [str(i) for i in range(len(header))]
    else:
        rows, lines = rows[1:], lines[1:]
    if len(set(header)) < len(header):
        repeated = next(name for name, times in Counter(header).items() if times > 1)
        raise InputError("columns with different names", f"{repeated!r} twice in {path}", "rename one")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            got = f"{len(row)} in line {line} of {path}"
            raise InputError(
                f"{len(header)} entries in every row, as in the header", got, "quote entries with delimiters"
            )
    if not rows:
        raise InputError("at least two rows", f"a header and no rows in {path}", "check the file")
    return header, rows, lines, numbers


def _column(cells: list[str], name: str, lines: list[int], path: Path, number: Numbers) -> np.ma.MaskedArray:
    there = [row for row, cell in enumerate(cells) if cell.lower() not in _MISSING]
    found = _values([cells[row] for row in there], there, name, lines, path, number)
    if len(there) == len(cells):
        return np.ma.MaskedArray(found)
    values, missing = np.zeros(len(cells), found.dtype), np.ones(len(cells), bool)
    values[there], missing[there] = found, False
    return np.ma.MaskedArray(values, missing)


def _values(cells: list[str], rows: list[int], name: str, lines: list[int], path: Path, number: Numbers) -> np.ndarray:
    # What the cells that are there mean; rows are their numbers.
    if not cells:
        return np.zeros(0)
    if all(cell.lower() in _BOOLEANS for cell in cells):
        return np.array([_BOOLEANS[cell.lower()] for cell in cells])
    numbers = number.column(cells)
    words = [i for i, value in enumerate(numbers) if value is None]
    if not words:
        return np.array(numbers)
    if (days := as_dates(cells)) is not None:
        return days
    if len(words) < len(cells):
        row = rows[words[0]]
        got = f"{cells[words[0]]!r} in row {row} (line {lines[row]}), column {name!r} of {path}"
        raise InputError("a number, as in other rows of the column", got, "correct it")
    return np.array(cells)


def _parquet_columns(path: Path) -> tuple[tuple[str, ...], int, Callable[[str], tuple[Any, np.ndarray | None]]]:
    # Names, the number of rows, and what gives a column's values and where they are missing.
    parquet: Any = None
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        read = parquet.read_table
    except ImportError:
        try:
            read = importlib.import_module("pandas").read_parquet
        except ImportError:
            raise _no_reader(path) from None
    try:
        if parquet is not None:
            about = parquet.ParquetFile(path).metadata
            check_expanded(path, 8 * about.num_rows * about.num_columns)
        table = read(path)
    except InputError:
        raise
    except ImportError:
        raise _no_reader(path) from None
    except Exception as error:  # each engine raises errors of its own
        raise InputError("a readable Parquet file", f"{path}: {error}", "write it again, or fetch it again") from error
    if type(table).__module__.startswith("pyarrow"):
        return tuple(map(str, table.column_names)), table.num_rows, lambda name: _arrow(table.column(name))
    frame = frame_of(table)
    assert frame is not None
    return tuple(frame.values), frame.n, lambda name: (frame.values[name], None)


def _arrow(column: Any) -> tuple[np.ndarray, np.ndarray]:
    # Values of one column, and where they are missing: numbers without a detour by Python's own.
    missing = np.asarray(column.is_null())
    if str(column.type) in _PLAIN:
        there = np.asarray(column.drop_null())
        values = np.zeros(len(missing), there.dtype)
        values[~missing] = there
        return values, missing
    return np.array([None, *column.to_pylist()], dtype=object)[1:], missing


def _no_reader(path: Path) -> InputError:
    return InputError("pyarrow or pandas to read Parquet", f"neither, for {path}", "pip install 'novacula[tables]'")
