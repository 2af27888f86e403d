"""Loading data from a path: NPZ, NPY, CSV, TSV, Parquet, IDX files, folders of images, or the embedded digits.

The reader is chosen by the file's suffix, or by what a folder contains. Files that hold pickled Python objects are
refused, because reading them could run code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.data.meaning.about import About
from novacula.data.meaning.columns import asked
from novacula.data.meaning.known import Columns, known, matrix_of, words_of
from novacula.data.meaning.labels import Task
from novacula.data.raw import Raw, Source, Table
from novacula.data.sources.folders import RawImages
from novacula.data.sources.read import read
from novacula.data.sources.rows import opened


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts that a file or folder comes in."""

    train: Data  # the training rows, or all rows where the source has no test part
    test: Data | None  # the test rows, or None
    targets: tuple[str, ...] = ()  # names of the target's columns, where the source has them
    # numbers of the training rows in the source, shape ``(N,)``; None where these are all of them, in order
    rows: Tensor | None = None

    __repr__ = brief


def load(
    path: str | Path,
    target: str | int | Sequence[str] | None = None,
    *,
    split: int | str | Path | None = None,
    name: str | None = None,
    task: Task | None = None,
    tokens: bool = False,
    dtype: torch.dtype | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    size: int | None = None,
) -> Data:
    """Load the training part of a file or folder, or all of it where it has no parts.

    ==================  ===============================================================================================
    source              what is read
    ==================  ===============================================================================================
    ``"digits"``        1,797 images of 8×8 pixels in [0, 1], ten classes
    ``.npz``            arrays ``x``, ``X``, ``inputs``, ``images``, ``data`` or ``features`` with ``y``, ``labels``,
                        ``targets``, ``target`` or ``label``; or such pairs with ``train_`` and ``test_`` before or
                        after; ``test_index`` (a mask of shape ``(N,)`` or ``(K, N)``) and ``classes`` are understood
    ``.npy``            a structured array; a matrix with ``target`` as column index; or ``…x….npy`` beside ``…y….npy``
    ``.csv``, ``.tsv``  a header and rows; also gzipped, or called ``.txt`` or ``.data``. Words become one column each
                        (at most 20), and what is missing is filled and marked (`novacula.data.meaning.coding`)
    ``.parquet``        the same, by pyarrow or pandas
    IDX                 ``…images…`` with ``…labels…`` in the same folder, plain or ``.gz``; in a folder, ``train`` and
                        ``t10k`` or ``test``
    folder              ``class/*.png`` (also JPEG, BMP …), or the same under ``train/`` and ``test/``; by Pillow (see
                        `novacula.data.sources.pictures` for modes and sizes)
    ==================  ===============================================================================================

    Args:
        path: ``"digits"`` for scikit-learn's embedded digits; a file; or a folder (see the table).
        target: For tables, the target's column or columns: names, or an index counted from 0 (from the end if
            negative). By default a column called y, target, label, class or the like. For NPZ, the name of the labels'
            array.
        split: Which published split to use, for files with a ``test_index`` of shape ``(K, N)``; for a folder of
            images, a list of the files to learn from: names, or a csv with ``file`` and perhaps ``label`` and
            ``split``.
        name: A name, for people; by default the file's.
        task: What the target is, where the guess is wrong (whole numbers may be classes or measurements).
        tokens: Whether inputs are whole-number ids.
        dtype: The floating dtype wanted; by default torch's default dtype.
        categorical: Columns of a table whose numbers are names of categories.
        drop: Columns of a table to leave out.
        size: The size to which images are brought: the shorter side is scaled to so many pixels, then the centre is
            cut out. Without it images must have one size.

    Returns:
        The data.

    Raises:
        InputError: If the path does not exist or cannot be read, or its contents cannot be used; the message says which
            file, row and column.

    Example:
        >>> load("digits")
        Data('digits', n=1797, x=(1, 8, 8) float32, classification in 10 classes, 7838cd262b3f0c38)
    """
    options: dict[str, Any] = {"tokens": tokens, "dtype": dtype, "categorical": categorical, "drop": drop, "size": size}
    return load_splits(path, target, split=split, name=name, task=task, **options).train


