"""A small seeded part of `python -m benchmarks.fuzz`: nothing but clear answers comes of damaged files."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def test_damaged_files_are_told(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    assert spec is not None
    assert spec.loader is not None
    fuzz = sys.modules["fuzz"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subjects = [*fuzz.readers(tmp_path / "readers"), *fuzz.runs(tmp_path / "runs")]
        counts, faults = fuzz.fuzz(subjects, 1000, seed=7)
    assert faults == []
    assert sum(n for (_, result), n in counts.items() if result == "refused") > 500
