"""The same seed gives the same bytes, whatever Python's hash seed: no sum goes over a set in the set's order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Learns by the command, and then prints what each structure of the curvature says at the weights that were learned.
SCRIPT = """
import sys
import torch
import novacula as nv
from novacula.cli import main
from novacula.core.rng import generator
from novacula.posteriors.laplace import laplace_posterior
from novacula.runs.loading import load_run
from novacula.curvature.structures.names import STRUCTURES

folder = sys.argv[1]
sys.argv = ["novacula", "learn", "d.npz", "--net", "net.py:make_net", "--invariance", "rotation", "--epochs", "2",
            "--quiet", "--no-report", "--output", folder]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
saved = load_run(folder)
data = nv.load("d.npz").subset(range(20))
for structure in STRUCTURES:
    found = laplace_posterior(saved.target, saved.posterior.mode, data, structure=structure, check=False)
    covered = {k: saved.posterior.mode[k] for k in found.curvature.names}
    determinant = found.curvature.log_det(saved.target.prior.precision(covered)).value
    draws = found.sample(2, generator(0))
    predicted = nv.predict(found, data.x).mean().double()
    print(structure, determinant.double().item().hex(), *(w.double().sum().item().hex() for w in draws.values()),
          *(p.item().hex() for p in predicted.flatten()[:8]), file=sys.stderr)
"""

NET = """
from torch import nn

def make_net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(),
        nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3),
    )
"""


def test_hash_seeds_change_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    x = (rng.normal(size=(60, 1, 8, 8)) + y[:, None, None, None]).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    (tmp_path / "net.py").write_text(NET)
    said: list[str] = []
    for seed in ("1", "2"):
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT, f"run{seed}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        said.append(ended.stderr)
    one, other = tmp_path / "run1", tmp_path / "run2"
    assert said[0] == said[1]
    assert said[0].count("0x") > 50
    files = {p.name for p in one.iterdir()}
    assert files == {p.name for p in other.iterdir()}
    for name in files - {"run.json", "manifest.json"}:  # these hold the times that were taken
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert _record(one) == _record(other)


def _record(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "run.json").read_text())
    assert found.pop("seconds")
    assert found.pop("output_dir") == folder.name
    return found