def load_splits(
    path: str | Path,
    target: str | int | Sequence[str] | None = None,
    *,
    split: int | str | Path | None = None,
    name: str | None = None,
    task: Task | None = None,
    tokens: bool = False,
    dtype: torch.dtype | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    size: int | None = None,
) -> Splits:
    """Load a file or folder with its test part, if it has one; without it or ``split`` all rows are for training."""
    source = read(path, lambda raw: _asked(raw, categorical, drop, size).training(target, split))
    if isinstance(split, int) and source.test is None:
        raise InputError("a file with published splits (test_index)", str(path), "leave out split=")
    label = name or ("digits" if str(path) == "digits" else _stem(Path(path)))
    options: dict[str, Any] = {"name": label, "task": task, "tokens": tokens, "dtype": dtype}
    about = About(source.targets, source.said, size=size)
    rows = None if source.rows is None else torch.from_numpy(source.rows)
    inputs = _tables(source, str(path))
    train = _make(source.train, inputs[0], path, about, source, options)
    if source.test is None:
        return Splits(train, None, source.targets, rows)
    options["task"] = train.task
    named, held = dataclasses.replace(source, classes=_all_classes(train)), source.test
    if train.classes and not source.classes and held.y is not None and np.asarray(held.y).dtype.kind in "iuf":
        # Numbers that became names in the training part: as such they mean the same here.
        held = dataclasses.replace(held, y=np.ma.getdata(words_of(known(np.asarray(held.y).ravel()))))
    test = _make(held, inputs[1], f"{path} (test part)", train.about, named, options)
    test = test._set(classes=train.classes)
    if test.x_shape != train.x_shape:
        raise InputError(
            "training and test inputs of one shape", f"{train.x_shape} and {test.x_shape} in {path}", "write them anew"
        )
    return Splits(train, test, source.targets, rows)


def _asked(raw: Raw, categorical: Sequence[str], drop: Sequence[str], size: int | None) -> Raw:
    raw = asked(raw, categorical, drop)
    if size is None:
        return raw
    if not isinstance(raw, RawImages):
        raise InputError("files of images to bring to a size", "a source of arrays", "leave out the size")
    return dataclasses.replace(raw, size=size)


def _tables(source: Source, where: str) -> tuple[Any, Any]:
    # Inputs of both parts; matrices as columns where something is missing in one of them.
    both = [None if part is None else part.x for part in (source.train, source.test)]
    tables = [x for x in both if isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype.kind == "f"]
    if any(bool(np.isnan(x).any()) for x in tables):
        both = [x if x is None else matrix_of(x, source.columns, where) for x in both]
    return both[0], both[1]


def _all_classes(train: Data) -> tuple[str, ...] | None:
    # Names for all classes, so that a test part in which some are missing is not numbered by itself.
    if train.task != "classification":
        return train.classes or None
    return train.classes or tuple(map(str, range(int(train.y.max()) + 1)))


def _make(table: Table, x: Any, path: object, about: About, source: Source, options: dict[str, Any]) -> Data:
    # Names found beside the arrays may be those of something else (scikit-learn's target_names of a regression).
    classes, columns = source.classes, source.columns
    if isinstance(table.y, np.ndarray) and table.y.dtype.kind == "f":
        classes = None
    if columns is not None and (isinstance(x, Columns) or tuple(x.shape[1:]) != (len(columns),)):
        columns = None
    try:
        x = opened(x, tokens=options["tokens"], dtype=options["dtype"], columns=columns or ())
        return Data(x, table.y, classes=classes, columns=columns, about=about, **options)
    except InputError as error:
        raise InputError(error.expected, f"{error.got}, in {path}", error.hint) from error


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0] or path.name if path.is_file() else path.resolve().name
