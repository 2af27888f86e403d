"""The command line, from options to files: what it writes, how it stops, and what it says to bad input."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner, Result

from novacula.cli.app import app
from novacula.cli.console import never_choke, warnings_to_stderr
from novacula.cli.folder import OutputFolder, default_folder
from novacula.cli.options import Options, load_options, save_options
from novacula.cli.progress import Progress, bar, line
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.storage.run import (
    ARRAYS,
    CHECKPOINT,
    CHECKPOINT_SEARCH,
    COMMAND,
    HISTORY,
    MANIFEST,
    RECORD,
    REPORT,
    WEIGHTS,
    Run,
)
from novacula.invariances import Affine, Compose
from novacula.runs.catalogue.models import read_copies, read_invariance
from novacula.runs.flags import anchored, options_of
from novacula.runs.settings import Setup
from novacula.runs.setup import assemble
from novacula.study.learning.blind import BlindExtents
from novacula.target import Copies

NET = """
import os, time, torch
from torch import nn

class Net(nn.Module):
    def __init__(self, features, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(features, 4), nn.Tanh(), nn.Linear(4, outputs))
    def forward(self, x):
        time.sleep(float(os.environ.get("SLOW", 0)))
        return self.layers(x)

def make_net(x_shape, outputs):
    print("made a network")
    return Net(x_shape[-1], outputs)
def frozen(x_shape, outputs): return make_net(x_shape, outputs).requires_grad_(False)
def partly(x_shape, outputs):
    net = make_net(x_shape, outputs)
    net.layers[1].bias.requires_grad_(False)
    return net
def norm(x_shape, outputs):
    layer = nn.BatchNorm1d(4, track_running_stats=False)
    return nn.Sequential(nn.Linear(x_shape[-1], 4), layer, nn.Linear(4, outputs))
def dropout(x_shape, outputs): return nn.Sequential(nn.Linear(x_shape[-1], 40), Always(), nn.Linear(40, outputs))
class Always(nn.Module):
    def forward(self, x): return nn.functional.dropout(x)
def nothing(x_shape, outputs): return nn.Flatten()
def other_input(x_shape, outputs): return nn.Linear(x_shape[-1] + 3, outputs)
def other_output(x_shape, outputs): return nn.Linear(x_shape[-1], outputs + 2)
def number(x_shape, outputs): return 3
def failing(x_shape, outputs): raise KeyError("width")
def wanting(x_shape, outputs, width): return make_net(x_shape, outputs)
class Broken(Net):
    def forward(self, x): return super().forward(x) / 0.0 * 0.0
def nan(x_shape, outputs): return Broken(x_shape[-1], outputs)
class Exploding(Net):
    def forward(self, x):
        return super().forward(x) * torch.exp(300 * (self.layers[1].weight.detach() - start).abs().sum())
def exploding(x_shape, outputs):
    global start
    net = Exploding(x_shape[-1], outputs)
    start = net.layers[1].weight.detach().clone()
    return net
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(24, 5)), np.arange(24) % 3
    np.savez("classes.npz", x=x, y=y)
    np.savez("measured.npz", x=100 + x, y=30 + 10 * draw.normal(size=24))
    np.savez("images.npz", x=draw.random((24, 1, 8, 8)), y=y)
    Path("net.py").write_text(NET)


def learn(*args: str, epochs: int = 1, output: str = "run") -> Result:
    return CliRunner().invoke(app, ["learn", *args, "--epochs", str(epochs), "--output", output])


def done(result: Result) -> Result:
    assert result.exit_code == 0, f"{result.stderr}\n{result.exception!r}"
    return result


def record() -> dict[str, Any]:
    return Run.read("run").record


# ---------------------------------------------------------------------- what a run leaves


def test_a_run_prints_one_json_object_and_leaves_its_folder() -> None:
    result = done(learn("classes.npz", "--net", "net.py:make_net", "--json", "--seed", "3"))
    printed = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert printed == record()
    assert "epoch 1/1" in result.stderr
    assert "made a network" in result.stderr
    assert {p.name for p in Path("run").iterdir()} == {RECORD, MANIFEST, HISTORY, WEIGHTS, ARRAYS, REPORT}
    assert (printed["data"]["n_train"], printed["data"]["n_test"]) == (19, 5)
    assert printed["weights"] == 5 * 4 + 4 + 4 * 3 + 3
    assert {"value", "stderr", "kind", "estimator", "per_example"} <= printed["evidence"].keys()
    assert set(printed["prior"]["precision"]) == {f"layers.{i}.{k}" for i in (1, 3) for k in ("weight", "bias")}
    assert {"accuracy", "nll", "ece", "brier"} <= printed["test"].keys()
    assert printed["map_test"].keys() == printed["test"].keys()
    assert {"total", "hyper"} <= printed["seconds"].keys()
    assert (printed["noise"], printed["invariance"]) == (None, None)
    assert printed["output_dir"] == "run"
    assert printed["command"] == "novacula learn classes.npz --net net.py:make_net --epochs 1 --seed 3"
    assert printed["settings"]["copies"] == dataclasses.asdict(Copies())


