"""Data to predict: read like the training data of a run, but without the need of labels.

A run remembers what its inputs were (`Like`). New tables are matched by the names of their columns, in any order;
further columns are left alone. Where the training data were text that became indicator columns, the same values become
the same columns. Labels are read where there are any.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.arrays import frame_columns
from novacula.data.data import Data
from novacula.data.inputs import as_inputs, warn_unscaled
from novacula.data.lazy import LazyRows
from novacula.data.meaning.coding import Coding, Column
from novacula.data.meaning.columns import listed
from novacula.data.meaning.known import DAYS, Columns, frame_of, matrix_of
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


def like_of(data: Data) -> Like:
    """What new inputs must be like to be as those of training data."""
    x, about, ids = data.x, data.about, data.x.dtype == torch.int64
    colours = x.ndim == 4 and not ids and bool((x[:8].amin() >= 0) & (x[:8].amax() <= 1))
    names = (data.classes, data.columns, about.targets)
    given = (about.coding, about.size, data.scaling, colours)
    return Like(data.x_shape, data.task, *names, ids, None if ids else x.dtype, *given)


def as_new(x: Any, like: Like | None, dtype: torch.dtype | None = None) -> Any:
    """Inputs ``(N, …)`` from Python like those of training; those of a frame or `Data` in the units of training."""
    # Floats in a tensor are taken as they are. Where nothing is known of the training data, a dtype is.
    if isinstance(x, Data):
        return _of_data(x, like)
    table = frame_of(x)
    if table is not None and like is not None and like.columns:
        coding = Coding(tuple(map(Column, like.columns))) if like.coding is None else like.coding.unitless(DAYS)
        if lost := [name for name in coding.sources if name not in table.values]:
            raise InputError(f"columns {listed(coding.sources)}", f"a frame without {lost[0]!r}", "rename them")
        for said in coding.remarks(table):
            warnings.warn(said, NovaculaWarning, stacklevel=3)
        made = as_inputs(coding.encode(table), tokens=like.tokens, dtype=like.dtype, columns=like.columns, least=1)
        return made if like.scaling is None else like.scaling.inputs(made)
    if isinstance(x, LazyRows) or (isinstance(x, Tensor) and (like is None or not like.dtype or x.is_floating_point())):
        if like is not None and like.colours and x.ndim == 4 and len(x):
            warn_unscaled(x[:8])
        return x
    tokens, dtype = (False, dtype) if like is None else (like.tokens, like.dtype)
    return as_inputs(x, tokens=tokens, dtype=dtype, columns=frame_columns(x), least=1)


def _of_data(data: Data, like: Like | None) -> Tensor:
    own, wanted = data.scaling, None if like is None else like.scaling
    if like is not None and data.columns != like.columns and data.columns and like.columns:
        got = f"data with columns {listed(data.columns)}"
        raise InputError(
            f"columns {listed(like.columns)}", got, "nv.Data(x, y, coding=train.coding), or pass the frame"
        )
    if own is not None and (wanted is None or not torch.equal(own.x_mean, wanted.x_mean)):
        got = "data that were standardised by themselves"
        raise InputError("data in the units of training", got, "apply the training data's scaling, or none")
    return data.x if own is not None or wanted is None else wanted.inputs(data.x)


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
