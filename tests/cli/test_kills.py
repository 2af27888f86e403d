"""A small seeded part of `python -m benchmarks.kills`: what is killed goes on to the same bytes, and leaves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_killed_commands_go_on(tmp_path: Path) -> None:
    """In a process of its own, as it forks; seed 5 kills by both signals, at changes and at moments."""
    words = ["--trials", "1", "--seed", "5", "--only", "learn numbers", "--out", str(tmp_path / "kills.json")]
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *words],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "kills.json").read_text())
    assert found["commands"]["learn numbers"]["faults"] == []
    assert found["kills"] >= 1
