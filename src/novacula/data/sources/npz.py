"""NumPy's own files: arrays by their usual names, with training and test parts or published splits."""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from novacula.core.errors import InputError
from novacula.data.sources.tables import Columns
from novacula.data.tables import New, Source, Table, from_columns

INPUT_NAMES = ("x", "inputs", "images", "features", "data", "input", "image")
LABEL_NAMES = ("y", "labels", "targets", "target", "label")
COLUMN_NAMES = ("columns", "feature_names")
_PARTS = ("train", "test")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError)


def read_npz(path: Path, target: str | int | Sequence[str] | None, split: int | None) -> Source:
    """Read an archive of arrays."""
    if target is not None and not isinstance(target, str):
        raise InputError("the name of the labels' array", repr(target), "target='y', for instance")
    try:
        _check_magic(path)
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise InputError("an .npz archive", f"{path}, a single array", "name it .npy, or write it with np.savez")
        with file:
            return _Archive(file, path).read(target, split)
    except InputError:
        raise
    except _UNREADABLE as error:
        _refuse_unreadable(path, error)


def read_new_npz(path: Path, target: str | None, groups: str | None, *, labels: bool) -> New:
    """Read inputs to predict: of the test part where there is one, with labels where there are any; groups ``(N,)``."""
    try:
        _check_magic(path)
        with np.load(path, allow_pickle=False) as file:
            return _Archive(file, path).new(target, groups, labels=labels)
    except InputError:
        raise
    except _UNREADABLE as error:
        _refuse_unreadable(path, error)


def read_new_npy(path: Path, *, labels: bool) -> New | Columns:
    """Read inputs to predict from a single array."""
    try:
        _check_magic(path)
        x = np.load(path, allow_pickle=False)
        beside = _companion(path) if labels else None
        y = None if beside is None else np.load(beside, allow_pickle=False)
    except InputError:
        raise
    except _UNREADABLE as error:
        _refuse_unreadable(path, error)
    if x.dtype.names:
        return Columns(tuple(x.dtype.names), len(x), lambda name: np.asarray(x[name]), lambda name: 0)
    if x.ndim == 2 and y is None:
        return Columns(tuple(map(str, range(x.shape[1]))), len(x), lambda name: x[:, int(name)], lambda name: 0)
    return New(_image_axes(x, path.stem), y)


def read_npy(path: Path, target: str | int | Sequence[str] | None) -> Source:
    """Read a single array, or a pair of files."""
    try:
        _check_magic(path)
        x = np.load(path, allow_pickle=False)
        if x.dtype.names:
            columns = {name: np.asarray(x[name]) for name in x.dtype.names}
            return from_columns(columns, target, str(path))
        if target is not None:
            if x.ndim != 2:
                raise InputError(
                    "a matrix in which to choose a target", f"shape {x.shape} in {path}", "leave out the target"
                )
            return from_columns({str(i): x[:, i] for i in range(x.shape[1])}, target, str(path))
        labels = _companion(path)
        if labels is None:
            raise InputError(
                "labels for the inputs",
                f"{path} without a file of labels beside it",
                "save both with np.savez('data.npz', x=x, y=y), or give the target's column index",
            )
        return Source(Table(_image_axes(x, path.stem), np.load(labels, allow_pickle=False)))
    except InputError:
        raise
    except _UNREADABLE as error:
        _refuse_unreadable(path, error)


