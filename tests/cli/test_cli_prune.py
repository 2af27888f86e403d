"""``novacula prune``, from a run to numbers and weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from novacula.cli.app import app


def test_a_run_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learned = ["learn", "digits", "--net", "mlp", "--epochs", "1", "--folds", "0", "--output", "run", "--no-report"]
    assert CliRunner().invoke(app, [*learned, "--quiet"]).exit_code == 0
    asked = ["prune", "run", "--to", "0.9", "--folds", "0", "--epochs", "1"]
    found = CliRunner().invoke(app, [*asked, "--json", "--quiet", "--out", "cut"])
    assert found.exit_code == 0, found.stderr
    content = json.loads(found.stdout)
    assert [row["criterion"] for row in content["levels"]] == ["dense", "damage", "magnitude"]
    weights = load_file(content["files"][0])
    zeros = sum(int((w == 0).sum()) for w in weights.values())
    assert zeros == pytest.approx(0.9 * sum(w.numel() for w in weights.values()), abs=1)
    shown = CliRunner().invoke(app, [*asked, "--quiet"])
    assert "magnitude" in shown.stdout
    assert "90.0%" in shown.stdout
    refused = CliRunner().invoke(app, ["prune", "run", "--to", "most"])
    assert refused.exit_code == 2
    assert "--to as a share" in refused.stderr
