"""`novacula functions prior` and `evidence`, from options to results."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from novacula.cli.app import app

NET = "from torch import nn\n\ndef make(x_shape, outputs):\n    return nn.Linear(x_shape[0], outputs, bias=False)\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["functions", *words, "--quiet"])


def test_a_prior_goes_on_and_is_drawn() -> None:
    words = ("prior", "cube:2", "--net", "mlp", "--prior", "fan-in", "--keep", "k.npz", "--json")
    assert run(*words, "--draws", "16384").exit_code == 0
    found = json.loads(run(*words, "--draws", "20000", "--figure", "r.svg").stdout)
    whole = json.loads(run(*words[:6], "--json", "--draws", "20000").stdout)
    assert found["n"] == 20_000
    assert found["top"] == whole["top"]
    assert 0 < found["constants"][0] < 1
    drawn = Path("r.svg").read_text()
    assert drawn.startswith("<svg xmlns=")
    assert "stroke: #21618c" in drawn  # as most programs but browsers know no variables
    assert "var(" not in drawn
    other = run("prior", "cube:3", "--net", "mlp", "--keep", "k.npz")
    assert other.exit_code == 2
    assert "same command" in other.stderr


def test_a_prior_of_rows_says_what_came_often() -> None:
    rng = np.random.default_rng(0)
    np.savez("d.npz", x=rng.normal(size=(30, 2)), y=np.arange(30) % 3)
    found = run("prior", "d.npz", "--net", "net.py:make", "--rows", "5", "--draws", "500", "--top", "2")
    assert found.exit_code == 0, found.output
    assert "500 drawn" in found.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prior", "cube:x"), "number of bits"),
        (("prior",), "inputs"),
        (("prior", "cube:7", "--draws", "900000000", "--time", "1"), "fewer --draws"),
        (("evidence", "d.npz", "--by", "magic"), "splitting"),
        (("evidence", "digits", "--rows", "100000"), "--rows"),
    ],
)
def test_what_cannot_be_done_is_refused(words: tuple[str, ...], said: str) -> None:
    found = run(*words)
    assert found.exit_code == 2
    assert said in found.stderr


def test_evidence_of_opposite_rows_is_one_half() -> None:
    np.savez("d.npz", x=np.array([[1.0, 0.0], [0.0, 1.0]]), y=np.array([0, 1]))
    words = ("evidence", "d.npz", "--net", "net.py:make", "--rows", "2", "--draws", "4000", "--by", "counting")
    found = run(*words, "--json")
    assert found.exit_code == 0, found.output
    content = json.loads(found.stdout)
    (row,) = content["estimates"].values()
    # In standard units the rows are opposite, so that a network without a bias that fits one fits the other: ½.
    # 5 standard errors: a false alarm in 2e6 seeds.
    assert abs(row["value"] - math.log(0.5)) < 5 * row["stderr"]
    (bound,) = content["bounds"].values()
    assert bound["n"] == 2
    assert "Counting(4000 draws)" in run(*words).stdout


def test_training_is_held_against_the_posterior() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2))
    np.savez("d.npz", x=x, y=(x[:, 0] > 0).astype(int))
    sizes = ("--rows", "30", "--train", "6", "--nets", "40", "--draws", "48")
    words = ("sgd-vs-bayes", "d.npz", "--net", "net.py:make", *sizes)
    found = run(*words, "--beyond", "3", "--keep", "kept", "--figure", "f.svg", "--json")
    assert found.exit_code == 0, found.output
    content = json.loads(found.stdout)
    assert [c["beyond"] for c in content["checkpoints"]] == [0, 3]
    assert content["points"] == [16, 24]
    assert Path("f.svg").read_text().startswith("<svg xmlns=")
    assert len(list(Path("kept").iterdir())) == 2
    said = run(*words, "--beyond", "3", "--keep", "kept").stdout
    assert "40 of 40 networks reached zero error" in said
    assert "stop + 3" in said
    assert run(*words, "--optimiser", "lion").exit_code == 2


def test_probes_go_on_from_what_is_kept() -> None:
    words = ("probes", "--task", "parity", "--net", "mlp", "--bits", "2", "--draws", "20000", "--particles", "20")
    words = (*words, "--members", "2", "--steps", "20", "--keep", "p.json")
    first = run(*words, "--split", "all", "--json")
    assert first.exit_code == 0, first.output
    content = json.loads(Path("p.json").read_text())
    content["rows"][0]["by"] = "known"
    Path("p.json").write_text(json.dumps(content))
    rows = json.loads(run(*words, "--split", "all", "--split", "odd", "--json").stdout)["rows"]
    assert [r["by"] for r in rows] == ["known", rows[1]["by"]]
    assert rows[1]["trained_on"] == 2
    assert [r["split"] for r in json.loads(Path("p.json").read_text())["rows"]] == ["all", "odd"]
    shown = run(*words, "--split", "all")
    assert "parity" in shown.stdout
    other = run(*words, "--split", "all", "--seed", "1")
    assert other.exit_code == 2
    assert "same settings" in other.stderr
