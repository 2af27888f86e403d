"""Image sets: IDX files (the format of MNIST) and folders with one folder a class.

An IDX file starts with two zero bytes, one that tells the type, one that tells the number of axes, then the axes'
lengths as big-endian 32-bit integers, then the values, big-endian, last axis fastest.

References:
    The MNIST database of handwritten digits. Y. LeCun, C. Cortes, C. J. C. Burges, 1998.
"""

from __future__ import annotations

import importlib
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from novacula.core.errors import InputError
from novacula.data.columns import no_groups
from novacula.data.raw import Choice, Like, New, Source, Table
from novacula.data.sources.arrays import Part, RawArrays
from novacula.data.sources.bounded import read_bytes

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # Pillow tells by the content, and knows others
MOST_PIXELS = 2**26
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


@dataclass(frozen=True, eq=False)
class RawImages:
    """One image, or a folder of images in folders of classes, of parts, or in none; opened when they are asked for."""

    path: Path

    def training(self, target: Choice, split: int | None) -> Source:
        """``class/*.png``, or the same under ``train`` and ``test``, as bytes ``(N, channels, H, W)``."""
        if target is not None:
            hint = "leave out the target: labels come with the images"
            raise InputError("a table for which to choose a target", str(self.path), hint)
        if self.path.is_file():
            got = f"the single image {self.path}"
            raise InputError("a folder of images, one folder a class", got, "pass its parent's parent")
        parts = self._parts()
        train = parts.get("train", self.path)
        names = ("test", "val", "valid", "validation") if "train" in parts else ()
        test = next((parts[name] for name in names if name in parts), None)
        classes = _class_names(train)
        held = None if test is None else _image_table(test, classes)
        return Source(_image_table(train, classes), held, classes=classes)

    def new(self, like: Like, *, labels: bool, groups: str | None) -> New:
        """The images of the test part where there is one, with or without folders of classes."""
        if groups is not None:
            raise no_groups(groups, str(self.path))
        path, parts = self.path, self._parts()
        root = parts["test"] if {"train", "test"} <= set(parts) else path
        inside = [path] if path.is_file() else sorted(root.glob("**/*"))
        files = [p for p in inside if p == path or _is_image(p.relative_to(root))]
        if not files:
            raise InputError("images", f"none in {path}", "pass a folder of images, or one image")
        x = _stack(files, "L" if len(like.shape) == 3 and like.shape[0] == 1 else "RGB")
        folders = [p.relative_to(root).parts[0] for p in files if p.parent != root and p != root]
        labelled = labels and len(folders) == len(files)
        note = "" if root == path else f"{path} has a test part: its {len(files):,} images are read"
        if labelled and (strange := next((f for f in folders if f not in like.classes), None)) is not None:
            labelled, note = False, f"the folder {strange!r} is none of the classes: folders are not taken for labels"
        names = tuple(path.name if p == root else p.relative_to(root).as_posix() for p in files)
        return New(x, folders if labelled else None, notes=(note,) if note else (), names=names)

    def _parts(self) -> dict[str, Path]:
        return {p.name.lower(): p for p in _folders(self.path)} if self.path.is_dir() else {}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in path.parts)


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


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(p.name for p in _folders(folder))
    if not names:
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise InputError(
            "a folder with one folder of images a class, or with IDX files",
            f"{folder} with {inside}",
            "class/image.png",
        )
    return names


def _image_table(folder: Path, classes: tuple[str, ...]) -> Table:
    labels: list[str] = []
    files: list[Path] = []
    extra = [p for p in _folders(folder) if p.name not in classes]
    if extra:
        raise InputError(
            f"classes {', '.join(classes)}", f"folder {extra[0]}", "remove it, or add it to the training part"
        )
    for name in classes:
        found = sorted(p for p in (folder / name).glob("*") if _is_image(p.relative_to(folder / name)))
        if not found and (folder / name).is_dir():
            raise InputError(
                "images in every class folder", f"none in {folder / name}", "add some, or remove the folder"
            )
        files += found
        labels += [name] * len(found)
    return Table(_stack(files, None), labels)


def _stack(files: Sequence[Path], mode: str | None) -> np.ndarray:
    # Bytes (N, channels, H, W); grey if all are, where no mode is asked for.
    pillow: Any = _pillow(files[0] if files else Path())
    upright = importlib.import_module("PIL.ImageOps").exif_transpose  # as people see it, however the camera was held
    images: list[Any] = []
    for file in files:
        try:
            images.append(_opened(pillow, upright, file))
        except InputError:
            raise
        except Exception as error:  # each of Pillow's formats reports damage by errors of its own
            raise InputError("an image that can be read", f"{file}: {error}", "replace or remove it") from error
        if images[-1].size != images[0].size:
            sizes = f"{images[-1].size} (width, height) in {file}, {images[0].size} in {files[0]}"
            raise InputError("images of one size", sizes, "resize or crop them")
        if images[-1].mode[0] in "IF":
            raise InputError("images with 8 bits a channel", f"mode {images[-1].mode} in {file}", "convert them")
    mode = mode or ("L" if all(i.mode in {"L", "1", "LA"} for i in images) else "RGB")
    x = np.stack([np.asarray(i.convert(mode)) for i in images])
    return x[:, None] if mode == "L" else np.moveaxis(x, -1, 1)


def _opened(pillow: Any, upright: Any, file: Path) -> Any:
    if not file.is_file():
        raise InputError("an image that can be read", f"{file}, which is no regular file", "replace or remove it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's own bound, and of odd metadata
        with pillow.open(file, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                got = f"{width} x {height} in {file}"
                raise InputError(f"images of at most {MOST_PIXELS:,} pixels", got, "resize it")
            image.load()
            return upright(image)


def _pillow(path: Path) -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        hint = "pip install 'novacula[images]'"
        raise InputError("Pillow to read images", f"none installed, for {path}", hint) from None
