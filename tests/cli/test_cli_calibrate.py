"""`novacula calibrate`, from options to files."""

from __future__ import annotations

import json
import runpy
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner, Result

import novacula as nv
from novacula.cli.app import app
from novacula.study.calibrating.saving import FILES

NET = """
import torch
from torch import nn

print("a network's file may print")


def make_net(x_shape, outputs):
    return nn.Sequential(nn.Linear(x_shape[0], 12), nn.ReLU(), nn.Linear(12, outputs))


def train(net, data):
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(data.x), data.y).backward()
        optimiser.step()
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(textwrap.dedent(NET))
    rng = np.random.default_rng(0)
    for name, n in (("train", 150), ("rest", 60)):
        y = np.arange(n) % 3
        np.savez(f"{name}.npz", x=rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[y], y=y)
    x = rng.normal(size=(90, 2))
    rows = np.c_[x, 100 + 20 * x[:, 0] + rng.normal(size=90)]
    np.savetxt("table.csv", rows, delimiter=",", header="a,b,y", comments="")
    torch.manual_seed(0)
    with np.load("train.npz") as stored:
        x, y = torch.tensor(stored["x"]).float(), torch.tensor(stored["y"])
    net = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    torch.save(net.state_dict(), "net.pt")
    save_file(net.state_dict(), "net.safetensors")
    torch.save({"state_dict": {f"module.{k}": w for k, w in net.state_dict().items()}, "epoch": 3}, "checkpoint.pt")
    torch.save(net, "whole.pt")


def calibrate(*args: str) -> Result:
    return CliRunner().invoke(app, ["calibrate", *args])


def done(result: Result) -> Result:
    assert result.exit_code == 0, f"{result.stderr}\n{result.exception!r}"
    return result


OWN = ("net.py:make_net", "train.npz")


def test_one_json_object_and_a_folder() -> None:
    result = done(calibrate(*OWN, "--weights", "net.pt", "--train", "net.py:train", "--out", "out", "--json"))
    record = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert {p.name for p in Path("out").iterdir()} == set(FILES)
    assert record["copies"] == 3
    assert record["next"].startswith("Next: torch.export.load(")
    assert {"nll", "stderr", "uncalibrated_nll", "ece", "accuracy"} <= record["score"].keys()
    assert "kept as it is" in record["decided"][0]
    assert "network" in result.stderr


def test_weights_of_every_kind_are_the_same() -> None:
    options = ("--calibration", "rest.npz", "--json", "--quiet")
    found = [
        json.loads(done(calibrate(*OWN, "--weights", file, "--out", f"out{i}", *options)).stdout)["temperature"]
        for i, file in enumerate(("net.pt", "net.safetensors", "checkpoint.pt"))
    ]
    assert found[0] == found[1] == found[2]


def test_the_last_line_says_what_to_do_next() -> None:
    result = done(calibrate(*OWN, "--weights", "net.pt", "--epochs", "5", "--folds", "2", "--out", "out", "--quiet"))
    assert result.stdout.strip().splitlines()[-1].startswith("Next: torch.export.load('out/calibrated.pt2')")
    assert "temperature" in result.stdout
    program = torch.export.load("out/calibrated.pt2").module()
    assert program(torch.zeros(5, 4)).shape == (5, 3)


def test_a_table_without_weights_is_trained_in_standard_units() -> None:
    result = done(
        calibrate("linear", "table.csv", "--epochs", "300", "--folds", "2", "--out", "out", "--json", "--quiet")
    )
    record = json.loads(result.stdout)
    assert record["task"] == "regression"
    assert "trained on all 90 rows" in record["decided"][0]
    assert record["data"]["standardised"]
    # The program takes and gives the table's own units: y = 100 + 20 a + noise of 1.
    mean, sd = torch.export.load("out/calibrated.pt2").module()(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    assert mean[:, 0].tolist() == pytest.approx([100, 120], abs=3)
    assert record["noise"]["sd"][0] == pytest.approx(1.0, abs=0.7)
    assert sd.shape == (2, 1)


def test_rows_set_aside_calibrate_and_training_rows_do_not() -> None:
    options = ("--weights", "net.pt", "--out", "out", "--json", "--quiet")
    record = json.loads(done(calibrate(*OWN, *options, "--calibration", "rest.npz")).stdout)
    assert record["copies"] == 0
    assert record["data"]["n"] == 60
    result = calibrate(*OWN, *options, "--overwrite", "--calibration", "train.npz")
    assert result.exit_code == 2
    assert "150 of 150 that are training rows" in result.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "a network"),
        (("net.py:make_net",), "its training data"),
        ((*OWN, "--weights", "none.pt"), "a file of weights that exists"),
        ((*OWN, "--weights", "whole.pt"), "save the state dict, not the network"),
        ((*OWN, "--weights", "train.npz"), "weights: a .safetensors file"),
        (("mlp", "train.npz", "--weights", "net.pt"), "the weights of this"),
        ((*OWN, "--calibration", "rest.npz"), "--weights of a trained network"),
        ((*OWN, "--weights", "net.pt", "--train", "net.py:teach"), "'teach'"),
        ((*OWN, "--weights", "net.pt", "--folds", "1"), "folds as a whole number of 2 or more"),
        ((*OWN, "--epochs", "0"), "one or more epochs"),
        ((*OWN, "--threads", "0"), "--threads"),
        (("net.py:nothing", "train.npz"), "'nothing'"),
    ],
)
def test_refusals_leave_nothing(args: tuple[str, ...], text: str) -> None:
    result = calibrate(*args, "--out", "out")
    assert result.exit_code == 2
    assert text in result.stderr
    assert not Path("out").exists()


def test_weights_that_predict_nothing_are_refused() -> None:
    fresh = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3)).state_dict()
    fresh |= {"2.weight": torch.zeros(3, 12), "2.bias": torch.tensor([1.0, 0.0, -1.0])}  # worse than shares of classes
    torch.save(fresh, "fresh.pt")
    result = calibrate(*OWN, "--weights", "fresh.pt", "--out", "out")
    assert result.exit_code == 2
    assert "a trained network" in result.stderr


def test_a_folder_of_something_else_is_left_alone() -> None:
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    result = calibrate(*OWN, "--weights", "net.pt", "--out", "out", "--overwrite")
    assert result.exit_code == 2
    assert "which has contents (mine.txt)" in result.stderr
    assert [p.name for p in Path("out").iterdir()] == ["mine.txt"]


PICTURES = """
import torch
from torch import nn


