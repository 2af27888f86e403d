"""Folders of images, one folder a class, as torchvision's `ImageFolder` has them; parts and lists of files.

Classes are the folders in the order of their names; images lie in them at any depth, under a suffix in capitals or
not; hidden files and folders are left alone. Under ``train`` and ``test`` they are two parts. A list of files says
which of them are for training.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from novacula.core.errors import InputError
from novacula.data.meaning.columns import no_groups
from novacula.data.raw import Choice, Like, New, Source, Split, Table
from novacula.data.sources.bounded import decoded as text_of
from novacula.data.sources.cells import Numbers
from novacula.data.sources.pictures import survey
from novacula.data.sources.rows import Pictures

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
_TRAIN, _TEST = ("train", "training"), ("test", "testing")
_VALIDATION = ("val", "valid", "validation")
_FILE_NAMES = ("file", "filename", "file_name", "path", "image", "img", "name", "id")
_LABEL_NAMES = ("label", "class", "target", "y", "category")
_PART_NAMES = ("split", "part", "set", "subset", "fold")


@dataclass(frozen=True)
class Listed:
    """A file that a list names."""

    file: Path
    label: str | None = None
    part: str | None = None


@dataclass(frozen=True, eq=False)
class RawImages:
    """One image, or a folder of images in folders of classes, of parts, or in none; opened when they are asked for."""

    path: Path
    size: int | None = None  # the size to which they are to be brought

    def training(self, target: Choice, split: Split) -> Source:
        """``class/*.png``, or the same under ``train`` and ``test``, or by a list of files."""
        if target is not None:
            hint = "leave out the target: labels come with the images"
            raise InputError("a table for which to choose a target", str(self.path), hint)
        if self.path.is_file():
            got = f"the single image {self.path}"
            raise InputError("a folder of images, one folder a class", got, "pass its parent's parent")
        if split is not None:
            return self._by_list(split)
        parts = self._parts()
        train = next((parts[name] for name in _TRAIN if name in parts), self.path)
        names = (*_TEST, *_VALIDATION) if train != self.path else ()
        found = [parts[name] for name in names if name in parts]
        classes = _class_names(train)
        held = _labelled(found[0], classes) if found else None
        said = [
            f"folder {p.name!r} left alone: nothing is chosen by it; move it into train to learn from it"
            for p in found[1:]
        ]
        return self._source(_labelled(train, classes), held, classes, said)

    def new(self, like: Like, *, labels: bool, groups: str | None) -> New:
        """The images of the test part where there is one, with or without folders of classes."""
        if groups is not None:
            raise no_groups(groups, str(self.path))
        path, parts = self.path, self._parts()
        test = next((parts[name] for name in _TEST if name in parts), None)
        root = test if test is not None and any(name in parts for name in _TRAIN) else path
        files = [path] if path.is_file() else _inside(root)
        if not files:
            raise InputError("images", f"none in {path}", "pass a folder of images, or one image")
        colour = len(like.shape) != 3 or like.shape[0] != 1
        x = Pictures(files, survey(files, like.size, colour=colour).look, path)
        folders = [p.relative_to(root).parts[0] for p in files if p.parent != root and p != root]
        labelled = labels and len(folders) == len(files)
        note = "" if root == path else f"{path} has a test part: its {len(files):,} images are read"
        if labelled and (strange := next((f for f in folders if f not in like.classes), None)) is not None:
            labelled, note = False, f"the folder {strange!r} is none of the classes: folders are not taken for labels"
        names = tuple(path.name if p == root else p.relative_to(root).as_posix() for p in files)
        return New(x, folders if labelled else None, notes=(note,) if note else (), names=names)

    def _source(
        self,
        train: tuple[list[Path], Any],
        test: tuple[list[Path], Any] | None,
        classes: tuple[str, ...] | None,
        said: Sequence[str],
    ) -> Source:
        # One look for all parts, as one network sees them.
        seen = survey([*train[0], *(test[0] if test else [])], self.size)
        parts = [Table(Pictures(p[0], seen.look, self.path), p[1]) for p in (train, test) if p is not None]
        others = _others(self.path)
        return Source(parts[0], parts[1] if test is not None else None, classes, said=(*said, *others, *seen.said))

    def _by_list(self, split: Split) -> Source:
        if isinstance(split, int):
            got = f"split={split} for the folder {self.path}"
            raise InputError("a list of files to learn from", got, "--split train.txt, a file a line")
        entries = read_list(Path(str(split)).expanduser(), self.path)
        with_parts = [e for e in entries if e.part is not None]
        train = [e for e in entries if e.part is None or e.part in _TRAIN]
        test = [e for e in with_parts if e.part in _TEST] or [e for e in with_parts if e.part in _VALIDATION]
        said = [f"{len(train):,} images by the list {split}"]
        if rest := len(entries) - len(train) - len(test):
            said.append(f"{rest:,} images of other parts in the list left alone")
        if not train:
            raise InputError("files to learn from", f"none in {split}", "name them, or call their part train")
        if all(e.label is None for e in entries) and not with_parts:
            named = {e.file for e in train}
            others = [p for p in _inside(self.path) if p.resolve() not in named]
            test = [Listed(p, _class_of(p, self.path)) for p in others]
            said.append(f"the {len(others):,} others for testing")
        labels = [
            [e.label if e.label is not None else _class_of(e.file, self.path) for e in part] for part in (train, test)
        ]
        classes = tuple(sorted(set(labels[0])))
        if (strange := sorted(set(labels[1]) - set(classes))) and not _measured(entries):
            raise InputError(
                f"classes {', '.join(classes)}", f"{strange[0]!r} among the test images", "learn from one too"
            )
        held = ([e.file for e in test], labels[1]) if test else None
        if measured := _measured(entries):
            values = [np.array([measured[e.file] for e in part]) for part in (train, test)]
            held = ([e.file for e in test], values[1]) if test else None
            return self._source(([e.file for e in train], values[0]), held, None, said)
        return self._source(([e.file for e in train], labels[0]), held, classes, said)

    def _parts(self) -> dict[str, Path]:
        return {p.name.lower(): p for p in _folders(self.path)} if self.path.is_dir() else {}


def read_list(path: Path, folder: Path) -> list[Listed]:
    """Read a list of files, as seen from the folder of images or from the list's own.

    Text has a file a line, perhaps with a label after a space or tab; a csv has a header with ``file``, and perhaps
    ``label`` and ``split`` (train, test or val).

    Args:
        path: The list.
        folder: The folder of images.

    Returns:
        What it names, in its order.

    Raises:
        InputError: If there is no such list, or it names a file that does not exist, or one twice.
    """
    if not path.is_file():
        path = folder / path if (folder / path).is_file() else path
    if not path.is_file():
        raise InputError(
            "a list of files that exists, or the number of a published split", str(path), "--split train.txt"
        )
    lines = [line for line in text_of(path).splitlines() if line.strip()]
    if path.suffix.lower() in {".csv", ".tsv"}:
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
        head = [cell.strip().lower() for cell in rows[0]] if rows else []
        places = [
            next((i for i, h in enumerate(head) if h in names), None)
            for names in (_FILE_NAMES, _LABEL_NAMES, _PART_NAMES)
        ]
        if places[0] is None:
            got = f"{', '.join(head) or 'nothing'} in {path}"
            raise InputError("a header with file, and perhaps label and split", got, "file,label,split")
        found = [[None if p is None or p >= len(row) else row[p].strip() for p in places] for row in rows[1:]]
    else:
        found = [[*_words(line.strip(), folder, path.parent), None] for line in lines]
    entries, seen = [], set()
    for name, label, part in found:
        file = _found(str(name), folder, path)
        if file in seen:
            raise InputError("a list that names each file once", f"{name} twice in {path}", "remove one")
        seen.add(file)
        entries.append(Listed(file, label or None, part.lower() if part else None))
    return entries


def _measured(entries: Sequence[Listed]) -> dict[Path, float]:
    # Numbers as labels of files, if one of them has a decimal point: measurements. Whole numbers name classes.
    found = [None if e.label is None else Numbers()(e.label) for e in entries]
    known = {e.file: float(v) for e, v in zip(entries, found, strict=True) if v is not None}
    return known if len(known) == len(entries) and any(isinstance(v, float) for v in found) else {}


def _words(line: str, folder: Path, beside: Path) -> list[str | None]:
    # A file, whose name may have spaces; or a file and a label.
    if (folder / line).is_file() or (beside / line).is_file():
        return [line, None]
    name, _, label = line.replace("\t", " ").rpartition(" ")
    return [name.strip(), label] if name else [line, None]


def _found(name: str, folder: Path, path: Path) -> Path:
    for root in (folder, path.parent):
        # Lists of ids leave the suffix out.
        for suffix in ("", *sorted(IMAGE_SUFFIXES)):
            if (root / f"{name}{suffix}").is_file():
                return (root / f"{name}{suffix}").resolve()
    raise InputError("files that exist", f"{name} in {path}, which is neither in {folder} nor beside it", "correct it")


def _class_of(file: Path, folder: Path) -> str:
    # The folder of a class that a file lies in, below the folder of images or one of its parts.
    places = (
        file.resolve().relative_to(folder.resolve()).parts if file.resolve().is_relative_to(folder.resolve()) else ()
    )
    places = places[1:] if places and places[0].lower() in (*_TRAIN, *_TEST, *_VALIDATION) else places
    if len(places) < 2:
        raise InputError("a label for each file, or folders of classes", f"none for {file}", "a csv with file,label")
    return places[0]


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def _inside(folder: Path) -> list[Path]:
    # All images at any depth, in the order of `ImageFolder`: by folder, then by name.
    return [root / name for root, names in _walked(folder) for name in names if _is_image(name)]


def _walked(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    # Folders at any depth and the names of their files, both in order; none that are hidden.
    for root, _, names in sorted(os.walk(folder, followlinks=True)):
        if not any(part.startswith(".") for part in Path(root).relative_to(folder).parts):
            yield Path(root), sorted(names)


def _others(folder: Path) -> list[str]:
    # What to say of files beside the images: a photograph of a kind that is not read (.heic) must not be lost unseen.
    beside = (name for root, names in _walked(folder) if root != folder for name in names)
    names = [name for name in beside if not name.startswith(".") and not _is_image(name)]
    kinds = ", ".join(sorted({Path(name).suffix.lower() or name for name in names})[:4])
    return [f"{len(names):,} file{'s' * (len(names) > 1)} of other kinds left alone ({kinds})"] if names else []


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(p.name for p in _folders(folder))
    if not names:
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        tables = sorted(p for p in folder.iterdir() if p.suffix in {".csv", ".tsv", ".parquet", ".npz"})
        images = any(_is_image(p.name) for p in folder.iterdir())
        hint = "class/image.png, or --split with a csv of file,label"
        hint = f"pass the file itself, {tables[0]}" if tables and not images else hint
        raise InputError(
            "a folder with one folder of images a class, or with IDX files", f"{folder} with {inside}", hint
        )
    return names


def _labelled(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], list[str]]:
    labels: list[str] = []
    files: list[Path] = []
    extra = [p for p in _folders(folder) if p.name not in classes]
    if extra:
        raise InputError(
            f"classes {', '.join(classes)}", f"folder {extra[0]}", "remove it, or add it to the training part"
        )
    for name in classes:
        found = _inside(folder / name) if (folder / name).is_dir() else []
        if not found and (folder / name).is_dir():
            raise InputError(
                "images in every class folder", f"none in {folder / name}", "add some, or remove the folder"
            )
        files += found
        labels += [name] * len(found)
    return files, labels
