"""The same seed gives the same bytes, whatever Python's hash seed: no order of a set decides a sum."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

UNLIKE = {"created", "seconds"}  # when and how fast, which no seed decides


def _run(folder: Path, data: Path, seed: str) -> tuple[str, dict[str, bytes]]:
    command = [sys.executable, "-m", "novacula", "learn", str(data), "--epochs", "2", "--folds", "2", "--output"]
    more = ["--posterior", "laplace", "--quiet", "--no-report", "--threads", "1"]
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [*command, str(folder), "--overwrite", *more], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "run.json").read_text())
    tensors = {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}
    return json.dumps(_steady(record)), tensors


def _steady(value: object) -> object:
    if isinstance(value, dict):
        return {k: _steady(v) for k, v in value.items() if k not in UNLIKE}
    return [_steady(v) for v in value] if isinstance(value, list) else value


def test_runs_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    np.savez(tmp_path / "t.npz", x=x, y=(x[:, 0] + x[:, 1] ** 2 > 0.5).astype(int))
    first, second = (_run(tmp_path / "run", tmp_path / "t.npz", seed) for seed in ("1", "2"))
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    assert first[1]
    for name, raw in first[1].items():
        assert raw == second[1][name], name


def test_the_module_is_the_command() -> None:
    shown = subprocess.run([sys.executable, "-m", "novacula", "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert "learn" in shown.stdout
