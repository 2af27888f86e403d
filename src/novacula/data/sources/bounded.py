"""What a file may ask for: sizes that its header declares are held against what it holds, before memory is taken.

A file of a few kilobytes can declare an array of terabytes, or expand to gigabytes. Plain files take no more memory
than their own size; compressed ones may expand to `LEAST` bytes, or to `RATIO` times their size where that is more.
Tables and images rarely shrink by more than twenty times.
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np

from novacula.core.errors import InputError

LEAST = 2**28
RATIO = 50
_PIECE = 2**20


def room(path: Path) -> int:
    """How many bytes a file may expand to."""
    return max(LEAST, RATIO * path.stat().st_size)


def check_expanded(path: Path, size: int, what: str = "") -> None:
    """Refuse a file that would expand to ``size`` bytes, if that is more than `room`."""
    if size > (most := room(path)):
        got = f"{size:,} bytes or more{f' for {what}' if what else ''} in {path}, of {path.stat().st_size:,} bytes"
        raise InputError(f"a file that expands to at most {most:,} bytes", got, "store it without compression")


def read_bytes(path: Path) -> bytes:
    """The content of a file, expanded where its name ends in ``.gz``; refused where damaged or more than `room`."""
    if path.suffix.lower() != ".gz":
        return path.read_bytes()
    pieces, size = io.BytesIO(), 0
    try:
        with gzip.open(path) as file:
            while piece := file.read(_PIECE):
                size += len(piece)
                check_expanded(path, size)
                pieces.write(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError("a whole gzip file", f"{path}: {error}", "fetch it again") from error
    return pieces.getvalue()


def check_array(file: IO[bytes], size: int, where: str) -> None:
    """Hold an npy header against the bytes that the file has; the file is left after its header.

    Args:
        file: The file, at its start.
        size: How many bytes it has.
        where: The file, for people.

    Raises:
        ValueError: If the header is none, or declares other than the file holds.
        InputError: If the values have no unit.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version in {(2, 0), (3, 0)}:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the format")
    if dtype.hasobject:
        return  # refused by name where it is read
    if dtype.kind in "mM" and np.datetime_data(dtype)[0] == "generic":
        hint = "give them one: x.astype('datetime64[s]')"
        raise InputError("dates and durations with a unit", f"{dtype} without one in {where}", hint)
    if len(shape) > 32 or any(n < 0 for n in shape) or not dtype.itemsize:
        raise ValueError(f"a header with shape {shape} and {dtype.itemsize} bytes a value")
    wanted, found = math.prod(shape) * dtype.itemsize, size - file.tell()
    if wanted != found:
        raise ValueError(f"{found:,} bytes of values where its header promises {wanted:,} for shape {shape}")


def check_archive(path: Path) -> None:
    """Hold an npz archive's sizes, and its arrays' headers, against what it holds.

    Raises:
        ValueError: If a header is none, or declares other than its entry holds.
        InputError: If the archive expands to more than it may, or an entry cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        check_expanded(path, sum(entry.file_size for entry in entries))
        for entry in entries:
            if entry.filename.endswith(".npy"):
                with archive.open(entry) as file:
                    check_array(file, entry.file_size, f"{entry.filename[:-4]} of {path}")


def decoded(path: Path) -> str:
    """A text file in UTF-8, expanded where its name ends in ``.gz``; in other text, the line is named."""
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        got = f"byte {content[error.start]:#04x} in line {line} of {path}"
        raise InputError("UTF-8 text with one row a line", got, "save it as CSV in UTF-8") from error


@contextmanager
def text_of(path: Path) -> Iterator[TextIO]:
    """A text file in UTF-8 as it is read, expanded where its name ends in ``.gz``; never in memory as a whole.

    Args:
        path: The file.

    Yields:
        Its text, with the ends of its lines as they are.

    Raises:
        InputError: If it is other text (the line is named), expands to more than it may, or is damaged.
    """
    packed = path.suffix.lower() == ".gz"
    try:
        with path.open("rb") as plain:
            raw: Any = io.BufferedReader(_Counted(gzip.GzipFile(fileobj=plain), path)) if packed else plain
            yield io.TextIOWrapper(raw, "utf-8-sig", newline="")
    except UnicodeDecodeError:
        decoded(path)  # which names the line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError("a whole gzip file", f"{path}: {error}", "fetch it again") from error


class _Counted(io.RawIOBase):
    # What a compressed file expands to, up to what it may.

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path, self.size = file, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self.file.read(len(buffer))
        buffer[: len(found)] = found
        self.size += len(found)
        check_expanded(self.path, self.size)
        return len(found)

    def close(self) -> None:
        self.file.close()
        super().close()
