"""``novacula paths``: run folders, files of weights, runs that it trains, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import novacula as nv
from novacula.cli.app import app

LEARN = ["learn", "digits.npz", "--net", "linear", "--epochs", "1", "--folds", "0", "--no-report", "--quiet"]


def told(*asked: str) -> dict:
    found = CliRunner().invoke(app, ["paths", *asked, "--json", "--quiet"])
    assert found.exit_code == 0, found.stderr
    return json.loads(found.stdout)


def refused(*asked: str) -> str:
    found = CliRunner().invoke(app, ["paths", *asked, "--quiet"])
    assert found.exit_code == 2
    return found.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where digits lie with a test part of their own."""
    monkeypatch.chdir(tmp_path)
    train, test = nv.load("digits").subset(range(300)).split(200)
    parts = {f"{k}_{name}": getattr(d, k).numpy() for name, d in (("train", train), ("test", test)) for k in ("x", "y")}
    np.savez("digits.npz", **parts)
    return tmp_path


def test_folders_of_learn_are_compared(folder: Path) -> None:
    for seed in range(2):
        assert CliRunner().invoke(app, [*LEARN, "--seed", str(seed), "--output", f"run-{seed}"]).exit_code == 0
    found = told("run-0", "run-1", "--pairs", "0")
    assert (found["n"], found["runs"]) == (100, ["run-0", "run-1"])
    x = nv.load("digits").subset(range(300)).split(200)[1].x
    said = [nv.predict(nv.study.load_run(f"run-{s}").posterior, x, kind="plug-in").mean().argmax(1) for s in range(2)]
    differ = float((said[0] != said[1]).double().mean())
    assert found["measured"]["disagreement"]["value"] == pytest.approx(differ, abs=1e-9)
    assert CliRunner().invoke(app, [*LEARN, "--train", "150", "--output", "other"]).exit_code == 0
    assert "same examples" in refused("run-0", "other")


def test_checkpoints_of_one_training_say_what_happened(folder: Path) -> None:
    """Steps are the numbers in the names; of a linear network that learns at once, nothing did."""
    train, test = nv.load("digits").subset(range(300)).split(200)
    net, files = nv.networks.make("linear", train.x_shape, 10, seed=0), []
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for step in range(41):
        if step % 10 == 0:
            files.append(f"at-{2 * step}.safetensors")
            save_file({k: v.clone() for k, v in net.state_dict().items()}, files[-1])
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(train.x), train.y).backward()
        optimiser.step()
    found = told(*files, "--way", "--data", "digits.npz", "--net", "linear")
    assert found["at"] == [0, 20, 40, 60, 80]
    with torch.no_grad():
        last = torch.nn.functional.cross_entropy(
            torch.func.functional_call(net, load_file(files[-1]), (test.x,)), test.y
        )
    assert found["test_loss"][-1] == pytest.approx(float(last), rel=1e-5)
    assert found["grokking"] is None
    assert found["way"]["distance"][0] == 0
    assert len(found["words"]) == 3
    assert "four checkpoints" in refused(*files[:3], "--way", "--data", "digits.npz", "--net", "linear")


def test_runs_are_trained_and_kept(folder: Path) -> None:
    asked = ["--train", "3x3", "--data", "digits.npz", "--net", "mlp", "--epochs", "1", "--workers", "1"]
    found = told(*asked, "--out", "made", "--pairs", "2")
    assert set(found["components"]) == {"weights", "order", "together"}
    assert all(part["interval"] is not None for part in found["components"].values())
    assert {Path(f).name for f in found["files"]} >= {"paths.json", "pairs.svg", "lines.svg", "run-8.safetensors"}
    assert json.loads((folder / "made" / "paths.json").read_text())["measured"] == found["measured"]
    assert (folder / "made" / "lines.svg").read_text().startswith("<svg")
    files = [str(folder / "made" / f"run-{i}.safetensors") for i in (0, 4, 8)]
    compared = [*files, "--data", "digits.npz", "--net", "mlp", "--pairs", "0"]
    again = told(*compared, "--against", files[0], "--against", files[1])
    wanted = np.mean([found["pairs"]["loss"][i][i] for i in (0, 4, 8)])
    assert again["measured"]["loss"]["value"] == pytest.approx(wanted, rel=1e-5)
    assert again["against"]["n"] == 100
    shown = CliRunner().invoke(app, ["paths", *compared, "--quiet"])
    assert shown.stdout.startswith("The path matters")


def test_bad_input_is_refused(folder: Path) -> None:
    assert "either runs or --train" in refused()
    assert "--data to train on" in refused("--train", "3")
    for text in ("1", "3x", "2x2x2x2", "many"):
        assert "--train as N" in refused("--train", text, "--data", "digits")
    assert "two runs" in refused(str(folder / "digits.npz"), "--data", "digits", "--net", "mlp")
    assert "which does not exist" in refused("nowhere", "elsewhere")
    assert "--similarity among" in refused("--train", "3", "--data", "digits", "--similarity", "cosine")
