"""Image sets: IDX files (the format of MNIST) and folders with one folder a class.

An IDX file starts with two zero bytes, one that tells the type, one that tells the number of axes, then the axes'
lengths as big-endian 32-bit integers, then the values, big-endian, last axis fastest.

References:
    The MNIST database of handwritten digits. Y. LeCun, C. Cortes, C. J. C. Burges, 1998.
"""

from __future__ import annotations

import gzip
import importlib
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from novacula.core.errors import InputError
from novacula.data.tables import New, Source, Table

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
_IDX_NAME = re.compile(r"idx\d[-.]?u?byte|\.idx\d?(\.gz)?$|-ubyte(\.gz)?$", re.IGNORECASE)
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_TEST_WORDS = {"t10k", "test"}


def is_idx(path: Path) -> bool:
    """Whether a file's name says that it is an IDX file."""
    return bool(_IDX_NAME.search(path.name)) and not path.name.startswith(".")


def read_idx_file(path: Path) -> Source:
    """Read images with the labels that lie beside them."""
    if "images" not in path.name.lower():
        raise InputError(
            "an IDX file of images", str(path), "pass the file whose name contains 'images', or its folder"
        )
    return Source(_idx_pair(path))


def read_idx_folder(folder: Path) -> Source:
    """Read a folder of IDX files: images and labels, perhaps in a training and a test part."""
    images = sorted(p for p in folder.iterdir() if is_idx(p) and "images" in p.name.lower())
    # A file and its gzipped copy are the same thing; the plain one is faster to read.
    images = [p for p in images if not (p.suffix == ".gz" and p.with_suffix("") in images)]
    parts: dict[str, list[Path]] = {"training": [], "test": []}
    for p in images:
        parts["test" if _TEST_WORDS & set(re.split(r"[-_.]", p.name.lower())) else "training"].append(p)
    for part, found in parts.items():
        if len(found) > 1 or (part == "training" and not found):
            names = ", ".join(p.name for p in found) or "none"
            raise InputError(f"one IDX file of {part} images", f"{names} in {folder}", "pass the file of images itself")
    return Source(_idx_pair(parts["training"][0]), _idx_pair(parts["test"][0]) if parts["test"] else None)


def read_image_folder(folder: Path) -> Source:
    """Read ``folder/class/*.png``, or the same under ``folder/train`` and ``folder/test``.

    Classes are numbered in the order of their sorted names. Images are grey if all of them are, otherwise all become
    three channels; transparency is dropped.

    Returns:
        One part or two, as bytes of shape ``(N, channels, H, W)``.

    Raises:
        InputError: If Pillow is missing, there are no class folders or no images in one, an image cannot be read, or
            images differ in size; the message names the file.
    """
    parts = {p.name.lower(): p for p in _folders(folder)}
    if "train" not in parts:
        classes = _class_names(folder)
        return Source(_image_table(folder, classes), classes=classes)
    test = next((parts[k] for k in ("test", "val", "valid", "validation") if k in parts), None)
    classes = _class_names(parts["train"])
    return Source(
        _image_table(parts["train"], classes),
        _image_table(test, classes) if test is not None else None,
        classes=classes,
    )


def read_new_images(path: Path, classes: Sequence[str], channels: int, *, labels: bool) -> New:
    """Read images to predict: an IDX file or folder, one image, or a folder of images with or without class folders."""
    if path.is_dir() and any(is_idx(p) for p in path.iterdir()):
        images = [p for p in sorted(path.iterdir()) if is_idx(p) and "images" in p.name.lower()]
        tests = [p for p in images if _TEST_WORDS & set(re.split(r"[-_.]", p.name.lower()))]
        if not images:
            raise InputError("an IDX file of images", f"none in {path}", "pass the file of images itself")
        return _new_idx((tests or images)[0], labels=labels)
    if is_idx(path):
        return _new_idx(path, labels=labels)
    root = path
    parts = {p.name.lower(): p for p in _folders(path)} if path.is_dir() else {}
    if {"train", "test"} <= set(parts):
        root = parts["test"]
    files = [path] if path.is_file() else sorted(p for p in root.glob("**/*") if _is_image(p.relative_to(root)))
    if not files:
        raise InputError("images", f"none in {path}", "pass a folder of images, or one image")
    x = _stack(files, "L" if channels == 1 else "RGB")
    folders = [p.relative_to(root).parts[0] for p in files if p != root and len(p.relative_to(root).parts) > 1]
    labelled = labels and len(folders) == len(files)
    note = "" if root == path else f"{path} has a test part: its {len(files):,} images are read"
    if labelled and (strange := next((f for f in folders if f not in classes), None)) is not None:
        labelled, note = False, f"the folder {strange!r} is none of the classes: folders are not taken for labels"
    names = tuple(path.name if p == root else p.relative_to(root).as_posix() for p in files)
    return New(x, folders if labelled else None, note=note, names=names)


def _new_idx(images: Path, *, labels: bool) -> New:
    if labels and _idx_labels(images) is not None:
        pair = _idx_pair(images)
        return New(pair.x, pair.y)
    x = _read_idx(images)
    return New(x[:, None] if x.ndim == 3 else x)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _idx_labels(images: Path) -> Path | None:
    name = re.sub("images", "labels", images.name, flags=re.IGNORECASE)
    stem = re.sub(r"idx\d", "idx1", name, flags=re.IGNORECASE).removesuffix(".gz")
    return next((p for n in (stem, stem + ".gz") if (p := images.with_name(n)).is_file()), None)


def _idx_pair(images: Path) -> Table:
    labels = _idx_labels(images)
    if labels is None:
        name = re.sub("images", "labels", images.name, flags=re.IGNORECASE)
        stem = re.sub(r"idx\d", "idx1", name, flags=re.IGNORECASE).removesuffix(".gz")
        raise InputError(f"labels in {stem} or {stem}.gz", f"no such file beside {images}", "put it in the same folder")
    x, y = _read_idx(images), _read_idx(labels)
    if y.ndim != 1:
        raise InputError("labels with one axis", f"{y.ndim} axes in {labels}", "check that it is the file of labels")
    return Table(x[:, None] if x.ndim == 3 else x, y)


def _read_idx(path: Path) -> np.ndarray:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or len(raw) < 4 + 4 * raw[3]:
        raise _damaged(path, "no IDX header")
    shape = tuple(int(v) for v in np.frombuffer(raw, ">i4", count=raw[3], offset=4))
    dtype = np.dtype(_IDX_TYPES[raw[2]])
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
    images: list[Any] = []
    for file in files:
        try:
            with pillow.open(file) as image:
                image.load()
                images.append(image.copy())
        except (OSError, ValueError, SyntaxError) as error:  # Pillow reports some damaged files by SyntaxError
            raise InputError("an image that can be read", f"{file}: {error}", "replace or remove it") from error
        if images[-1].size != images[0].size:
            sizes = f"{images[-1].size} (width, height) in {file}, {images[0].size} in {files[0]}"
            raise InputError("images of one size", sizes, "resize or crop them")
        if images[-1].mode[0] in "IF":
            raise InputError("images with 8 bits a channel", f"mode {images[-1].mode} in {file}", "convert them")
    mode = mode or ("L" if all(i.mode in {"L", "1", "LA"} for i in images) else "RGB")
    x = np.stack([np.asarray(i.convert(mode)) for i in images])
    return x[:, None] if mode == "L" else np.moveaxis(x, -1, 1)


def _pillow(path: Path) -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        hint = "pip install 'novacula[images]'"
        raise InputError("Pillow to read images", f"none installed, for {path}", hint) from None
