"""``novacula compare``: races, full comparisons and choices, from names to tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from novacula.cli.app import app


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 3))
    np.savez("table.npz", x=5 + 100 * x, y=50 * x[:, 0] + draw.normal(size=60))


NETS = ["--net", "linear", "--net", "mlp,width=2,depth=1"]


def test_a_race_and_its_folder() -> None:
    asked = ["compare", "table.npz", *NETS, "--budget", "100", "--steps", "12", "--output", "kept", "--quiet"]
    found = CliRunner().invoke(app, [*asked, "--json"])
    assert found.exit_code == 0, found.stderr
    content = json.loads(found.stdout)
    assert {m["name"] for m in content["models"]} == {"linear", "mlp,width=2,depth=1"}
    assert all(sum(m["steps"]) == 12 for m in content["models"])
    again = CliRunner().invoke(app, [*asked, "--json"])
    assert again.stdout == found.stdout  # nothing is trained again, so that the seconds are the same too
    shown = CliRunner().invoke(app, asked)
    assert "2 of 2" in shown.stdout


def test_a_full_comparison() -> None:
    found = CliRunner().invoke(app, ["compare", "table.npz", *NETS, "--epochs", "1", "--quiet"])
    assert found.exit_code == 0, found.stderr
    assert "weight by stacking" in " ".join(found.stdout.split())


def test_choices() -> None:
    asked = ["compare", "table.npz", "--net", "mlp", "--vary", "standardise", "--steps", "20", "--quiet", "--json"]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 0, found.stderr
    content = json.loads(found.stdout)
    assert [c["name"] for c in content["choices"]] == ["standardise", "chance"]
    assert content["choices"][0]["losses"]["True"] < content["choices"][0]["losses"]["False"]  # inputs are in hundreds


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--net", "mlp"], "two --net or more"),
        (["--net", "mlp", "--vary", "init", "--budget", "3"], "no --budget"),
        (["--net", "mlp", "--net", "mlp,width=many"], "OPTION=NUMBER"),
        (["--net", "mlp", "--vary", "luck"], "choices among"),
    ],
)
def test_what_is_refused(options: list[str], word: str) -> None:
    found = CliRunner().invoke(app, ["compare", "table.npz", *options, "--quiet"])
    assert found.exit_code == 2
    assert word in " ".join(found.stderr.split())
