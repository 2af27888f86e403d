"""An option is one field: flags, help, record and resumption are made from it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from novacula.cli.app import learn_command
from novacula.cli.options import Options
from novacula.cli.progress import Progress
from novacula.core.storage.run import COMMAND, Run
from novacula.runs.flags import anchored, flag, flat, make, options_of
from novacula.runs.settings import Setup

MoreSetup = dataclasses.make_dataclass(
    "MoreSetup",
    [("tint", str, flag("red", "Tint of the inputs.", metavar="TINT", panel="Data"))],
    bases=(Setup,),
    frozen=True,
)
MoreOptions = dataclasses.make_dataclass(
    "MoreOptions",
    [
        ("setup", MoreSetup),
        ("mood", tuple[str, ...], flag((), "Moods; may repeat.", metavar="MOOD", panel="Training")),
        ("hurry", bool, flag(False, "Be quick.", panel="Training", fixed=False)),
    ],
    bases=(Options,),
    frozen=True,
)
GIVEN = ["--tint", "blue", "--mood", "calm", "--mood", "glad"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    np.savez("classes.npz", x=draw.normal(size=(24, 5)), y=np.arange(24) % 3)


def run(*args: str) -> Result:
    app = typer.Typer()
    app.command()(learn_command(MoreOptions))
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "120"})


def learn(*args: str) -> Result:
    return run(*args, "--epochs", "2", "--net", "linear", "--no-report", "--output", "run")


def test_the_help_shows_a_new_field_in_its_panel() -> None:
    panels = run("--help").stdout.split("╭─ ")
    (data,) = [text for text in panels if text.startswith("Data")]
    (training,) = [text for text in panels if text.startswith("Training")]
    assert "--tint" in data
    assert "Tint of the inputs. [default: red]" in " ".join(data.split())
    assert "--mood" in training
    assert "--hurry" in training
    assert "no-hurry" not in training


def test_the_record_and_the_setup_hold_a_new_field() -> None:
    assert learn("classes.npz", *GIVEN).exit_code == 0
    record = Run.read("run").record
    assert record["setup"]["tint"] == record["settings"]["tint"] == "blue"
    assert record["settings"]["mood"] == ["calm", "glad"]
    assert {"mood", "hurry"} & record["setup"].keys() == set()
    assert " --tint blue " in record["command"]
    assert " --mood calm --mood glad" in record["command"]
    assert MoreOptions.of_record(record).mood == ("calm", "glad")  # type: ignore[attr-defined]
    assert "finished" in learn("classes.npz", "--resume", *GIVEN).stderr
    other = learn("classes.npz", "--resume", "--tint", "green")
    assert other.exit_code == 2
    assert "--tint as when the run began (blue)" in " ".join(other.stderr.split())


def test_a_resumed_run_keeps_a_new_field(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Progress, *args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "__call__", stop)
        assert learn("classes.npz", *GIVEN).exit_code == 130
    assert json.loads(Path("run", COMMAND).read_text())["options"]["tint"] == "blue"
    other = run("--resume", "--output", "run", "--mood", "calm")
    assert other.exit_code == 2
    assert "--mood as when the run began" in " ".join(other.stderr.split())
    # What does not determine the run may change.
    assert run("--resume", "--output", "run", "--no-report", "--hurry").exit_code == 0
    settings = Run.read("run").record["settings"]
    assert (settings["tint"], settings["mood"], settings["hurry"]) == ("blue", ["calm", "glad"], True)


def test_values_go_into_their_groups_and_come_back() -> None:
    values = {"data": "classes.npz", "tint": "blue", "mood": ["calm"], "epochs": 3, "unknown": 1}
    options = make(MoreOptions, values)
    assert (options.setup.tint, options.train.epochs, options.mood) == ("blue", 3, ("calm",))
    found = flat(options)
    assert list(found) == list(options_of(MoreOptions))
    assert make(MoreOptions, found) == options
    assert anchored(options).setup.data == str(Path("classes.npz").resolve())


def test_what_is_no_option_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown"):
        MoreOptions.of(data="classes.npz", unknown=1)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="colour"):
        flag(0, "Help.", colour="red")


def test_only_the_data_are_given_by_their_place() -> None:
    found = options_of(MoreOptions)
    assert [name for name, option in found.items() if option.is_argument] == ["data"]
    assert found["data"].default is MISSING
    repeated = {name for name, option in found.items() if option.repeats}
    assert repeated == {"target", "categorical", "drop", "perturb", "mood"}
