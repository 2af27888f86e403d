"""NumPy's own files: arrays by their usual names, with training and test parts or published splits."""

from __future__ import annotations

import difflib
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from novacula.core.errors import InputError
from novacula.data import lazy
from novacula.data.meaning.columns import RawColumns
from novacula.data.meaning.known import known
from novacula.data.sources.arrays import Part, RawArrays
from novacula.data.sources.bounded import check_archive, check_array
from novacula.data.sources.rows import rows_of_file

INPUT_NAMES = ("x", "inputs", "images", "features", "data", "input", "image")
LABEL_NAMES = ("y", "labels", "targets", "target", "label")
CLASS_NAMES = ("classes", "class_names", "label_names", "target_names")
COLUMN_NAMES = ("columns", "feature_names")
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    ArithmeticError,
    ValueError,
    LookupError,
    SyntaxError,
    TypeError,
    AttributeError,
    RuntimeError,  # an encrypted archive, an unknown way of compression, nesting
    MemoryError,
    EOFError,
)


def open_npz(path: Path) -> RawArrays:
    """Open an archive of arrays."""
    keys = tuple(k for k in _load(path, names=True) if not k.startswith("__"))

    def read(key: str) -> Any:
        return rows_of_file(path, key) or _load(path, key)

    def part(name: str) -> Part | None:
        inputs = _find(keys, INPUT_NAMES, name, path)
        return None if inputs is None else Part(name, inputs, lambda wanted: label(wanted, name))

    def label(wanted: str | None, name: str) -> str | None:
        return _find(keys, LABEL_NAMES, name, path) if wanted is None else _named(keys, wanted, name)

    def unlabelled(part: Part, target: str | None) -> InputError:
        close = difflib.get_close_matches(target or "y", [k for k in keys if k != part.inputs], n=1)
        wanted = f"an array of labels called {target or ', '.join(LABEL_NAMES)}"
        return InputError(
            wanted + (f" for the {part.name} part" if part.name else ""),
            f"{path} with {', '.join(keys)}",
            f"target={close[0]!r}" if close else "np.savez('data.npz', x=x, y=y)",
        )

    absent = InputError(
        f"an array of inputs called {', '.join(INPUT_NAMES)} or train_images",
        f"{path} with {', '.join(keys) or 'no arrays'}",
        "np.savez('data.npz', x=x, y=y)",
    )
    classes, columns = (_texts(path, keys, names) for names in (CLASS_NAMES, COLUMN_NAMES))
    return RawArrays(str(path), read, part, absent, unlabelled, keys, classes, columns)


def open_npy(path: Path) -> RawColumns | RawArrays:
    """Open a single array, of columns or with its labels in a file beside it."""
    x, where = _load(path), str(path)
    if x.dtype.names:
        return RawColumns(where, tuple(x.dtype.names), len(x), lambda name: known(x[name], where=f"field {name!r}"))
    table = None
    if x.ndim == 2:
        places = tuple(map(str, range(x.shape[1])))
        table = RawColumns(where, places, len(x), lambda name: known(x[:, int(name)], where=f"column {name}"))
    unlabelled = InputError(
        "labels for the inputs",
        f"{path} without a file of labels beside it",
        "save both with np.savez('data.npz', x=x, y=y), or give the target's column index",
    )
    whole = Part("", path.stem, lambda name: _companion(path) if name is None else None)
    return RawArrays(
        where,
        lambda name: (rows_of_file(path) or x) if name == path.stem else _load(path.with_name(name)),
        {"": whole}.get,
        unlabelled,
        lambda part, target: unlabelled,
        table=table,
    )


def _load(path: Path, key: str | None = None, *, names: bool = False) -> Any:
    # A single array; or of an archive one array, or the names of all.
    archive = key is not None or names
    try:
        _check_sizes(path)
        large = not archive and path.stat().st_size > lazy.LARGE  # pages of a mapped file are read as they are used
        file = np.load(path, allow_pickle=False, mmap_mode="r" if large else None)
        if not archive:
            return file
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise InputError("an .npz archive", f"{path}, a single array", "name it .npy, or write it with np.savez")
        with file:
            return file.files if key is None else file[key]
    except InputError:
        raise
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _named(keys: Sequence[str], name: str, part: str) -> str | None:
    return next((k for k in keys if k == name or k.lower() in _spellings(name.lower(), part)), None)


def _find(keys: Sequence[str], names: Sequence[str], part: str, path: Path) -> str | None:
    found = {name: [k for k in keys if k.lower() in _spellings(name, part)] for name in names}
    hits = [k for several in found.values() for k in several]
    if len(hits) > 1 and len(found[names[0]]) == 1:
        return found[names[0]][0]
    if len(hits) > 1:
        what = "inputs" if names is INPUT_NAMES else "labels"
        hint = "save the one that is meant as x" if names is INPUT_NAMES else f"target={hits[0]!r}"
        raise InputError(f"one array of {what}", f"{' and '.join(hits)} in {path}", hint)
    return hits[0] if hits else None


def _texts(path: Path, keys: Sequence[str], names: Sequence[str]) -> tuple[str, ...] | None:
    key = next((k for k in names if k in keys), None)
    if key is None:
        return None
    try:
        values = _load(path, key)
    except InputError:  # pickled strings: names are a convenience, and not worth running a pickle for
        return None
    return tuple(map(str, values.tolist())) if values.ndim == 1 else None


def _spellings(name: str, part: str) -> tuple[str, ...]:
    if not part:
        return (name,)
    return f"{part}_{name}", f"{name}_{part}", f"{part}{name}" if len(name) > 1 else f"{name}{part}"


# NumPy takes any other file for a pickle and says so, which would mislead the owner of a damaged one.
def _check_sizes(path: Path) -> None:
    if not path.is_file():
        raise ValueError("no regular file")
    with path.open("rb") as file:
        start = file.read(6)
        if start == b"\x93NUMPY":
            file.seek(0)
            return check_array(file, path.stat().st_size, str(path))
    if zipfile.is_zipfile(path):
        return check_archive(path)
    if not start.startswith(b"\x80"):
        raise ValueError("not a NumPy file, or cut short")
    return None


def _companion(path: Path) -> str | None:
    pieces = path.stem.replace("-", "_").split("_")
    for position, piece in enumerate(pieces):
        if piece.lower() not in INPUT_NAMES:
            continue
        start = len("_".join(pieces[:position])) + (position > 0)
        for label in LABEL_NAMES:
            for spelling in (label, label.upper(), label.capitalize()):
                stem = path.stem[:start] + spelling + path.stem[start + len(piece) :]
                if (beside := path.with_name(stem + path.suffix)).is_file():
                    return beside.name
    return None


def _unreadable(path: Path, error: Exception) -> InputError:
    if "allow_pickle" in str(error) or "pickled" in str(error):
        return InputError(
            "arrays of numbers or fixed-length text",
            f"{path} with pickled Python objects, which could run code",
            "save plain arrays: np.savez(path, x=x.astype(float), y=y)",
        )
    return InputError("a readable NumPy file", f"{path}: {error}", "write it again, or fetch it again")
