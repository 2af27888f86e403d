"""Delimited text and Parquet as named columns.

Text files are read by the standard library, on every machine in the same way, so that a fingerprint does not depend on
which packages are installed. Parquet needs pyarrow, or pandas with an engine of its own.
"""

from __future__ import annotations

import csv
import importlib
import io
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from novacula.core.errors import InputError
from novacula.data.columns import RawColumns
from novacula.data.sources.bounded import check_expanded, decoded
from novacula.data.sources.cells import Numbers, as_dates

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "<na>", "-nan", "#n/a"})
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

    def read(name: str) -> np.ndarray:
        return _column([row[place[name]] for row in rows], name, lines, path, numbers)

    def missing(name: str) -> int:
        return sum(row[place[name]].lower() in _MISSING for row in rows)

    return RawColumns(str(path), tuple(header), len(rows), read, missing)


def open_parquet(path: Path) -> RawColumns:
    """Open a Parquet file."""
    frame = _parquet_columns(path)

    def read(name: str) -> np.ndarray:
        kept = np.asarray(frame[name], dtype=object)
        for row, value in enumerate(kept.tolist()):
            if value is None or value != value:
                _refuse_missing(repr(value), f"row {row}, column {name!r} of {path}")
        kinds = {type(v) for v in kept.tolist()}
        if kinds <= {bool, int, float, str} and (str not in kinds or kinds == {str}):
            return np.array(kept.tolist())
        kind = next(k.__name__ for k in kinds if k not in {bool, int, float})
        raise InputError(
            "columns of numbers or text",
            f"{kind} in column {name!r} of {path}",
            "drop it, or convert it to numbers",
        )

    def missing(name: str) -> int:
        return sum(value is None or value != value for value in frame[name])

    return RawColumns(str(path), tuple(frame), len(next(iter(frame.values()), ())), read, missing)


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


def _column(cells: list[str], name: str, lines: list[int], path: Path, number: Numbers) -> np.ndarray:
    def where(row: int) -> str:
        return f"row {row} (line {lines[row]}), column {name!r} of {path}"

    for row, cell in enumerate(cells):
        if cell.lower() in _MISSING:
            _refuse_missing(repr(cell), where(row))
    if all(cell.lower() in _BOOLEANS for cell in cells):
        return np.array([_BOOLEANS[cell.lower()] for cell in cells])
    numbers = number.column(cells)
    words = [row for row, value in enumerate(numbers) if value is None]
    if not words:
        return np.array(numbers)
    if (days := as_dates(cells)) is not None:
        return days
    if len(words) < len(cells):
        got = f"{cells[words[0]]!r} in {where(words[0])}"
        raise InputError("a number, as in other rows of the column", got, "correct it")
    return np.array(cells)


def _parquet_columns(path: Path) -> dict[str, Any]:
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
    columns = table.to_pydict() if type(table).__module__.startswith("pyarrow") else table.to_dict(orient="list")
    return {str(name): values for name, values in columns.items()}


def _no_reader(path: Path) -> InputError:
    return InputError("pyarrow or pandas to read Parquet", f"neither, for {path}", "pip install 'novacula[tables]'")


def _refuse_missing(shown: str, where: str) -> NoReturn:
    raise InputError("a table without missing values", f"{shown} in {where}", "fill it in, or drop the row or column")