class _Archive:
    """An open archive, with its arrays by base name and part."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path = file, path
        self.keys = [k for k in file.files if not k.startswith("__")]

    def read(self, target: str | None, split: int | None) -> Source:
        classes = self._names("classes", "class_names", "label_names", "target_names")
        columns = self._names(*COLUMN_NAMES)
        parts = {part: self._find(INPUT_NAMES, part) for part in _PARTS}
        if split is not None and any(parts.values()):
            raise InputError("a file with published splits", f"{self.path}, which has a test part", "leave out split=")
        if parts["train"] is not None:
            train = self._table(parts["train"], "train", target)
            test = self._table(parts["test"], "test", target) if parts["test"] is not None else None
            return Source(train, test, classes, columns)
        key = self._find(INPUT_NAMES, "")
        if key is None:
            raise InputError(
                f"an array of inputs called {', '.join(INPUT_NAMES)} or train_images",
                f"{self.path} with {', '.join(self.keys) or 'no arrays'}",
                "np.savez('data.npz', x=x, y=y)",
            )
        table = self._table(key, "", target)
        if parts["test"] is not None:
            return Source(table, self._table(parts["test"], "test", target), classes, columns)
        if split is None:
            return Source(table, None, classes, columns)
        mask = self._mask(split, len(table.x))
        return Source(Table(table.x[~mask], table.y[~mask]), Table(table.x[mask], table.y[mask]), classes, columns)

    def new(self, target: str | None, groups: str | None, *, labels: bool) -> New:
        found = [(part, key) for part in ("test", "", "train") if (key := self._find(INPUT_NAMES, part)) is not None]
        if not found:
            raise InputError(
                f"an array of inputs called {', '.join(INPUT_NAMES)}",
                f"{self.path} with {', '.join(self.keys) or 'no arrays'}",
                "np.savez('data.npz', x=x)",
            )
        part, key = found[0]
        label = None
        if labels:
            label = self._named(target, part) if target is not None else None
            label = label or self._find(LABEL_NAMES, part)
        group = None if groups is None else self._named(groups, part)
        if groups is not None and group is None:
            raise InputError(f"an array {groups!r}", f"{self.path} with {', '.join(self.keys)}", "name one of these")
        x = self.file[key]
        y, z = (None if k is None else self.file[k] for k in (label, group))
        for name, a in ((label, y), (group, z)):
            if a is not None and (a.ndim == 0 or len(a) != len(x)):
                raise InputError(
                    f"{len(x)} entries, as in {key}", f"shape {a.shape} in {name} of {self.path}", "check them"
                )
        note = f"{self.path} has a test part: its {len(x):,} rows are read" if part == "test" else ""
        return New(_image_axes(x, key), y, None if z is None else z.tolist(), self._names(*COLUMN_NAMES) or (), note)

    def _named(self, name: str, part: str) -> str | None:
        return next((k for k in self.keys if k == name or k.lower() in _spellings(name.lower(), part)), None)

    def _find(self, names: Sequence[str], part: str) -> str | None:
        found = {name: [k for k in self.keys if k.lower() in _spellings(name, part)] for name in names}
        hits = [k for keys in found.values() for k in keys]
        if len(hits) > 1 and len(found[names[0]]) == 1:
            return found[names[0]][0]
        if len(hits) > 1:
            what = "inputs" if names is INPUT_NAMES else "labels"
            hint = "save the one that is meant as x" if names is INPUT_NAMES else f"target={hits[0]!r}"
            raise InputError(f"one array of {what}", f"{' and '.join(hits)} in {self.path}", hint)
        return hits[0] if hits else None

    def _table(self, key: str, part: str, target: str | None) -> Table:
        if target is None:
            label = self._find(LABEL_NAMES, part)
        else:
            label = self._named(target, part)
        if label is None:
            close = difflib.get_close_matches(target or "y", [k for k in self.keys if k != key], n=1)
            raise InputError(
                f"an array of labels called {target or ', '.join(LABEL_NAMES)}"
                + (f" for the {part} part" if part else ""),
                f"{self.path} with {', '.join(self.keys)}",
                f"target={close[0]!r}" if close else "np.savez('data.npz', x=x, y=y)",
            )
        x, y = self.file[key], self.file[label]
        if x.ndim == 0 or y.ndim == 0:
            raise InputError(
                "arrays of inputs and labels", f"a single value in {key} or {label} of {self.path}", "check them"
            )
        if len(x) != len(y):
            got = f"{len(x)} in {key} and {len(y)} in {label} of {self.path}"
            raise InputError("as many labels as inputs", got, "write them anew from the same rows")
        return Table(_image_axes(x, key), y)

    def _names(self, *keys: str) -> tuple[str, ...] | None:
        key = next((k for k in keys if k in self.keys), None)
        if key is None:
            return None
        try:
            values = self.file[key]
        except ValueError:  # pickled strings: names are a convenience, and not worth running a pickle for
            return None
        return tuple(map(str, values.tolist())) if values.ndim == 1 else None

    def _mask(self, split: int, n: int) -> np.ndarray:
        key = next((k for k in ("test_index", "test_mask") if k in self.keys), None)
        if key is None:
            keys = ", ".join(self.keys)
            raise InputError("an array test_index with the splits", f"{self.path} with {keys}", "leave out split=")
        masks = np.atleast_2d(self.file[key])
        if masks.dtype != np.bool_ or masks.ndim != 2 or masks.shape[1] != n:
            got = f"shape {masks.shape}, {masks.dtype} in {self.path}"
            raise InputError(f"{key} as a boolean mask of shape (splits, {n})", got, "write masks, not row numbers")
        if not 0 <= split < len(masks):
            raise InputError(f"a split from 0 to {len(masks) - 1}", f"split={split} for {self.path}", "split=0")
        return masks[split]


def _spellings(name: str, part: str) -> tuple[str, ...]:
    if not part:
        return (name,)
    return f"{part}_{name}", f"{name}_{part}", f"{part}{name}" if len(name) > 1 else f"{name}{part}"


# Grey images (N, H, W) get their axis of channels; the name says that they are images.
def _image_axes(x: np.ndarray, key: str) -> np.ndarray:
    return x[:, None] if x.ndim == 3 and "image" in key.lower() else x


# NumPy takes any other file for a pickle and says so, which would mislead the owner of a damaged one.
def _check_magic(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(6)
    if start != b"\x93NUMPY" and not zipfile.is_zipfile(path) and not start.startswith(b"\x80"):
        raise ValueError("not a NumPy file, or cut short")


def _companion(path: Path) -> Path | None:
    pieces = path.stem.replace("-", "_").split("_")
    for position, piece in enumerate(pieces):
        if piece.lower() not in INPUT_NAMES:
            continue
        start = len("_".join(pieces[:position])) + (position > 0)
        for label in LABEL_NAMES:
            for spelling in (label, label.upper(), label.capitalize()):
                stem = path.stem[:start] + spelling + path.stem[start + len(piece) :]
                if (beside := path.with_name(stem + path.suffix)).is_file():
                    return beside
    return None


def _refuse_unreadable(path: Path, error: Exception) -> NoReturn:
    if "allow_pickle" in str(error) or "pickled" in str(error):
        raise InputError(
            "arrays of numbers or fixed-length text",
            f"{path} with pickled Python objects, which could run code",
            "save plain arrays: np.savez(path, x=x.astype(float), y=y)",
        ) from error
    raise InputError("a readable NumPy file", f"{path}: {error}", "write it again, or fetch it again") from error