def test_images_get_the_affine_generators_by_default() -> None:
    done(
        learn("images.npz", "--net", "linear", "--copies", "2,3,4", "--perturb", "rotate=90", "--perturb", "scale=0.5")
    )
    found = record()
    assert {"rotation_degrees", "translation_x", "translation_y", "scale", "shear", "eta"} <= found["invariance"].keys()
    assert found["invariance"]["rotation_degrees"] == pytest.approx(180 * found["invariance"]["eta"]["rotation"])
    assert found["settings"]["copies"] == {"train": 2, "evidence": 3, "predict": 4}
    assert found["settings"]["perturb"] == ["rotate=90", "scale=0.5"]
    assert "Learned invariance" in Path("run", REPORT).read_text()


def test_regression_is_scored_in_the_targets_own_units() -> None:
    done(learn("measured.npz", "--net", "linear", "--test-fraction", "0.25"))
    run = Run.read("run")
    mean, y = run.arrays["test/mean"], run.arrays["test/y"]
    assert np.abs(y.ravel()[:, None] - np.load("measured.npz")["y"]).min(1).max() < 1e-4
    assert run.record["data"]["n_test"] == 6
    assert run.record["test"]["rmse"] == pytest.approx(float(np.sqrt(((mean - y) ** 2).mean())), rel=1e-5)
    assert 1 < run.record["noise"]["sigma"] < 100
    assert (run.arrays["test/sd"] > 0.9 * run.record["noise"]["sigma"]).all()
    assert 2 < run.record["test"]["nll"] < 20  # in standard units it would be about 1.4


def test_no_test_data_no_metrics() -> None:
    result = done(learn("classes.npz", "--net", "linear", "--train", "24", "--no-report", "--quiet"))
    assert (record()["test"], record()["data"]["n_train"]) == (None, 24)
    # An epoch of 24 examples teaches little, and the run says so; nothing else may disturb the quiet.
    expected = ("hardly better than a constant", "not converged", "deviations from the mode")
    assert [line for line in result.stderr.splitlines() if not any(w in line for w in expected)] == []
    assert "log evidence" in result.stdout
    assert not Path("run", REPORT).exists()


def test_the_same_options_give_the_same_weights() -> None:
    for output in ("run", "again"):
        done(learn("classes.npz", "--net", "net.py:make_net", "--no-report", output=output))
    for name in (WEIGHTS, HISTORY, ARRAYS):
        assert Path("run", name).read_bytes() == Path("again", name).read_bytes()


def test_reservations_reach_the_reader() -> None:
    result = done(learn("classes.npz", "--net", "net.py:partly"))
    assert result.stderr.count("warning: parameters held constant") == 1


def test_the_default_folder_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    done(CliRunner().invoke(app, ["learn", "classes.npz", "--net", "linear", "--epochs", "1", "--no-report"]))
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("classes-")
    monkeypatch.setattr(time, "strftime", lambda form: folder.name.removeprefix("classes-"))
    assert default_folder("classes").name == f"{folder.name}-2"
    assert default_folder("../a b").name.startswith("a-b-")


def test_saved_runs_are_shown_and_reported_again() -> None:
    done(learn("classes.npz", "--net", "linear", "--no-report"))
    shown = done(CliRunner().invoke(app, ["show", "run"]))
    assert "log evidence" in shown.stdout
    assert "Accuracy" in shown.stdout
    assert json.loads(done(CliRunner().invoke(app, ["show", "run", "--json"])).stdout) == record()
    assert done(CliRunner().invoke(app, ["report", "run"])).stdout.strip() == str(Path("run", REPORT))
    assert Path("run", REPORT).is_file()


def test_help_report_and_show_need_no_torch() -> None:
    Run.write("run", {"kind": "learn", "data": {}, "weights": 1, "evidence": {}, "seconds": {}, "versions": {}})
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom novacula.cli.app import app\n"
        "for args in (['--help'], ['learn', '--help'], ['--version'], ['show', 'run'], ['report', 'run']):\n"
        "    result = CliRunner().invoke(app, args)\n    assert result.exit_code == 0, (args, result.exception)\n"
        "    print(result.stdout)\n    assert 'torch' not in sys.modules, args\n"
    )
    text = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    for option in ("--net", "--invariance", "--perturb", "--resume", "--json", "novacula 0."):
        assert option in text


