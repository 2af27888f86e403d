"""Loading data from a path: NPZ, NPY, CSV, TSV, Parquet, IDX files, folders of images, or the embedded digits.

The reader is chosen by the file's suffix, or by what a folder contains. Files that hold pickled Python objects are
refused, because reading them could run code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.data.columns import asked
from novacula.data.data import Data
from novacula.data.labels import Task
from novacula.data.raw import Table
from novacula.data.sources.read import read


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts that a file or folder comes in.

    Args:
        train: The training rows, or all rows where the source has no test part.
        test: The test rows, or None.
        targets: Names of the target's columns, where the source has them.
    """

    train: Data
    test: Data | None
    targets: tuple[str, ...] = ()

    __repr__ = brief


def load(
    path: str | Path,
    target: str | int | Sequence[str] | None = None,
    *,
    split: int | None = None,
    name: str | None = None,
    task: Task | None = None,
    tokens: bool = False,
    dtype: torch.dtype | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
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
    ``.csv``, ``.tsv``  a header and rows; also gzipped. Text columns become one column a value (at most 20 values)
    ``.parquet``        the same, by pyarrow or pandas
    IDX                 ``…images…`` with ``…labels…`` in the same folder, plain or ``.gz``; in a folder, ``train`` and
                        ``t10k`` or ``test``
    folder              ``class/*.png`` (also JPEG, BMP …), or the same under ``train/`` and ``test/``; by Pillow
    ==================  ===============================================================================================

    Args:
        path: ``"digits"`` for scikit-learn's embedded digits; a file; or a folder (see the table).
        target: For tables, the target's column or columns: names, or an index counted from 0 (from the end if
            negative). By default a column called y, target, label, class or the like. For NPZ, the name of the labels'
            array.
        split: Which published split to use, for files with a ``test_index`` of shape ``(K, N)``.
        name: A name, for people; by default the file's.
        task: What the target is, where the guess is wrong (whole numbers may be classes or measurements).
        tokens: Whether inputs are whole-number ids.
        dtype: The floating dtype wanted; by default torch's default dtype.
        categorical: Columns of a table whose numbers are names of categories.
        drop: Columns of a table to leave out.

    Returns:
        The data.

    Raises:
        InputError: If the path does not exist or cannot be read, or its contents cannot be used; the message says which
            file, row and column.

    Example:
        >>> load("digits")
        Data('digits', n=1797, x=(1, 8, 8) float32, classification in 10 classes, 7838cd262b3f0c38)
    """
    options: dict[str, Any] = {"tokens": tokens, "dtype": dtype, "categorical": categorical, "drop": drop}
    return load_splits(path, target, split=split, name=name, task=task, **options).train


def load_splits(
    path: str | Path,
    target: str | int | Sequence[str] | None = None,
    *,
    split: int | None = None,
    name: str | None = None,
    task: Task | None = None,
    tokens: bool = False,
    dtype: torch.dtype | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Splits:
    """Load a file or folder with its test part, if it has one; without it or ``split`` all rows are for training."""
    source = read(path, lambda raw: asked(raw, categorical, drop).training(target, split))
    if split is not None and source.test is None:
        raise InputError("a file with published splits (test_index)", str(path), "leave out split=")
    label = name or ("digits" if str(path) == "digits" else _stem(Path(path)))
    options: dict[str, Any] = {"name": label, "task": task, "tokens": tokens, "dtype": dtype}
    train = _make(source.train, path, classes=source.classes, columns=source.columns, options=options)
    if source.test is None:
        return Splits(train, None, source.targets)
    options["task"] = train.task
    where = f"{path} (test part)"
    test = _make(source.test, where, classes=_all_classes(train), columns=source.columns, options=options)
    test = test._set(classes=train.classes)
    if test.x_shape != train.x_shape:
        raise InputError(
            "training and test inputs of one shape", f"{train.x_shape} and {test.x_shape} in {path}", "write them anew"
        )
    return Splits(train, test, source.targets)


def _all_classes(train: Data) -> tuple[str, ...] | None:
    # Names for all classes, so that a test part in which some are missing is not numbered by itself.
    if train.task != "classification":
        return train.classes or None
    return train.classes or tuple(map(str, range(int(train.y.max()) + 1)))


def _make(table: Table, path: object, *, classes: Any, columns: Any, options: dict[str, Any]) -> Data:
    # Names found beside the arrays may be those of something else (scikit-learn's target_names of a regression).
    if isinstance(table.y, np.ndarray) and table.y.dtype.kind == "f":
        classes = None
    if columns is not None and np.shape(table.x)[1:] != (len(columns),):
        columns = None
    try:
        return Data(table.x, table.y, classes=classes, columns=columns, **options)
    except InputError as error:
        raise InputError(error.expected, f"{error.got}, in {path}", error.hint) from error


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0] or path.name if path.is_file() else path.resolve().name