class Body(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


class Normalised(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.net = Body(num_classes)

    def forward(self, x):
        return self.net(x - self.mean)
"""


def test_photographs_of_several_sizes_and_weights_of_the_network_inside() -> None:
    Path("pictures.py").write_text(PICTURES)
    rng = np.random.default_rng(0)
    for k, (name, i) in enumerate((name, i) for i in range(15) for name in ("dark", "light", "red")):
        pixels = rng.integers(0, 90, (8 + k % 3, 9 + k % 4, 3)) + {"dark": 0, "light": 150, "red": [150, 0, 0]}[name]
        folder = Path("photos", "test" if i < 3 else "train", name)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    space = runpy.run_path("pictures.py")
    torch.manual_seed(0)
    net, data = space["Normalised"](3), nv.load("photos", size=8)
    optimiser = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(data.x), data.y).backward()
        optimiser.step()
    torch.save(net.net.state_dict(), "body.pt")
    size = ("--size", "8", "--weights", "body.pt", "--epochs", "20", "--json", "--quiet")
    record = json.loads(done(calibrate("pictures.py:Normalised", "photos", *size)).stdout)
    assert record["test"]["n"] == 9
    assert record["test"]["accuracy"] > 0.8
    few = ("--calibration", "photos/test")
    assert json.loads(done(calibrate("pictures.py:Normalised", "photos/train", *size, *few)).stdout)["data"]["n"] == 9


def test_rows_of_a_table_set_aside_are_read_by_the_columns_names() -> None:
    rng = np.random.default_rng(1)
    dose, north = rng.normal(size=90).round(3), rng.random(90) < 0.5
    low = dose + 0.7 * rng.normal(size=90) > 0
    rows = [(f"{dose[i]:.3f}", ("south", "north")[int(north[i])], ("high", "low")[int(low[i])]) for i in range(90)]
    Path("rows.csv").write_text("dose,ward,y\n" + "".join(f"{a},{w},{y}\n" for a, w, y in rows[:60]))
    Path("aside.csv").write_text("y,ward,dose\n" + "".join(f"{y},{w},{a}\n" for a, w, y in rows[60:]))
    weight = torch.tensor([[-2.0, 0.5, 0.0, 0.0], [3.0, 0.0, -0.5, 0.0]])  # dose, north, south, other wards
    torch.save({"1.weight": weight, "1.bias": torch.zeros(2)}, "rows.pt")
    Path("line.py").write_text(
        "from torch import nn\ndef line(x_shape, outputs): return nn.Sequential(nn.Flatten(), nn.Linear(4, outputs))"
    )
    x = np.stack([dose, north, ~north, 0 * dose], 1)
    np.savez("coded.npz", x=x[:60], y=low[:60].astype(int))
    np.savez("coded_aside.npz", x=x[60:], y=low[60:].astype(int))
    options = ("--weights", "rows.pt", "--json", "--quiet", "--calibration")
    found = [
        json.loads(done(calibrate("line.py:line", *files, "--out", f"out{i}")).stdout)["temperature"]
        for i, files in enumerate((("rows.csv", *options, "aside.csv"), ("coded.npz", *options, "coded_aside.npz")))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
