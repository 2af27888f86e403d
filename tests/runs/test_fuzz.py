"""A small seeded part of `python -m benchmarks.fuzz`: nothing but clear answers comes of damaged files."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import pytest


def test_damaged_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    fuzz = importlib.import_module("benchmarks.fuzz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subjects = fuzz.everything(tmp_path)
    counts, faults = fuzz.fuzz(subjects, 1000, seed=7)
    assert faults == []
    assert sum(n for (_, result), n in counts.items() if result == "refused") > 500