# ---------------------------------------------------------------------- folders, interruption, resumption


def test_an_occupied_folder_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("run").mkdir()
    Path("run", "notes.txt").write_text("mine")
    monkeypatch.setattr("novacula.runs.setup.load_splits", lambda *args, **more: pytest.fail("work was done"))
    result = learn("classes.npz")
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert [p.name for p in Path("run").iterdir()] == ["notes.txt"]


def test_overwriting_replaces_a_run_and_nothing_else() -> None:
    done(learn("classes.npz", "--net", "linear", "--seed", "1"))
    Path("run", "notes.txt").write_text("mine")
    before = Path("run", RECORD).read_bytes()
    assert learn("classes.npz", "--net", "nonsense", "--overwrite").exit_code == 2
    assert Path("run", RECORD).read_bytes() == before  # what can be known to be wrong is known first
    done(learn("classes.npz", "--net", "linear", "--seed", "2", "--overwrite", "--no-report"))
    assert record()["seed"] == 2
    assert Path("run", "notes.txt").read_text() == "mine"
    assert not Path("run", REPORT).exists()


def interrupt_after(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    def call(self: Progress, now: int, total: int, values: object) -> None:
        if now == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", call)


def test_an_interrupted_run_resumes_bit_identical(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("classes.npz", "--net", "net.py:make_net", "--prior", "student-t", "--no-report")
    done(learn(*args, epochs=4, output="whole"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        result = learn(*args, epochs=4)
    assert result.exit_code == 130
    assert "resume with: novacula learn --resume --output run" in result.stderr
    assert {p.name for p in Path("run").iterdir()} == {CHECKPOINT, COMMAND}
    assert CliRunner().invoke(app, ["show", "run"]).exit_code == 2

    other = CliRunner().invoke(app, ["learn", "--resume", "--output", "run", "--seed", "5"])
    assert other.exit_code == 2
    assert "--seed as when the run began (0)" in other.stderr
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    done(CliRunner().invoke(app, ["learn", "--resume", "--no-report", "--output", "../run"]))
    for name in (WEIGHTS, HISTORY, ARRAYS):
        assert Path("..", "run", name).read_bytes() == Path("..", "whole", name).read_bytes()
    assert not Path("..", "run", CHECKPOINT).exists()


def test_a_search_for_extents_goes_on_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("images.npz", "--net", "linear", "--folds", "2", "--no-report")
    steps, once = list[int](), BlindExtents.step

    def counted(self: BlindExtents, target: Any, state: Any, batch: Any, rng: Any) -> Any:
        steps.append(batch.step)
        return once(self, target, state, batch, rng)

    monkeypatch.setattr(BlindExtents, "step", counted)
    done(learn(*args, epochs=8, output="whole"))
    needed = list(steps)
    steps.clear()
    with monkeypatch.context() as patch:
        interrupt_after(patch, 7)
        assert learn(*args, epochs=8).exit_code == 130
    assert {p.name for p in Path("run").iterdir()} == {CHECKPOINT_SEARCH, COMMAND}
    assert 0 < len(steps) < len(needed)
    done(CliRunner().invoke(app, ["learn", "--resume", "--no-report", "--output", "run"]))
    assert steps == needed
    for name in (WEIGHTS, HISTORY, ARRAYS):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()
    assert not Path("run", CHECKPOINT_SEARCH).exists()


def test_a_finished_run_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done(learn("classes.npz", "--net", "linear"))
    monkeypatch.setattr("novacula.study.learning.learn", lambda *args, **more: pytest.fail("it was run again"))
    result = done(learn("classes.npz", "--resume", "--json"))
    assert json.loads(result.stdout) == record()
    assert "is finished" in result.stderr
    assert learn("classes.npz", "--resume", "--net", "mlp").exit_code == 2


def test_what_a_killed_process_had_left_to_do_is_done() -> None:
    """Killed after the results were in place: before the last files of its work were away, or before the report."""
    done(learn("classes.npz", "--net", "linear"))
    names = {p.name for p in Path("run").iterdir()}
    before = Path("run", RECORD).read_bytes()
    for lost in (Path("run", REPORT), Path("run", "command.json")):
        lost.unlink(missing_ok=True)
    for stray in (".lock", "checkpoint-posterior.safetensors", f".{WEIGHTS}.0123abcd.tmp"):
        Path("run", stray).write_bytes(b"")
    done(learn("classes.npz", "--resume"))
    assert {p.name for p in Path("run").iterdir()} == names
    assert Path("run", RECORD).read_bytes() == before


def test_an_interrupted_report_leaves_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("novacula.reporting.report", interrupted)
    result = learn("classes.npz", "--net", "linear")
    assert result.exit_code == 130
    assert "the results are whole, and novacula report run writes the report" in result.stderr
    assert Path("run", RECORD).is_file()
    assert not Path("run", ".lock").exists()


def test_resuming_where_nothing_began_begins() -> None:
    done(learn("classes.npz", "--net", "linear", "--resume"))
    assert record()["data"]["name"] == "classes"


def test_an_interrupt_before_the_first_epoch_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("novacula.inference.loop.save_checkpoint", interrupted)
    result = learn("classes.npz", "--net", "linear", output="a/b/run")
    assert result.exit_code == 130
    assert "before there was anything to keep" in result.stderr
    assert not Path("a").exists()


def test_unexpected_errors_keep_their_traceback_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **more: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("novacula.inference.optimising.map.training_gradient", broken)
    result = learn("classes.npz", "--net", "linear")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)
    assert not Path("run").exists()


def test_a_loss_that_explodes_ends_in_a_message_and_no_folder() -> None:
    result = learn("classes.npz", "--net", "net.py:exploding", "--lr", "10", epochs=3)
    assert result.exit_code == 2
    assert "finite" in result.stderr
    assert not Path("run").exists()


# Runs the command in one child for each signal, sends it when the first epoch is saved, and prints the exit codes.
# Importing torch once and forking is what keeps this quick.
STOPPED = """
import os, signal, sys, time
from pathlib import Path
import novacula.study
from novacula.cli import main

for name in ("SIGKILL", "SIGINT"):
    child = os.fork()
    if child == 0:
        sys.argv = ["novacula", *sys.argv[1:], "--output", name]
        main()
    while not Path(name, "checkpoint.safetensors").exists():
        time.sleep(0.01)
    os.kill(child, getattr(signal, name))
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_signals_lose_at_most_the_epoch() -> None:
    args = ["learn", "classes.npz", "--net", "net.py:make_net", "--epochs", "4", "--batch-size", "10", "--no-report"]
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED, *args, "--quiet"],
        env={**os.environ, "SLOW": "0.2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert ended.stdout.splitlines() == [f"SIGKILL {-signal.SIGKILL}", "SIGINT 130"]
    assert ended.stderr.count("resume with: novacula learn --resume --output SIGINT") == 1
    assert "Traceback" not in ended.stderr
    done(CliRunner().invoke(app, [*args, "--output", "whole"]))
    for name in ("SIGKILL", "SIGINT"):
        assert not Path(name, RECORD).exists()
        done(CliRunner().invoke(app, ["learn", "--resume", "--no-report", "--output", name]))
        for file in (WEIGHTS, HISTORY):
            assert Path(name, file).read_bytes() == Path("whole", file).read_bytes()


# ---------------------------------------------------------------------- bad input


def npz(**arrays: Any) -> str:
    np.savez("bad.npz", **arrays)
    return "bad.npz"


def csv(text: str) -> str:
    Path("bad.csv").write_text(text)
    return "bad.csv"


def raw(content: bytes, name: str = "bad.npz") -> str:
    Path(name).write_bytes(content)
    return name


def with_infinity() -> str:
    x = np.zeros((6, 3))
    x[4, 1] = np.inf
    return npz(x=x, y=np.arange(6) % 2)


def python(text: str) -> str:
    Path("bad.py").write_text(text)
    return "bad.py:make"


X, Y = np.random.default_rng(1).normal(size=(6, 3)), np.arange(6) % 2
BAD: dict[str, tuple[Callable[[], list[str]], list[str]]] = {
    "no data": (list, ["data to learn from"]),
    "a missing file": (lambda: ["clases.npz"], ["clases.npz", "classes.npz"]),
    "an unknown kind": (lambda: [raw(b"x", "data.xyz")], [".xyz"]),
    "an unreadable file": (lambda: [raw(b"PK\x03\x04 nonsense")], ["bad.npz"]),
    "an empty file": (lambda: [raw(b"", "bad.csv")], ["bad.csv"]),
    "no labels": (lambda: [npz(x=X)], ["bad.npz"]),
    "infinity": (lambda: [with_infinity()], ["row 4", "column 1"]),
    "nothing but gaps in a table": (lambda: [csv("a,b,y\n,,0\n,,1\nNA,,0\n")], ["input column", "target"]),
    "text in a table of numbers": (
        lambda: [csv("a,b,y\n" + "\n".join(f"w{i},{i},{i % 2}" for i in range(40)))],
        ["'a'"],
    ),
    "an unknown column": (lambda: [csv("a,b\n1,2\n3,4\n"), "--target", "c"], ["'c'"]),
    "one class": (lambda: [npz(x=X, y=np.zeros(6, dtype=int))], ["class"]),
    "labels that are no classes": (lambda: [npz(x=X, y=X[:, 0]), "--likelihood", "categorical"], ["row 0"]),
    "labels beyond the classes": (lambda: [npz(x=X, y=Y + 1, classes=np.array(["a", "b"]))], ["label 2"]),
    "labels beyond 0 and 1": (lambda: [npz(x=X, y=Y + 1), "--likelihood", "bernoulli"], ["multilabel"]),
    "lengths that differ": (lambda: [npz(x=X, y=Y[:4])], ["6", "4"]),
    "one row": (lambda: [npz(x=X[:1], y=Y[:1])], ["two rows", "one row"]),
    "no rows": (lambda: [npz(x=X[:0], y=Y[:0])], ["no rows"]),
    "too few rows to train": (lambda: ["classes.npz", "--train", "1"], ["1 row"]),
    "more rows than there are": (lambda: ["classes.npz", "--train", "25"], ["25"]),
    "no rows to train": (lambda: ["classes.npz", "--train", "0"], ["--train"]),
    "a share of all": (lambda: ["classes.npz", "--test-fraction", "1"], ["--test-fraction"]),
    "train and test": (lambda: ["classes.npz", "--train", "9", "--test-fraction", "0.5"], ["both"]),
    "a split of an unsplit file": (lambda: ["classes.npz", "--split", "0"], ["split"]),
    "an unknown perturbation": (lambda: ["images.npz", "--perturb", "twist=3"], ["rotate", "'twist=3'"]),
    "a perturbation out of range": (lambda: ["images.npz", "--perturb", "rotate=720"], ["180", "720"]),
    "a perturbation of a table": (lambda: ["classes.npz", "--perturb", "rotate=90"], ["images"]),
    "an unknown invariance": (lambda: ["images.npz", "--invariance", "afine"], ["'afine'", "--invariance affine"]),
    "an invariance twice": (lambda: ["images.npz", "--invariance", "affine+rotation"], ["once"]),
    "an invariance of a table": (lambda: ["classes.npz", "--invariance", "affine"], ["--invariance affine", "(5,)"]),
    "an unknown likelihood": (lambda: ["classes.npz", "--likelihood", "poisson"], ["'poisson'"]),
    "an unknown prior": (lambda: ["classes.npz", "--prior", "gausian"], ["--prior gaussian"]),
    "copies that are none": (lambda: ["classes.npz", "--copies", "4,8"], ["three whole numbers"]),
    "no copies": (lambda: ["classes.npz", "--copies", "4,0,8"], ["evidence as a whole number of 1 or more"]),
    "no threads": (lambda: ["classes.npz", "--threads", "0"], ["--threads"]),
    "no batch": (lambda: ["classes.npz", "--net", "linear", "--batch-size", "-3"], ["batch"]),
    "no epochs": (lambda: ["classes.npz", "--net", "linear", "--epochs", "0"], ["epochs"]),
    "an unknown network": (lambda: ["classes.npz", "--net", "mpl"], ["'mlp'"]),
    "a network of images for a table": (lambda: ["classes.npz", "--net", "cnn"], ["(5,)"]),
    "a missing network file": (lambda: ["classes.npz", "--net", "nett.py:make_net"], ["net.py"]),
    "no function of a file": (lambda: ["classes.npz", "--net", "net.py"], ["file.py:function"]),
    "an unknown function": (lambda: ["classes.npz", "--net", "net.py:make"], ["'make'", "make_net"]),
    "a file that is no Python": (lambda: ["classes.npz", "--net", python("def make(:\n")], ["SyntaxError", "line 1"]),
    "a file that fails": (lambda: ["classes.npz", "--net", python("x = 1\n1 / 0\n")], ["ZeroDivisionError", "line 2"]),
    "a file that exits": (lambda: ["classes.npz", "--net", python("raise SystemExit(0)\n")], ["SystemExit"]),
    "a file that lacks a package": (lambda: ["classes.npz", "--net", python("import not_there\n")], ["not_there"]),
    "a function that fails": (lambda: ["classes.npz", "--net", "net.py:failing"], ["KeyError"]),
    "a function that wants more": (lambda: ["classes.npz", "--net", "net.py:wanting"], ["x_shape, outputs"]),
    "no network": (lambda: ["classes.npz", "--net", "net.py:number"], ["nn.Module"]),
    "no weights": (lambda: ["classes.npz", "--net", "net.py:nothing"], ["trainable parameters"]),
    "frozen weights": (lambda: ["classes.npz", "--net", "net.py:frozen"], ["requires_grad_(True)"]),
    "batch norm without statistics": (lambda: ["classes.npz", "--net", "net.py:norm"], ["track_running_stats"]),
    "dropout that is always on": (lambda: ["classes.npz", "--net", "net.py:dropout"], ["deterministic"]),
    "NaN from the network": (lambda: ["classes.npz", "--net", "net.py:nan"], ["finite"]),
    "a network of other inputs": (lambda: ["classes.npz", "--net", "net.py:other_input"], ["(8, 5)"]),
    "a network of too few outputs": (lambda: ["measured.npz", "--net", "net.py:other_output"], ["output"]),
    "a file as folder": (lambda: ["classes.npz", "--output", "net.py"], ["net.py"]),
    "a folder within a file": (lambda: ["classes.npz", "--net", "linear", "--output", "net.py/run"], ["net.py"]),
    "overwrite and resume": (lambda: ["classes.npz", "--overwrite", "--resume"], ["both"]),
    "nothing to resume": (lambda: ["--resume"], ["interrupted run"]),
    "an unknown option": (lambda: ["classes.npz", "--nett", "cnn"], ["--nett"]),
    "no number": (lambda: ["classes.npz", "--epochs", "many"], ["integer"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_explained_and_leaves_nothing(case: str) -> None:
    make, said = BAD[case]
    args = make()
    before = sorted(Path().rglob("*"))
    defaults = ([] if "--epochs" in args else ["--epochs", "1"]) + ([] if "--output" in args else ["--output", "run"])
    result = CliRunner().invoke(app, ["learn", *args, *defaults])
    assert result.exit_code == 2, f"{result.stderr}\n{result.exception!r}"
    words = " ".join(result.stderr.replace("│", " ").split())
    for word in said:
        assert word in words
    if "unknown option" not in case and case != "no number":
        assert "error: expected" in words
        assert " try " in words
    assert result.stdout == ""
    assert sorted(p for p in Path().rglob("*") if "__pycache__" not in p.parts) == before


def test_resuming_needs_its_folder_and_readable_options() -> None:
    result = CliRunner().invoke(app, ["learn", "--resume"])
    assert result.exit_code == 2
    assert "--output" in result.stderr
    Path("run").mkdir()
    Path("run", CHECKPOINT).write_bytes(b"x")
    Path("run", COMMAND).write_text("{}")
    result = CliRunner().invoke(app, ["learn", "--resume", "--output", "run"])
    assert result.exit_code == 2
    assert COMMAND in result.stderr
    save_options(Options.of(data="classes.npz", net="linear", epochs=1), Path("run", COMMAND))
    result = CliRunner().invoke(app, ["learn", "--resume", "--output", "run"])
    assert result.exit_code == 2
    assert CHECKPOINT in result.stderr
    assert Path("run", CHECKPOINT).exists()  # a failed resumption takes nothing away


def test_showing_and_reporting_what_is_no_run() -> None:
    for verb in ("show", "report"):
        result = CliRunner().invoke(app, [verb, "nowhere"])
        assert result.exit_code == 2
        assert "does not exist" in result.stderr


# ---------------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("affine", ("rotation", "translation_x", "translation_y", "scale", "stretch", "shear")),
        ("rotation", ("rotation",)),
        ("shear+translation", ("shear", "translation_x", "translation_y")),
        ("flip+deformation", ("flip", "amplitude", "log_smoothness")),
        ("Rotation + colour", ("rotation", "brightness", "contrast", "saturation")),
        ("contrast+rotation+brightness", ("contrast", "brightness", "rotation")),
        ("timewarp", ("time_shift", "time_scale")),
        ("flip_vertical+rotation+flip", ("flip_vertical", "flip", "rotation")),
        ("hue+contrast", ("hue", "contrast")),
        ("erasing", ("erasing",)),
        ("trivial", ()),
    ],
)
def test_invariances_are_read(text: str, names: tuple[str, ...]) -> None:
    found = read_invariance(text)
    assert found is not None
    assert found.names == names


def test_generators_of_one_kind_interpolate_once() -> None:
    both = read_invariance("rotation+flip+scale")
    assert isinstance(both, Compose)
    assert [type(p).__name__ for p in both.parts] == ["Affine", "Flip"]
    assert isinstance(read_invariance("rotation+scale"), Affine)
    assert read_invariance("none") is None
    with pytest.raises(InputError):
        read_invariance("none+affine")
    with pytest.raises(InputError):
        read_invariance("rotation+rotation")


def test_copies_are_read() -> None:
    assert read_copies(None) == Copies()
    assert read_copies("1, 2,3") == Copies(train=1, evidence=2, predict=3)


def test_options_survive_their_file() -> None:
    options = Options.of(
        data="classes.npz", net="net.py:make_net", perturb=("rotate=3", "scale=0.5"), lr=0.1, target=("a",)
    )
    save_options(options, Path("options.json"))
    loaded = load_options(Options, Path("options.json"))
    assert loaded == anchored(options)
    assert loaded.setup.data == str(Path("classes.npz").resolve())
    assert loaded.setup.net == f"{Path('net.py').resolve()}:make_net"
    assert anchored(anchored(options)) == anchored(options)
    assert anchored(Options.of(data="digits")).setup.data == "digits"


def test_commands_repeat_their_run() -> None:
    options = Options.of(data="my data.npz", target=("a", "b"), test_fraction=0.5, seed=7)
    assert options.command() == "novacula learn 'my data.npz' --target a --target b --test-fraction 0.5 --seed 7"


def test_assembly_perturbs_training_and_test_images_apart() -> None:
    plain = assemble(Setup("images.npz", net="linear", seed=2))
    turned = assemble(Setup("images.npz", net="linear", seed=2, perturb=("translate=0.3",)))
    assert plain.test is not None
    assert turned.test is not None
    for before, after in ((plain.train, turned.train), (plain.test, turned.test)):
        assert before.x.shape == after.x.shape
        assert torch.equal(before.y, after.y)
        assert not torch.equal(before.x, after.x)
    for a, b in zip(plain.target.params().values(), turned.target.params().values(), strict=True):
        assert torch.equal(a, b)


def test_published_splits_and_parts_are_kept() -> None:
    draw = np.random.default_rng(3)
    masks = draw.random((3, 24)) < 0.3
    np.savez("split.npz", x=draw.normal(size=(24, 4)), y=draw.normal(size=24), test_index=masks)
    found = assemble(Setup("split.npz", split="2"))
    assert found.test is not None
    assert (found.train.n, found.test.n) == (24 - masks[2].sum(), masks[2].sum())
    torch.testing.assert_close(found.train.x.mean(0), torch.zeros(4), atol=1e-6, rtol=0)
    fewer = assemble(Setup("split.npz", split="2", train=5))
    assert fewer.test is not None
    assert (fewer.train.n, fewer.test.n) == (5, masks[2].sum())
    with pytest.raises(InputError, match="test part"):
        assemble(Setup("split.npz", split="2", test_fraction=0.5))


def test_a_folder_is_left_as_it_was_found(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "a" / "b")
    folder.check()
    folder.claim()
    (folder.path / CHECKPOINT).write_bytes(b"")
    folder.abandon(keep_resumable=True)  # without options it cannot be resumed
    assert not (tmp_path / "a").exists()
    folder = OutputFolder(tmp_path / "a" / "b")
    folder.claim()
    (tmp_path / "a" / "mine").write_text("")
    folder.abandon(keep_resumable=False)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["mine"]


EPOCH = {"epoch": 2.0, "loss": 0.41, "evidence": -0.377, "extent/rotation": 0.95, "extent/scale": 0.01}


def test_progress_on_a_terminal_and_elsewhere() -> None:
    terminal, file = io.StringIO(), io.StringIO()
    with Progress(console=Console(file=terminal, force_terminal=True, width=100)) as progress:
        progress.say("loading")
        progress(2, 5, EPOCH)
        progress(5, 5, {**EPOCH, "evidence": float("nan")})
    with Progress(console=Console(file=file, width=200)) as progress:
        progress(2, 5, EPOCH)
        progress(5, 5, {"epoch": 5.0, "loss": 0.2})
    assert "±171°" in terminal.getvalue()
    first, last = file.getvalue().splitlines()
    assert first.startswith("epoch 2/5  loss 0.410  evidence −0.377 an example  rotation ±171°  ")
    assert first.endswith(" left")
    assert last == "epoch 5/5  loss 0.200  scoring and choosing a predictive"
    assert line(1, 10, {"extent/scale": 0.01}, "x") == "epoch  1/10  loss —  no extent above its jitter  x"


def test_progress_in_a_file_has_about_forty_lines_a_training() -> None:
    file = io.StringIO()
    progress = Progress(console=Console(file=file, width=200))
    for total in (400, 7):
        for done in range(1, total + 1):
            progress(done, total, {"loss": 0.2})
    told = [int(text.split("/")[0].split()[1]) for text in file.getvalue().splitlines()]
    long, short = told[:-7], told[-7:]
    assert (long[0], long[-1], len(long), short) == (1, 400, 41, [1, 2, 3, 4, 5, 6, 7])
    assert max(b - a for a, b in itertools.pairwise(long)) == 10


def test_progress_of_a_second_training_has_a_clock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    file, now = io.StringIO(), iter(float(t) for t in (0, 10, 20, 30))
    monkeypatch.setattr("novacula.cli.progress.time.monotonic", lambda: next(now))
    progress = Progress(console=Console(file=file, width=200))
    for done in (3, 4, 2, 3, 4):  # resumed in the middle; then from an earlier epoch
        progress(done, 4, {"loss": 0.2})
    left = [text.split("loss 0.200")[1].strip() for text in file.getvalue().splitlines()]
    assert left == ["10 s left", progress._after, "", "10 s left", progress._after]


def test_a_stream_without_some_characters_gets_others() -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    wide = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", narrow)
        patch.setattr(sys, "stderr", wide)
        never_choke()
    assert (narrow.errors, wide.errors) == ("replace", "strict")
    narrow.write("1 ± 2")
    narrow.flush()
    assert narrow.buffer.getvalue() == b"1 ? 2"  # type: ignore[attr-defined]


def test_warnings_of_others_pass() -> None:
    said: list[str] = []
    with warnings.catch_warnings(record=True) as passed:
        warnings.simplefilter("always")
        with warnings_to_stderr(said):
            warnings.warn("ours", NovaculaWarning, stacklevel=1)
            warnings.warn("ours", NovaculaWarning, stacklevel=1)
            warnings.warn("of another", DeprecationWarning, stacklevel=1)
    assert [(w.category, str(w.message)) for w in passed] == [(DeprecationWarning, "of another")]
    assert said == ["ours"]


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)  # the mode of a folder means nothing to a test that runs as root
    with pytest.raises(InputError, match=r"a folder that can be read; got .*: Permission denied\. Try: .* --output"):
        OutputFolder(tmp_path).check()


def test_leftovers_of_an_interrupted_write_are_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (f".{RECORD}.4711.tmp", RECORD, ".mine.tmp"):
        (folder / name).write_text("")
    claimed = OutputFolder(folder, overwrite=True)
    claimed.claim()
    claimed.release()
    assert {p.name for p in folder.iterdir()} == {".mine.tmp", RECORD}  # the older run goes when the new one is there


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    first, second = (OutputFolder(tmp_path / "run", overwrite=True) for _ in range(2))
    first.claim()
    with pytest.raises(InputError, match=r"no other process writes to; got .*run, in use"):
        second.claim()
    second.abandon(keep_resumable=False)  # which must not touch what is the first one's
    assert (tmp_path / "run").is_dir()
    first.release()
    second.claim()
    second.abandon(keep_resumable=False)
    first.abandon(keep_resumable=False)
    assert list((tmp_path).glob("run/*")) == []


DIE = (
    "import os, sys; from pathlib import Path; from novacula.cli.folder import OutputFolder; "
    "OutputFolder(Path(sys.argv[1])).claim(); os.kill(os.getpid(), 9)"
)


def test_what_was_never_written_whole_is_no_content(tmp_path: Path) -> None:
    place = tmp_path / "run"
    folder = OutputFolder(place)
    (place / ".new").mkdir(parents=True)
    (place / ".command.json.0123abcd.tmp").touch()
    folder.check()
    folder.claim()
    folder.release()
    assert list(place.iterdir()) == []
    (place / "command.json").touch()  # killed before the first epoch: what was asked for is known
    with pytest.raises(InputError, match="--resume to continue the run in it"):
        folder.check()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIE, str(tmp_path / "run")], check=False, timeout=100)
    folder = OutputFolder(tmp_path / "run")
    folder.check()  # nothing but the file of the lock, which is no content
    folder.claim()
    folder.release()


@pytest.mark.parametrize("words", [("--version",), ("--nonsense",)])
def test_the_package_runs_as_the_command_does(words: tuple[str, ...]) -> None:
    ways = (["-m", "novacula"], ["-c", "from novacula.cli import main; main()"])
    module, command = (
        subprocess.run([sys.executable, *way, *words], capture_output=True, text=True, timeout=100, check=False)
        for way in ways
    )
    assert (module.returncode, module.stdout) == (command.returncode, command.stdout)
    assert module.stderr.replace("python -m novacula", "-c") == command.stderr
    assert module.returncode == (0 if words == ("--version",) else 2)


def test_bars_have_one_length() -> None:
    for share in np.linspace(-0.1, 1.3, 57):
        assert len(bar(float(share), 9)) == 9
    assert bar(1.0, 3) == "━━━"


def test_options_are_those_of_the_command() -> None:
    """Every option of a run can be written on the command line, with the same default."""
    import typer.main

    command = typer.main.get_command(app)
    parameters = {p.name: p for p in command.commands["learn"].params}  # type: ignore[attr-defined]
    for name, option in options_of(Options).items():
        assert name in parameters
        if name != "data" and option.default not in ((), None):
            assert parameters[name].default == option.default
    # The help may not import torch, so it repeats what the target and `learn` use when nothing is asked for.
    copies = Copies()
    assert parameters["copies"].show_default == f"{copies.train},{copies.evidence},{copies.predict}"
