"""Delimited text and Parquet as named columns.

Text files are read by the standard library, on every machine in the same way, so that a fingerprint does not depend on
which packages are installed. Parquet needs pyarrow, or pandas with an engine of its own.
"""

from __future__ import annotations

import csv
import importlib
import re
import warnings
from array import array
from collections import Counter
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.meaning.columns import RawColumns
from novacula.data.meaning.known import frame_of, known
from novacula.data.sources.blocks import Gathered
from novacula.data.sources.bounded import check_expanded, text_of
from novacula.data.sources.cells import Numbers

_PLAIN = frozenset({"bool", "float", "double", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64))})
_DELIMITED = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)
_BLOCK = 8_192  # rows of text that are taken apart at once


def open_delimited(path: Path) -> RawColumns:
    """Open text with commas, semicolons, tabs, | or nothing but spaces between its columns."""
    # The delimiter is the one that the first line has most of. If every entry of the first line is a number, or any has
    # a decimal point, there is no header, and columns are called "0", "1", …. A column of whole numbers stays whole, so
    # that it may hold classes. Where commas do not delimit, they may be decimal. Lines before that begin with "#" are
    # comments, but for the last where it names the columns of rows that have no header of their own. Excel writes what
    # delimits in a line of its own, sep=; R writes the names of rows without a name above them.
    try:
        header, columns, lines, said = _gathered(path)
    except csv.Error as error:
        raise InputError("UTF-8 text with one row a line", f"{path}: {error}", "save it as CSV in UTF-8") from error
    found = dict(zip(header, columns, strict=True))

    def read(name: str) -> np.ma.MaskedArray:
        values = found[name].column(lambda row: f"row {row} (line {lines[row]}), column {name!r} of {path}")
        if (code := found[name].padded) and values.dtype.kind != "U":
            said = f"the column {name!r} has numbers with zeros before them ({code!r}), as codes have: taken as numbers"
            warnings.warn(f"{said}; for categories pass --categorical {name} (categorical=…)", NovaculaWarning, 2)
        return values

    return RawColumns(str(path), tuple(header), len(lines), read, said=said)


def open_parquet(path: Path) -> RawColumns:
    """Open a Parquet file."""
    names, n, column = _parquet_columns(path)

    def read(name: str) -> np.ma.MaskedArray:
        values, missing = column(name)
        return known(values, missing, where=f"column {name!r} of {path}")

    return RawColumns(str(path), names, n, read)


def _gathered(path: Path) -> tuple[list[str], list[Gathered], array[int], tuple[str, ...]]:
    # Names, columns, the line of each row, and what was left out; the text is never in memory as a whole.
    before, first = list[str](), ""
    with text_of(path) as file:
        for line in file:
            if line.lstrip()[:1] not in ("", "#") and not _DELIMITED.fullmatch(line.strip(" \r\n")):
                first = line
                break
            before.append(line)
    empty = InputError("a header and at least two rows", f"{path}, which is empty", "check the file")
    if not first:
        raise empty
    given = [found[1] for line in before if (found := _DELIMITED.fullmatch(line.strip(" \r\n")))]
    delimiter = given[-1] if given else max(",;\t|", key=first.count)
    delimiter = delimiter if given or delimiter in first or " " not in first.strip() else " "
    number = Numbers(comma=delimiter != ",")
    with text_of(path) as file:
        text = islice(file, len(before), None)
        text = (line.strip() + "\n" for line in text) if delimiter == " " else text
        reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
        rows = (([cell.strip() for cell in row], len(before) + reader.line_num) for row in reader)
        rows = (found for found in rows if any(found[0]))
        if (head := next(rows, None)) is None:
            raise empty
        found = [number(cell) for cell in head[0]]
        headless = all(value is not None for value in found) or any(isinstance(value, float) for value in found)
        header = [str(i) for i in range(len(found))] if headless else head[0]
        comments = [line.strip() for line in before if line.lstrip()[:1] == "#"]
        above = _names(comments[-1], delimiter) if comments else []
        if len(above) == len(found) and any(v is not None for v in found) and all(number(a) is None for a in above):
            header, headless = above, True
            comments.pop()
        following = list(islice(rows, 1))
        if following and len(following[0][0]) == len(header) + 1 and not headless:
            header = [*header, ""] if not following[0][0][-1] else ["", *header]
        if header.count("") > 1:
            header = [name or f"Unnamed: {i}" for i, name in enumerate(header)]
        if len(set(header)) < len(header):
            repeated = next(name for name, times in Counter(header).items() if times > 1)
            raise InputError("columns with different names", f"{repeated!r} twice in {path}", "rename one")
        columns, lines = [Gathered(number) for _ in header], array("q")
        rows = chain([head] if headless else [], following, rows)
        while block := list(islice(rows, _BLOCK)):
            for row, line in block:
                if len(row) != len(header):
                    got = f"{len(row)} in line {line} of {path}"
                    wanted = f"{len(header)} entries in every row, as in the header"
                    raise InputError(wanted, got, "quote entries with delimiters")
                lines.append(line)
            for column, cells in zip(columns, zip(*(row for row, _ in block), strict=True), strict=True):
                column.add(cells)
    if not lines:
        raise InputError("at least two rows", f"a header and no rows in {path}", "check the file")
    left = f"{len(comments)} line{'s' * (len(comments) > 1)} of comment before the table left out"
    return header, columns, lines, (left,) if comments else ()


def _names(comment: str, delimiter: str) -> list[str]:
    # The entries of a comment, as names; that of a first column may be no more than the sign itself.
    first, *others = next(csv.reader([comment], delimiter=delimiter, skipinitialspace=True))
    return [first.lstrip("# ").strip() or "#", *(other.strip() for other in others)]


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
            about = parquet.ParquetFile(path)
            check_expanded(path, 8 * about.metadata.num_rows * about.metadata.num_columns)
            names = tuple(map(str, about.schema_arrow.names))
            return names, about.metadata.num_rows, lambda name: _read_column(path, about, name)
        table = read(path)
    except InputError:
        raise
    except ImportError:
        raise _no_reader(path) from None
    except Exception as error:  # each engine raises errors of its own
        raise _unreadable(path, error) from error
    frame = frame_of(table)
    assert frame is not None
    return tuple(frame.values), frame.n, lambda name: (frame.values[name], None)


def _read_column(path: Path, file: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    # One column alone, of all row groups: the others take no memory.
    try:
        return _arrow(file.read(columns=[name]).column(0))
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError("a readable Parquet file", f"{path}: {error}", "write it again, or fetch it again")


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
