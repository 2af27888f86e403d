"""IDX files, the format of MNIST, alone or in a folder.

An IDX file starts with two zero bytes, one that tells the type, one that tells the number of axes, then the axes'
lengths as big-endian 32-bit integers, then the values, big-endian, last axis fastest.

References:
    The MNIST database of handwritten digits. Y. LeCun, C. Cortes, C. J. C. Burges, 1998.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from novacula.core.errors import InputError
from novacula.data.sources.arrays import Part, RawArrays
from novacula.data.sources.bounded import read_bytes

_IDX_NAME = re.compile(r"idx\d[-.]?u?byte|\.idx\d?(\.gz)?$|-ubyte(\.gz)?$", re.IGNORECASE)
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_AXES = 8
_TEST_WORDS = {"t10k", "test"}


def is_idx(path: Path) -> bool:
    """Whether a file's name says that it is an IDX file."""
    return bool(_IDX_NAME.search(path.name)) and not path.name.startswith(".")


def open_idx(path: Path) -> RawArrays:
    """Open an IDX file of images, or a folder of them, perhaps in a training and a test part; labels lie beside."""
    folder = path if path.is_dir() else path.parent

    def read(name: str) -> np.ndarray:
        a = _read_idx(folder / name)
        if "labels" in name.lower() and a.ndim != 1:
            got = f"{a.ndim} axes in {folder / name}"
            raise InputError("labels with one axis", got, "check that it is the file of labels")
        return a

    def part(name: str) -> Part | None:
        images = _idx_images(path, name)
        return None if images is None else Part(name, images, lambda wanted: _idx_labels(folder / images))

    def unlabelled(part: Part, target: str | None) -> InputError:
        images = folder / part.inputs
        if "images" not in part.inputs.lower():
            hint = "pass the file whose name contains 'images', or its folder"
            return InputError("an IDX file of images", str(images), hint)
        stem, got = _idx_label_name(images), f"no such file beside {images}"
        return InputError(f"labels in {stem} or {stem}.gz", got, "put it in the same folder")

    absent = InputError("one IDX file of training images", f"none in {path}", "pass the file of images itself")
    return RawArrays(str(path), read, part, absent, unlabelled)


def _idx_images(path: Path, part: str) -> str | None:
    if not path.is_dir() or part == "train":
        return None if part else path.name
    found = sorted(p for p in path.iterdir() if is_idx(p) and "images" in p.name.lower())
    # A file and its gzipped copy are the same thing; the plain one is faster to read.
    found = [p.name for p in found if not (p.suffix == ".gz" and p.with_suffix("") in found)]
    found = [n for n in found if bool(_TEST_WORDS & set(re.split(r"[-_.]", n.lower()))) == (part == "test")]
    if len(found) > 1:
        wanted = f"one IDX file of {part or 'training'} images"
        raise InputError(wanted, f"{', '.join(found)} in {path}", "pass the file of images itself")
    return found[0] if found else None


def _idx_label_name(images: Path) -> str:
    name = re.sub("images", "labels", images.name, flags=re.IGNORECASE)
    return re.sub(r"idx\d", "idx1", name, flags=re.IGNORECASE).removesuffix(".gz")


def _idx_labels(images: Path) -> str | None:
    stem = _idx_label_name(images)
    names = (stem, stem + ".gz") if "images" in images.name.lower() else ()
    return next((name for name in names if images.with_name(name).is_file()), None)


def _read_idx(path: Path) -> np.ndarray:
    raw = read_bytes(path)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or len(raw) < 4 + 4 * raw[3]:
        raise _damaged(path, "no IDX header")
    shape = tuple(int(v) for v in np.frombuffer(raw, ">i4", count=raw[3], offset=4))
    dtype = np.dtype(_IDX_TYPES[raw[2]])
    if not 1 <= len(shape) <= _IDX_AXES or min(shape) < 0:
        raise _damaged(path, f"a header with shape {shape[:_IDX_AXES]}, of {len(shape)} axes")
    expected, found = math.prod(shape) * dtype.itemsize, len(raw) - 4 - 4 * raw[3]
    if expected != found:
        raise _damaged(path, f"{found} bytes of values where its header promises {expected} for shape {shape}")
    return np.frombuffer(raw, dtype, offset=4 + 4 * raw[3]).reshape(shape)


def _damaged(path: Path, what: str) -> InputError:
    return InputError("a whole IDX file", f"{path}: {what}", "fetch it again")
