"""``--against``: controls on unseen training examples, in the record, the table and the verdict."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from novacula.cli.app import app
from novacula.core.errors import NonFiniteError
from novacula.core.storage.run import Run
from novacula.study.controls import compute, trees


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trees, "ROUNDS", (5, 10, 20, 40))
    draw = np.random.default_rng(0)
    x = draw.uniform(-2, 2, size=(300, 2))
    # A box, which trees see at once and a line never does.
    y = 100 + 10 * (np.abs(x).max(1) < 1.2) + draw.normal(size=300)
    with Path("box.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "y"], *np.column_stack([x, y]).tolist()])
    np.savez("classes.npz", x=x[:24], y=np.arange(24) % 3)


def learn(*args: str) -> Result:
    return CliRunner().invoke(
        app, ["learn", *args, "--net", "linear", "--epochs", "2", "--output", "run"], env={"COLUMNS": "200"}
    )


def test_trees_are_better_at_a_box_and_the_verdict_says_so() -> None:
    result = learn("box.csv", "--against", "trees,none")
    assert result.exit_code == 0, result.stderr
    record = Run.read("run").record
    assert list(record["against"]) == ["trees", "none"]
    said = record["against"]["trees"]
    assert said.keys() == {
        "nll",
        "stderr",
        "gain",
        "gain_stderr",
        "gain_margin",
        "rmse",
        "seconds",
        "notes",
    }
    # In the target's units: the noise has a deviation of 1, and the box one of about 5.
    assert 1 < said["rmse"] < 4
    assert said["gain"] > 2 * said["gain_stderr"]
    assert record["settings"]["against"] == "trees,none"
    assert " --against trees,none" in record["command"]
    sentence = "Boosted trees predict unseen rows better here, by "
    assert sentence in " ".join(Path("run", "report.html").read_text(encoding="utf-8").split())
    printed = " ".join(result.stdout.split())
    assert sentence in printed
    assert "gain over the network" in printed
    shown = CliRunner().invoke(app, ["show", "run"], env={"COLUMNS": "200"})
    assert sentence in " ".join(shown.stdout.split())


def test_without_the_option_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "cross_fitted", lambda result: pytest.fail("nobody asked for it"))
    result = learn("box.csv", "--no-report")
    assert result.exit_code == 0
    assert Run.read("run").record["against"] is None
    assert "unseen" not in result.stdout


@pytest.mark.parametrize(
    ("data", "names", "expected"),
    [
        ("box.csv", "trees,forest", "--against among trees, gp, none, trivial"),
        ("box.csv", "gp, gp", "each control once in --against"),
        ("box.csv", "trivial", "images (N, C, H, W) for the control 'trivial'"),
        ("classes.npz", "gp", "measurements for the control 'gp'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(data: str, names: str, expected: str) -> None:
    result = learn(data, "--against", names)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
    assert not Path("run").exists()


def test_a_failing_comparison_costs_nothing_that_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise NonFiniteError("finite outputs", "infinite ones", "another learning rate")

    monkeypatch.setattr(compute, "cross_fitted", fail)
    result = learn("box.csv", "--against", "trees", "--no-report")
    assert result.exit_code == 0
    record = Run.read("run").record
    assert record["against"] is None
    assert any("held against nothing: expected finite outputs" in text for text in record["warnings"])
    assert record["evidence"]["value"] is not None
