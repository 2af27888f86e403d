"""`novacula augment`, from options to files."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from novacula.cli.app import app
from novacula.core.storage.run import ADVICE, COMMAND, NETWORKS, PICTURES, REPORT
from novacula.core.storage.seal import write_sealed


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = draw.random((60, 1, 8, 8)) * 0.4
    x[y == 1, :, :, :4] += 0.5
    np.savez("images.npz", x=x, y=y)


def augment(*args: str, output: str = "run") -> Result:
    return CliRunner().invoke(app, ["augment", *args, "--output", output])


FEW = ("images.npz", "--only", "flip", "--net", "linear", "--steps", "15", "--workers", "1")


def done(result: Result) -> Result:
    assert result.exit_code == 0, f"{result.stderr}\n{result.exception!r}"
    return result


def test_one_json_object_and_a_folder() -> None:
    result = done(augment(*FEW, "--json"))
    record = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert {"verdict", "extent", "interval", "gain", "stderr"} <= record["verdicts"]["flip"].keys()
    assert {"nll", "stderr", "accuracy"} <= record["out_of_fold"].keys()
    assert isinstance(record["converged"], bool)
    assert {p.name for p in Path("run").iterdir()} == {ADVICE, PICTURES, REPORT}
    assert "network" in result.stderr


def test_a_comparison_that_was_killed_before_its_report_gets_one() -> None:
    done(augment(*FEW))
    Path("run", REPORT).unlink()
    Path("run", ".lock").touch()
    Path("run", NETWORKS).mkdir()
    done(augment("--resume"))
    assert {p.name for p in Path("run").iterdir()} == {ADVICE, PICTURES, REPORT}


def test_a_finished_comparison_is_shown_and_exported() -> None:
    assert "Mirror image" in done(augment(*FEW)).stdout
    before = Path("run", ADVICE).read_bytes()
    code = done(augment("--resume", "--export", "torchvision")).stdout
    ast.parse(code)
    assert "train on the images as they are" in code
    # What a needed rotation would give.
    record = json.loads(before)
    record["invariance"], record["recommended"] = {"eta": {"rotation": 0.25}}, {"rotation": 0.25}
    record["against"] = {"none": {"value": 0.1, "stderr": 0.01}}
    write_sealed(Path("run", ADVICE), record)
    for library, text in (("torchvision", "degrees=45"), ("albumentations", "45"), ("kornia", "45")):
        code = done(augment("--resume", "--export", library)).stdout
        ast.parse(code)
        assert text in code
    found = json.loads(done(augment("--resume", "--export", "ultralytics", "--json")).stdout)
    assert "degrees: 45" in found["export"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "images to compare"),
        (("images.npz", "--export", "paper"), "--export as one of"),
        (("images.npz", "--time", "1", "--workers", "1"), "name fewer transformations"),
        (("images.npz", "--only", "spin", "--steps", "5"), "'spin'"),
        (("images.npz", "--only", "hue", "--steps", "5"), "three channels"),
        (("--resume",), "an interrupted comparison"),
    ],
)
def test_refusals_leave_nothing(args: tuple[str, ...], text: str) -> None:
    result = augment(*args)
    assert result.exit_code == 2
    assert text in result.stderr
    assert not Path("run").exists()


def test_an_interrupted_comparison_goes_on() -> None:
    done(augment(*FEW, "--quiet", output="whole"))
    command = [sys.executable, "-c", "from novacula.cli import main; main()", "augment", *FEW, "--output", "run"]
    slow = [*command[:-6], "--steps", "60", *command[-4:]]
    assert slow[-4:] == ["--workers", "1", "--output", "run"]
    process = subprocess.Popen(slow, stderr=subprocess.PIPE, env=os.environ, text=True)
    folder = Path("run", NETWORKS)
    for _ in range(6_000):
        if len(list(folder.glob("*.npy"))) >= 2 or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "novacula augment --resume --output run" in said
    assert Path("run", COMMAND).is_file()
    stored = len(list(folder.glob("*.npy")))
    assert stored >= 2
    refused = augment("--resume", "--seed", "3")
    assert refused.exit_code == 2
    assert "--seed as when the comparison began (0)" in refused.stderr
    assert "Mirror image" in done(augment("--resume")).stdout
    assert {p.name for p in Path("run").iterdir()} == {ADVICE, PICTURES, REPORT}
    record = json.loads(Path("run", ADVICE).read_text())
    assert record["plan"]["steps"] == 60
