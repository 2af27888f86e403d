"""Data to predict: read like the training data of a run, but without the need of labels.

A run remembers what its inputs were (`Like`). New tables are matched by the names of their columns, in any order;
further columns are left alone. Where the training data were text that became indicator columns, the same values become
the same columns. Labels are read where there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.data.inputs import as_inputs
from novacula.data.meaning.coding import Coding, Column
from novacula.data.meaning.columns import listed
from novacula.data.meaning.known import Columns, matrix_of
from novacula.data.meaning.labels import as_labels
from novacula.data.raw import Like, New
from novacula.data.sources.read import read
from novacula.data.sources.rows import opened


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

    __repr__ = brief

    @property
    def n(self) -> int:
        """The number of rows N."""
        return len(self.x)


def load_new(path: str | Path, like: Like, *, labels: bool = True, groups: str | None = None) -> NewData:
    """Load inputs to predict, with their labels where there are any.

    Args:
        path: ``"digits"``, a file or a folder, as `load` takes them; also an image, a folder of images without
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
    found = read(path, lambda raw: raw.new(like, labels=labels, groups=groups))
    name, where = Path(path).stem.removesuffix(".csv").removesuffix(".tsv"), str(Path(path).expanduser())
    raw, said = _encoded(found, like, where)
    x = _inputs(raw, like, where)
    y = _labels(found, x, like, where) if labels and found.y is not None else None
    return NewData(x, y, name, torch.arange(len(x)), found.names, found.groups, (*found.notes, *said))


def read_groups(path: str | Path, groups: str, like: Like) -> list[Any]:
    """The group of each row of a file, a name or number: its column or array of that name."""
    return read(path, lambda raw: raw.new(like, labels=False, groups=groups)).groups or []


def _encoded(found: New, like: Like, where: str) -> tuple[Any, tuple[str, ...]]:
    # Inputs as an array in the run's order of columns, and what became of words and missing entries.
    raw, coding = opened(found.x, tokens=like.tokens, dtype=like.dtype, columns=like.columns), like.coding
    own = like.columns if coding is None else coding.sources
    if not isinstance(raw, Columns) and len(like.shape) == 1 and raw.ndim == 2:
        if found.columns and own:
            missing = [c for c in own if c not in found.columns]
            if missing:
                raise InputError(f"columns {listed(own)}", f"none called {missing[0]!r} in {where}", "rename them")
            raw = raw[:, [found.columns.index(c) for c in own]]
        if coding is not None and coding.learned and raw.shape[1] == len(own):
            raw, coding = matrix_of(raw, own, where), coding.unitless()
    if not isinstance(raw, Columns):
        return raw, ()
    coding = coding or Coding(tuple(map(Column, raw.values)))
    return coding.encode(raw), coding.remarks(raw)


def _inputs(raw: Any, like: Like, where: str) -> Tensor:
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


def _labels(found: New, x: Tensor, like: Like, where: str) -> Tensor:
    if np.asarray(found.y).dtype.kind in "OUS" and not like.classes:
        first = np.asarray(found.y).reshape(-1)[0]
        raise InputError("labels as numbers, as in the run", f"{str(first)!r} in row 0 of {where}", "number them")
    try:
        y = as_labels(found.y, x=x, task=like.task, classes=like.classes or None, least=1, numbered=True).y
    except InputError as error:
        raise InputError(error.expected, f"{error.got}, in {where}", error.hint) from error
    if len(y) != len(x):
        raise InputError("as many labels as inputs", f"{len(x)} inputs and {len(y)} labels in {where}", "pair them")
    return y
