"""Packages of one file, which novacula finds by their entry points: on the command line, in the help and the report."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PACKAGES = Path(__file__).parent / "packages"
ENTRIES = """[novacula.posterior]
jiggle = jiggle:ROW
[novacula.invariance]
gain = gain:ROW
[novacula.likelihood]
wrong-labels = wrong_labels:ROW
absent = nowhere:ROW
normal = wrong_labels:ROW
[novacula.evidence]
gauss-hermite = gauss_hermite:ROW
[novacula.figure]
sureness = sureness:ROW
[novacula.prior]
logistic = logistic:ROW
quits = quits:ROW
no-prior = gain:ROW
"""
BROKEN = {
    "absent": "No module named 'nowhere'",
    "normal": "one likelihood of each name",
    "quits": "SystemExit: no licence",
    "no-prior": "a PriorRow named 'no-prior' at gain:ROW",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and the packages as pip would have left them."""
    folder = tmp_path_factory.mktemp("extending")
    found = folder / "site" / "example-1.0.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text(ENTRIES)
    (folder / "site" / "quits.py").write_text("raise SystemExit('no licence')\n")
    draw = np.random.default_rng(0)
    np.savez(folder / "classes.npz", x=draw.normal(size=(24, 5)), y=np.arange(24) % 3)
    line = draw.normal(size=(24, 1))
    np.savez(folder / "line.npz", x=line, y=2 * line[:, 0] + draw.normal(size=24))
    return folder


def novacula(folder: Path, *args: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
    return python(folder, "from novacula.cli import main; main()", *args, installed=installed)


def python(folder: Path, code: str, *args: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
    extra = [str(PACKAGES), str(folder / "site")] if installed else []
    path = os.pathsep.join([*extra, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )


# Importing torch once is what keeps this quick.
REFUSED = """
import contextlib, io, json, sys
from novacula.cli import main

found = []
for args in json.loads(sys.argv[1]):
    sys.argv = ["novacula", *args]
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        with contextlib.redirect_stderr(said):
            main()
    except SystemExit as end:
        said.flush()
        found.append((end.code, said.buffer.getvalue().decode()))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def refusals(folder: Path) -> list[tuple[int, str]]:
    """Exit codes and messages of commands with names that nothing has, or nothing can load."""
    names = {"jigglex": "posterior", "gainx": "invariance", "wrong-labelsx": "likelihood", "logisticx": "prior"}
    names |= {"gauss-hermitex": "evidence", "absent": "likelihood"}
    commands = [["learn", "classes.npz", f"--{option}", name] for name, option in names.items()]
    return json.loads(python(folder, REFUSED, json.dumps(commands)).stdout)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    found = novacula(
        folder,
        *("learn", "classes.npz", "--epochs", "2", "--output", "run"),
        *("--posterior", "jiggle:width=0.02", "--invariance", "gain", "--likelihood", "wrong-labels"),
    )
    assert found.returncode == 0, found.stderr
    return folder / "run"


def test_the_help_has_their_phrases(folder: Path) -> None:
    text = novacula(folder, "learn", "--help").stdout
    for phrase in (
        "jiggle (noise around the point)",
        "gain (louder and softer)",
        "wrong-labels (some labels are wrong)",
        "logistic (wide tails)",
        "gauss-hermite (up to five weights)",
    ):
        assert phrase in text
    assert "Figures of other packages: sureness (how sure predictions are)." in novacula(folder, "report", "-h").stdout
    assert "Figures" not in novacula(folder, "report", "-h", installed=False).stdout


def test_names_in_errors(refusals: list[tuple[int, str]]) -> None:
    for (code, said), name in zip(
        refusals, ("jiggle", "gain", "wrong-labels", "logistic", "gauss-hermite"), strict=False
    ):
        assert code == 2
        assert name in said.replace(f"{name}x", "")


def test_a_row_that_cannot_be_loaded_says_so(refusals: list[tuple[int, str]]) -> None:
    assert len(refusals) == 6
    code, said = refusals[5]
    assert code == 2
    assert "nowhere" in said


@pytest.mark.parametrize("command", [("--version",), ("learn", "--help"), ("show", "run", "--json")])
def test_what_cannot_be_loaded_is_a_warning_to_all_other_commands(
    folder: Path, run: Path, command: tuple[str, ...]
) -> None:
    found = novacula(folder, *command)
    assert found.returncode == 0
    warnings = [line for line in found.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == len(BROKEN)
    for name, said in BROKEN.items():
        (warning,) = [line for line in warnings if f"'{name}'" in line]
        assert said in warning
    assert found.stdout == novacula(folder, *command, installed=False).stdout or "--help" in command


def test_the_page_speaks_of_the_method_without_its_package(folder: Path, run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    assert record["posterior"]["settings"]["width"] == 0.02
    assert record["catalogue"] == {"likelihood": {"wrong-labels": "wrong_labels"}, "invariance": {"gain": "gain"}}
    assert novacula(folder, "report", "run", installed=False).returncode == 0
    page = (run / "report.html").read_text()
    assert "the posterior of Jiggle: noise of one width around the most probable weights" in page
    eta = record["invariance"]["eta"]["gain"]
    assert abs(eta) > 0.001  # so that the page says what it supports
    said = f"×{math.exp(-abs(eta)):.2f} to ×{math.exp(abs(eta)):.2f}"
    assert f"Training stopped at changes of loudness by {said}, which is not yet what the 19 training examples" in page
    assert f'<span class="name">gain</span>\n<span class="value">{said}</span>' in page
    assert "Extent along training, in log factor (±): gain ends at" in page


def test_a_run_predicts_later(folder: Path, run: Path) -> None:
    found = novacula(folder, "predict", "run", "classes.npz", "--json")
    assert found.returncode == 0, found.stderr
    missing = novacula(folder, "predict", "run", "classes.npz", "--json", installed=False)
    assert missing.returncode == 2
    assert "wrong_labels" in missing.stderr


def test_a_figure_stands_on_the_page_where_its_package_is_installed(folder: Path, run: Path) -> None:
    for installed in (True, False):
        assert novacula(folder, "report", "run", installed=installed).returncode == 0
        section = (run / "report.html").read_text().split('<h2 id="predictions">')[1].split("<section")[0]
        assert ("How many of 5 predictions are how sure: on average 0." in section) == installed


def test_a_prior_and_an_estimator(folder: Path) -> None:
    found = novacula(
        folder,
        *("learn", "line.npz", "--net", "linear", "--epochs", "1", "--output", "line"),
        *("--prior", "logistic", "--evidence", "gauss-hermite"),
    )
    assert found.returncode == 0, found.stderr
    record = json.loads((folder / "line" / "run.json").read_text())
    assert record["catalogue"] == {"prior": {"logistic": "logistic"}}
    assert (record["prior"]["name"], record["evidence"]["estimator"]) == ("Logistic", "GaussHermite")
    assert "--prior logistic" in record["command"]
    assert "--evidence gauss-hermite" in record["command"]
    assert novacula(folder, "report", "line", installed=False).returncode == 0
    page = (folder / "line" / "report.html").read_text()
    assert "an example by GaussHermite: an estimate, not a bound" in page
    found = novacula(folder, "predict", "line", "line.npz", "--json")
    assert found.returncode == 0, found.stderr
    missing = novacula(folder, "predict", "line", "line.npz", "--json", installed=False)
    assert missing.returncode == 2
    assert "the prior 'logistic' of the module logistic" in missing.stderr
