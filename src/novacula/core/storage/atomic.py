"""Files and folders that are there whole or not at all.

A file is written under a temporary name in the same folder, flushed to the disk and renamed over its final name: a
reader, or a run that resumes after ``kill -9``, sees the old contents or the new, never a half. A run folder is built
the same way: under a temporary name that becomes the final one when everything in it has been written.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from novacula.core.errors import InputError


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


@contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Build a folder under a temporary name, and give it its own name at the end.

    If the block raises, Ctrl-C included, the temporary folder is removed and ``path`` is as it was.

    Yields:
        The temporary folder, beside ``path``, to be filled.

    Raises:
        InputError: If ``path`` exists (as a file; or as a folder with contents, unless ``overwrite``), or its parent
            cannot be written.
    """
    path = Path(path)
    _refuse_existing(path, overwrite)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise InputError(
            "a folder that can be created",
            f"{path}: {error.strerror}",
            "choose another place, or mend its permissions",
        ) from error
    try:
        yield temporary
        _refuse_existing(path, overwrite)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
        if path.exists():
            os.replace(path, aside)
        try:
            os.replace(temporary, path)
        finally:
            if aside.exists() and not path.exists():
                os.replace(aside, path)
        shutil.rmtree(aside, ignore_errors=True)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise InputError("a folder to create", f"{path}, which is a file", "choose another name")
    if path.is_dir() and not overwrite and any(path.iterdir()):
        raise InputError(
            "a folder that is new or empty", f"{path}, which has contents", "choose another name, or remove it"
        )


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entries, so that the rename survives a power cut; where the system cannot, nothing is lost."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
