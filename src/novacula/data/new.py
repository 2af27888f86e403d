"""Data to predict: read like the training data of a run, but without the need of labels.

A run remembers what its inputs were (`Like`). New tables are matched by the names of their columns, in any order;
further columns are left alone. Where the training data were text that became indicator columns, the same values become
the same columns. Labels are read where there are any.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.inputs import as_inputs
from novacula.data.labels import Task, as_labels
from novacula.data.load import load
from novacula.data.sources.images import IMAGE_SUFFIXES, is_idx, read_new_images
from novacula.data.sources.npz import read_new_npy, read_new_npz
from novacula.data.sources.tables import Columns, delimited_columns, parquet_columns
from novacula.data.tables import New

_DELIMITED = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_KINDS = ".npz, .npy, .csv, .tsv, .parquet, IDX (ubyte), an image, or a folder of images"


@dataclass(frozen=True)
class Like:
    """What new inputs must be like.

    Args:
        shape: The shape of one input.
        task: What the labels are.
        classes: The classes' names; empty where they are numbers.
        columns: Names of a table's columns, indicator columns included.
        targets: Names of the target's columns, or of the labels' array.
        tokens: Whether inputs are whole-number ids.
        dtype: The floating dtype wanted.
    """

    shape: tuple[int, ...]
    task: Task
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    tokens: bool = False
    dtype: torch.dtype | None = None


@dataclass(frozen=True, eq=False)
class NewData:
    """Data to predict, in their own units.

    Args:
        x: Inputs, shape ``(N, …)``.
        y: Labels, or None.
        name: A name, for people.
        rows: The number of each row in its source, shape ``(N,)``.
        names: A name for each row, where the source has them.
        groups: The group of each row, where groups were asked for.
        notes: What a reader must know about which rows these are.
    """

    x: Tensor
    y: Tensor | None
    name: str
    rows: Tensor
    names: tuple[str, ...] = ()
    groups: list[Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """The number of rows N."""
        return len(self.x)


def load_new(path: str | Path, like: Like, *, labels: bool = True, groups: str | None = None) -> NewData:
    """Load inputs to predict, with their labels where there are any.

    Args:
        path: ``"digits"``, a file or a folder, as `load_splits` takes them; also an image, a folder of images without
            class folders, and files without labels. Of a source with a training and a test part, the test part is read.
        like: What the inputs must be like.
        labels: Whether labels are wanted; without, they are not even looked at.
        groups: A column of a table, or an array of an NPZ file, that tells the group of each row.

    Returns:
        The data.

    Raises:
        InputError: If the path cannot be read, its inputs are not like those of the run, or a label or group is not
            what it must be; the message says which file, row and column.
    """
    found, name, where = _read(path, like, labels, groups)
    x = _inputs(found, like, where)
    y, note = _labels(found, x, like, where) if labels else (None, "")
    notes = tuple(text for text in (found.note, note) if text)
    return NewData(x, y, name, torch.arange(len(x)), found.names, found.groups, notes)


def read_groups(path: str | Path, groups: str, like: Like) -> list[Any]:
    """The group of each row of a file.

    Args:
        path: The file.
        groups: The column, or array.
        like: What the inputs are like.

    Returns:
        A name or number for each row.
    """
    return _read(path, like, False, groups)[0].groups or []


def _read(path: str | Path, like: Like, labels: bool, groups: str | None) -> tuple[New, str, str]:
    if str(path) == "digits":
        _refuse_groups(groups, "digits")
        data = load("digits")
        return New(data.x.to(like.dtype or data.x.dtype), data.y), "digits", "digits"
    path = Path(path).expanduser()
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, [*siblings, "digits"], n=3)
        raise InputError("a file or folder that exists", str(path), ", ".join(close) or "check the path")
    try:
        return _dispatch(path, like, labels, groups), path.stem.removesuffix(".csv").removesuffix(".tsv"), str(path)
    except (OSError, EOFError) as error:
        raise InputError(
            "a file that can be read", f"{path}: {error}", "check its permissions, or fetch it again"
        ) from error


def _dispatch(path: Path, like: Like, labels: bool, groups: str | None) -> New:
    suffix, both = path.suffix.lower(), "".join(path.suffixes[-2:]).lower()
    if suffix == ".npz":
        return read_new_npz(path, like.targets[0] if like.targets else None, groups, labels=labels)
    table: New | Columns | None = None
    if suffix == ".npy":
        table = read_new_npy(path, labels=labels)
    elif suffix in _DELIMITED or both in _DELIMITED:
        table = delimited_columns(path)
    elif suffix in {".parquet", ".pq"}:
        table = parquet_columns(path)
    if isinstance(table, Columns):
        return _from_columns(table, like, labels, groups, str(path))
    _refuse_groups(groups, str(path))
    if table is not None:
        return table
    if path.is_dir() or is_idx(path) or suffix in IMAGE_SUFFIXES:
        return read_new_images(path, like.classes, like.shape[0] if len(like.shape) == 3 else 3, labels=labels)
    raise InputError(
        f"a file of a known kind ({_KINDS})", f"suffix {suffix or 'none'!r} of {path}", "convert it to .npz or .csv"
    )


def _refuse_groups(groups: str | None, where: str) -> None:
    if groups is not None:
        raise InputError(f"a table with a column {groups!r} of groups", where, "leave out the groups")


# ---------------------------------------------------------------------- tables


def _from_columns(table: Columns, like: Like, labels: bool, groups: str | None, where: str) -> New:
    if len(like.shape) != 1:
        raise InputError(f"inputs of shape {like.shape}, as in the run", f"the table {where}", "pass data of the kind")
    names, targets = _inputs_of(table, like, where)
    x = np.stack([_indicator(table, n, like, where) for n in names], axis=1)
    group = None
    if groups is not None:
        if groups not in table.names:
            raise _unknown(table, groups, where)
        group = table.read(groups).tolist()
    y, note = None, ""
    present = [t for t in targets if t in table.names]
    if labels and targets and len(present) == len(targets):
        missing = max(table.missing(t) for t in targets)
        if missing == 0:
            columns = [table.read(t) for t in targets]
            y = columns[0] if len(columns) == 1 else np.stack(columns, axis=1)
        elif missing < table.n:
            note = f"{missing:,} of {table.n:,} labels are missing in {where}: there are no scores"
    return New(x, y, group, note=note)


def _inputs_of(table: Columns, like: Like, where: str) -> tuple[list[str], tuple[str, ...]]:
    # The names of the file's columns that are the run's inputs, in the run's order, and of those that are its targets.
    width, names = like.shape[0], list(table.names)
    if not like.columns or _numbered(like.columns, like.targets):
        # Nothing but the position tells the columns apart.
        if not _numbered(names, ()):
            raise InputError(f"{width} columns without names, as in the run", f"{where}, which has a header", "drop it")
        if len(names) == width + len(like.targets) and like.columns:
            return list(like.columns), like.targets
        if len(names) != width:
            raise InputError(f"{width} input columns, as in the run", f"{len(names)} in {where}", "pass the same ones")
        return names, ()
    if _numbered(names, ()) and not set(like.columns) & set(names):
        raise InputError(f"a header with the run's columns {_listed(like.columns)}", f"none in {where}", "add one")
    return list(like.columns), like.targets


def _numbered(names: Any, targets: Any) -> bool:
    return sorted([*names, *targets], key=lambda n: (len(n), n)) == [str(i) for i in range(len(names) + len(targets))]


def _indicator(table: Columns, name: str, like: Like, where: str) -> np.ndarray:
    # A column of numbers; or, for "column=value", whether a text column has the value.
    if name in table.names:
        values = table.read(name)
        if values.dtype.kind in "US":
            raise InputError("numbers, as in the run", f"{values[0]!r} in column {name!r} of {where}", "correct it")
        return values.astype(np.float64)
    column = max((c for c in table.names if name.startswith(f"{c}=")), key=len, default=None)
    if column is None:
        source = name.split("=", 1)[0]  # of an indicator column, the text column that it was made from
        raise _unknown(table, source, where, like.columns)
    levels = [n[len(column) + 1 :] for n in like.columns if n.startswith(f"{column}=")]
    values = table.read(column).astype(np.str_)
    strange = np.flatnonzero(~np.isin(values, levels))
    if len(strange):
        got = f"{str(values[strange[0]])!r} in row {strange[0]}, column {column!r} of {where}"
        raise InputError(f"one of the run's values {_listed(levels)}", got, "correct it, or leave the row out")
    return (values == name[len(column) + 1 :]).astype(np.float64)


def _unknown(table: Columns, name: str, where: str, inputs: tuple[str, ...] = ()) -> InputError:
    close = difflib.get_close_matches(name, [n for n in table.names if n not in inputs], n=1)
    wanted = f" (the run's inputs are {_listed(inputs)})" if inputs else ""
    hint = f"rename {close[0]!r}" if close else "add it"
    return InputError(f"a column {name!r}{wanted}", f"{where} with columns {_listed(table.names)}", hint)


def _listed(names: Any, most: int = 12) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


# ---------------------------------------------------------------------- from arrays to tensors


def _inputs(found: New, like: Like, where: str) -> Tensor:
    raw = found.x
    if found.columns and like.columns and len(like.shape) == 1 and np.ndim(raw) == 2:
        missing = [c for c in like.columns if c not in found.columns]
        if missing:
            raise InputError(
                f"columns {_listed(like.columns)}", f"none called {missing[0]!r} in {where}", "rename them"
            )
        raw = raw[:, [found.columns.index(c) for c in like.columns]]
    try:
        x = as_inputs(raw, tokens=like.tokens, dtype=like.dtype, columns=like.columns, least=1)
    except InputError as error:
        raise InputError(error.expected, f"{error.got}, in {where}", error.hint) from error
    if (1, *x.shape[1:]) == like.shape:
        x = x.unsqueeze(1)  # grey images without an axis of channels
    if tuple(x.shape[1:]) != like.shape:
        columns = len(like.shape) == 1 and x.ndim == 2
        wanted = f"{like.shape[0]} columns" if columns else f"inputs of shape {like.shape}"
        got = f"{x.shape[1]} columns" if columns else f"shape {tuple(x.shape[1:])}"
        raise InputError(f"{wanted}, as in the run", f"{got} in {where}", "pass data of the same kind")
    return x


def _labels(found: New, x: Tensor, like: Like, where: str) -> tuple[Tensor | None, str]:
    if found.y is None:
        return None, ""
    strings = np.asarray(found.y).dtype.kind in "OUS" if not isinstance(found.y, Tensor) else False
    if strings and not like.classes:
        first = np.asarray(found.y).reshape(-1)[0]
        raise InputError("labels as numbers, as in the run", f"{str(first)!r} in row 0 of {where}", "number them")
    try:
        y = as_labels(found.y, x=x, task=like.task, classes=like.classes or None, least=1).y
    except InputError as error:
        raise InputError(error.expected, f"{error.got}, in {where}", error.hint) from error
    if len(y) != len(x):
        raise InputError("as many labels as inputs", f"{len(x)} inputs and {len(y)} labels in {where}", "pair them")
    return y, ""
