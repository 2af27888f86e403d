"""Small arrays and tables to write into files and read back, run folders to change, and what a refusal says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from novacula.core.errors import InputError
from novacula.core.storage.run import MANIFEST, RECORD
from novacula.core.storage.seal import digest, write_sealed
from novacula.data.data import Data

_RNG = np.random.default_rng(0)
X, LABELS = _RNG.normal(size=(6, 3)), np.array([2, 0, 1, 1, 0, 2])
IMAGES = _RNG.integers(0, 256, (6, 5, 7), dtype=np.uint8)
COLOUR = _RNG.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
CSV = "a,b,colour,y\n1,0.5,red,10.5\n2,-1e-3,blue,11\n3,2,red,12.25\n"


def refused(text: str) -> Any:
    """Expect an `InputError` with these words."""
    return pytest.raises(InputError, match=re.escape(text))


def save(path: Path, **arrays: Any) -> Path:
    """Write arrays as an npz file."""
    np.savez(path, **arrays)
    return path


def edited(folder: Path, **entries: Any) -> Path:
    """Change entries of a run's record, with checksums that fit, as if it had been written so."""
    path = folder / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return resealed(folder)


def resealed(folder: Path) -> Path:
    """Write the manifest anew, as if the files had been written as they are."""
    names = [name for name in json.loads((folder / MANIFEST).read_text())["files"] if (folder / name).is_file()]
    contents = {name: (folder / name).read_bytes() for name in names}
    write_sealed(folder / MANIFEST, {"files": {k: {"sha256": digest(v), "bytes": len(v)} for k, v in contents.items()}})
    return folder


def unsealed(folder: Path) -> Path:
    """Make a run one of the first schema, which had no checksums."""
    (folder / MANIFEST).unlink()
    path = folder / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    return folder


def same(a: Data, b: Data) -> bool:
    """Whether two sets hold the same numbers, task and classes."""
    return a.fingerprint == b.fingerprint and a.task == b.task and a.classes == b.classes
