"""Files that are there whole or not at all.

A file is written under a temporary name in the same folder, flushed to the disk and renamed over its final name: a
reader, or a run that resumes after ``kill -9``, sees the old contents or the new, never a half.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from novacula.core.errors import FullDisk, InputError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room on the disk."""
    return isinstance(error, OSError) and error.errno in _FULL


def full_disk(error: OSError, path: object = None) -> FullDisk:
    """An error of the system's in this library's words."""
    where = path or error.filename or "the output"
    hint = "make room; an interrupted run goes on with --resume, and what was whole before is whole still"
    return FullDisk("room on the disk", f"{where}: {error.strerror}", hint)


@contextmanager
def disk_errors(path: object) -> Iterator[None]:
    """Say in this library's words why a place cannot be written."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_disk(error, path) from error
        if isinstance(error, NotADirectoryError | IsADirectoryError | PermissionError | FileExistsError):
            what, hint = f"{path}: {error.strerror}", "choose another place"
            raise InputError("a folder that can be written", what, hint) from error
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Replace a file's contents atomically."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            # Mode 0o666 less the umask, as open() would give: tempfile's 0o600 would lock colleagues out of a run.
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise InputError(
            "a file that can be written", f"{path}: {error.strerror}", "create its folder, or choose another place"
        ) from error
    except OSError as error:
        if is_full(error):
            raise full_disk(error, path) from error
        raise
    _sync_folder(path.parent)


def write_text(path: str | Path, content: str) -> None:
    """Replace a text file's contents atomically."""
    write_bytes(path, content.encode())


def write_json(path: str | Path, content: object, *, indent: int | None = 2) -> None:
    """Replace a JSON file's contents atomically."""
    try:
        text = json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            "plain JSON values with finite numbers", f"{Path(path).name}: {error}", "write None for what is not known"
        ) from error
    write_text(path, text + "\n")


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entries, so that the rename survives a power cut; where the system cannot, nothing is lost."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
