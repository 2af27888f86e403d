"""The one place that knows which kind of file is read by what: by its suffix, or by what a folder contains."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from novacula.core.checks.numbers import as_path
from novacula.core.errors import InputError
from novacula.data.raw import Raw
from novacula.data.sources.arrays import digits
from novacula.data.sources.folders import IMAGE_SUFFIXES, RawImages
from novacula.data.sources.idx import is_idx, open_idx
from novacula.data.sources.npz import open_npy, open_npz
from novacula.data.sources.tables import open_delimited, open_parquet

_T = TypeVar("_T")
_OPENED: dict[str, Callable[[Path], Raw]] = {
    ".npz": open_npz,
    ".npy": open_npy,
    ".csv": open_delimited,
    ".tsv": open_delimited,
    ".txt": open_delimited,
    ".data": open_delimited,
    ".csv.gz": open_delimited,
    ".tsv.gz": open_delimited,
    ".parquet": open_parquet,
    ".pq": open_parquet,
    **dict.fromkeys(IMAGE_SUFFIXES, RawImages),
}
_KINDS = (
    ".npz, .npy, .csv, .tsv, .txt, .data, .parquet, IDX (ubyte), an image, or a folder of IDX files or of class/*.png"
)


def read(path: str | Path, understand: Callable[[Raw], _T]) -> _T:
    """What a reader makes of a source; a file is read while it does."""
    if str(path) == "digits":
        return understand(digits())
    path = as_path(path, "a file or folder").expanduser()
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, [*siblings, "digits"], n=3)
        hint = ", ".join(close) or "check the path; 'digits' needs no file"
        raise InputError("a file or folder that exists", str(path), hint)
    if not (path.is_file() or path.is_dir()):
        hint = "write what it gives into a file first"
        raise InputError("a regular file or a folder", f"{path}, a pipe, socket or device", hint)
    try:
        return understand(_open(path))
    except (OSError, EOFError) as error:
        hint = "check its permissions, or fetch it again"
        raise InputError("a file that can be read", f"{path}: {error}", hint) from error


def _open(path: Path) -> Raw:
    suffix, both = path.suffix.lower(), "".join(path.suffixes[-2:]).lower()
    if (opened := _OPENED.get(both) or _OPENED.get(suffix)) is not None:
        return opened(path)
    if is_idx(path) or (path.is_dir() and any(is_idx(p) for p in path.iterdir())):
        return open_idx(path)
    if path.is_dir():
        return RawImages(path)
    wanted = f"a file of a known kind ({_KINDS})"
    raise InputError(wanted, f"suffix {suffix or 'none'!r} of {path}", "convert it to .npz or .csv")
