"""Several files replaced as one: written beside the old ones, committed by one rename, then moved to their places.

A folder ``.new`` is filled, and renamed to ``.whole`` when it is complete: that rename is the moment at which the new
files count. Whoever opens the folder next, a reader or a writer, moves what is left in ``.whole``; doing so twice, or
after a crash in the middle, ends in the same. Before the rename the old files are untouched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from novacula.core.storage.atomic import disk_errors

NEW, WHOLE = ".new", ".whole"
_GONE = ".gone"  # in `WHOLE`, an empty file of this suffix stands for one that is to be removed


@contextlib.contextmanager
def staged(folder: Path, replaced: Iterable[str], last: Iterable[str]) -> Iterator[Path]:
    """A folder to write into; if the block ends without an error, its files replace those named, ``last`` ones last."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        settle(folder, last)
        new = folder / NEW
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
    try:
        yield new
        with disk_errors(folder):
            for name in replaced:
                if not (new / name).exists() and (folder / name).is_file():
                    (new / (name + _GONE)).touch()
            os.replace(new, folder / WHOLE)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    settle(folder, last)


def settle(folder: Path, last: Iterable[str] = ()) -> None:
    """Move files that were written whole to their places, where a process was stopped while it did so."""
    whole = folder / WHOLE
    if not whole.is_dir():
        return
    late = set(last)
    with disk_errors(folder):
        for path in sorted(whole.iterdir(), key=lambda p: (p.name in late, p.name)):
            # Two readers may do this at once: what one has moved is no fault for the other.
            with contextlib.suppress(FileNotFoundError):
                if path.suffix == _GONE:
                    (folder / path.stem).unlink(missing_ok=True)
                    path.unlink()
                else:
                    os.replace(path, folder / path.name)
        with contextlib.suppress(FileNotFoundError):
            whole.rmdir()


def discard(folder: Path) -> None:
    """Remove files that were never written whole."""
    shutil.rmtree(folder / NEW, ignore_errors=True)
