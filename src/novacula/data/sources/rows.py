"""Rows that are read as needed: of image files, of NumPy's files, of any map-style dataset."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

from novacula.core.errors import InputError
from novacula.data import lazy
from novacula.data.inputs import lazy_inputs
from novacula.data.lazy import sampled
from novacula.data.sources.pictures import Look, decoded

KEPT = 2**30
"""Bytes of decoded images that stay in memory, so that each file is decoded once."""


@dataclass(eq=False)
class Pictures:
    """Image files that become ``(N, channels, height, width)``; bytes once decoded are kept where they fit `KEPT`."""

    files: Sequence[Path]
    look: Look
    root: Path
    workers: int = 2
    _kept: np.ndarray | None = field(default=None, repr=False)
    _have: np.ndarray | None = field(default=None, repr=False)
    _digest: str | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, channels, height, width)``."""
        return len(self.files), *self.look.shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Decode images."""
        if self._kept is None and not self.look.deep and int(np.prod(self.shape)) <= KEPT:
            # Memory is taken as rows are written.
            self._have, self._kept = np.zeros(len(self.files), bool), np.empty(self.shape, np.uint8)
        kept, have = self._kept, self._have
        if kept is None or have is None:
            return self._decoded(rows)
        missing = np.unique(rows[~have[rows]])
        if len(missing):
            kept[missing] = self._decoded(missing)
            have[missing] = True
        return kept[rows]

    def digest(self) -> str:
        """Names and sizes of all files, and the contents of a sample."""
        if self._digest is None:
            digest, root = hashlib.blake2b(f"{self.shape}{self.look}".encode(), digest_size=16), f"{self.root}{os.sep}"
            for file in map(str, self.files):
                name = file.removeprefix(root) if file.startswith(root) else os.path.basename(file)
                digest.update(f"{name.replace(os.sep, '/')}\0{os.stat(file).st_size}\0".encode())
            for i in sampled(len(self.files)).tolist():
                digest.update(self.files[i].read_bytes())
            self._digest = digest.hexdigest()
        return self._digest

    def __getstate__(self) -> dict[str, Any]:
        """Another process decodes for itself."""
        return {**self.__dict__, "_kept": None, "_have": None}

    def _decoded(self, rows: np.ndarray) -> np.ndarray:
        x = np.empty((len(rows), *self.look.shape), np.float32 if self.look.deep else np.uint8)
        for i, row in enumerate(rows.tolist()):
            x[i] = decoded(self.files[row], self.look)
        return x


@dataclass(frozen=True, eq=False)
class FileRows:
    """The rows of an array in a file, from where its values begin."""

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    axis: bool = False  # whether an axis of channels is put after the first
    workers: int = 2

    @property
    def ndim(self) -> int:
        """The number of axes as they are stored."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read rows; those that follow each other at once."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        size = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        flat = out.reshape(len(rows), -1).view(np.uint8) if size else out
        starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
        with self.path.open("rb", buffering=0) as file:
            for a, b in zip(starts, [*starts[1:], len(rows)], strict=True):
                wanted = memoryview(flat[a:b]).cast("B")  # type: ignore[arg-type]
                file.seek(self.offset + int(rows[a]) * size)
                while len(wanted):
                    if not (found := file.readinto(wanted)):
                        got = f"{self.path}, which ends before row {int(rows[b - 1])}"
                        raise InputError("a file that stays as it was", got, "do not write to it while it is read")
                    wanted = wanted[found:]
        return out[:, None] if self.axis else out

    def digest(self) -> str:
        """Size, dtype and shape, and the contents of a sample of rows."""
        words = f"{self.path.stat().st_size}{self.dtype.str}{self.shape}{self.axis}"
        digest = hashlib.blake2b(words.encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.read(sampled(len(self)))).data)
        return digest.hexdigest()


def each(items: Iterable[Any], what: str, numbers: Iterable[int] | None = None) -> Iterator[tuple[int, Any]]:
    """Items of a person's with their numbers, by default from 0; what their code raises is the cause of our error."""
    source = iter(items)
    for number in itertools.count() if numbers is None else numbers:
        try:
            item = next(source)
        except StopIteration:
            return
        except InputError:
            raise
        except Exception as error:
            got = f"{type(error).__name__}: {error}"
            raise InputError(f"{what} {number} of the dataset", got, f"mend it, or leave out that {what}") from error
        yield number, item


@dataclass(eq=False)
class ItemRows:
    """The inputs of a map-style dataset's items."""

    dataset: Any
    input_of: Callable[[Any, str], Any]  # an item, and where it is, to its input
    n: int
    workers: int = 1
    _lock: Any = field(default_factory=Lock, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many there are; their shape is seen when they are read."""
        return (self.n,)

    def read(self, rows: np.ndarray) -> Any:
        """Ask for items, one thread at a time: datasets need not bear several."""
        with self._lock:
            items = each((self.dataset[i] for i in rows.tolist()), "item", rows.tolist())
            return [self.input_of(item, f"item {i}") for i, item in items]

    def digest(self) -> str:
        """The kind of the dataset, how many items it has, and a sample of their inputs."""
        digest = hashlib.blake2b(f"{type(self.dataset).__qualname__}{self.n}".encode(), digest_size=16)
        for x in self.read(sampled(self.n)):
            a = np.asarray(x)
            digest.update(f"{a.dtype}{a.shape}".encode() + a.tobytes())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """A lock is made anew in another process."""
        return {k: v for k, v in self.__dict__.items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Put back what was kept."""
        self.__dict__.update(state, _lock=Lock())


def opened(x: Any, *, tokens: bool, dtype: torch.dtype | None, columns: Sequence[str]) -> Any:
    """Rows of files as a lazy array, where they are at least `LARGE` bytes; else all of them as they are stored."""
    if not isinstance(x, FileRows | Pictures):
        return x
    if 4 * math.prod(x.shape) <= lazy.LARGE:
        return x.read(np.arange(x.shape[0]))
    return lazy_inputs(x, tokens=tokens, dtype=dtype, columns=columns)


def rows_of_file(path: Path, key: str | None = None) -> FileRows | None:
    """The rows of an ``.npy`` file or a stored array of an ``.npz``; None where small, compressed or no numbers."""
    start = 0
    if key is not None:
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(key + ".npy" if key + ".npy" in archive.namelist() else key)
        if entry.compress_type != zipfile.ZIP_STORED:
            return None
        with path.open("rb") as file:
            file.seek(entry.header_offset + 26)
            lengths = file.read(4)
        start = entry.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
    with path.open("rb") as file:
        file.seek(start, os.SEEK_SET)
        if file.read(6) != b"\x93NUMPY":
            return None
        file.seek(start)
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(file)
        offset = file.tell()
    if fortran or dtype.kind not in "biuf" or len(shape) < 2 or 4 * int(np.prod(shape, dtype=np.int64)) <= lazy.LARGE:
        return None
    return FileRows(path, offset, dtype, tuple(shape))
