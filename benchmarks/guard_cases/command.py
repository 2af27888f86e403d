"""The command line, from files to files: `learn`, the run folder, `predict`; and the run read back."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import novacula as nv
from benchmarks.guard_cases import base
from benchmarks.guard_cases.base import Case
from novacula.cli import main

LEFT_OUT = ("seconds", "versions", "command", "output_dir", "run", "created", "threads", "machine", "environment")
NET = """
from torch import nn
def make(x_shape, outputs):
    return nn.Sequential(nn.Linear(x_shape[0], 6), nn.Tanh(), nn.Linear(6, outputs))
def drops(x_shape, outputs):
    return nn.Sequential(nn.Linear(x_shape[0], 40), nn.Tanh(), nn.Dropout(0.2), nn.Linear(40, outputs)).eval()
"""


@contextlib.contextmanager
def _folder() -> Iterator[None]:
    # A new folder with a network and small tables, in which the commands run.
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            Path("net.py").write_text(NET)
            _tables()
            yield
        finally:
            os.chdir(before)


def _tables() -> None:
    draw, n = np.random.default_rng(0), 90
    size, age = draw.normal(5, 2, n).round(3), draw.integers(20, 80, n)
    site = draw.choice(["north", "south", "west"], n)
    kind = np.where(size + 2 * (site == "west") + draw.normal(0, 1, n) > 6, "big", np.where(age > 50, "old", "small"))
    price = (30 * size + 20 * (site == "west") - age + draw.normal(0, 9, n)).round(2)
    columns = {"size": size, "age": age, "site": site, "kind": kind, "price": price}
    for path, names, rows in (
        ("kinds.csv", ("age", "site", "size", "kind"), range(70)),
        ("prices.csv", ("size", "age", "site", "price"), range(70)),
        ("new-kinds.csv", ("age", "site", "size", "kind"), range(70, n)),
        ("new-prices.csv", ("size", "age", "site", "price"), range(70, n)),
    ):
        with Path(path).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([columns[name][i] for name in names] for i in rows)
    Path("costs.csv").write_text("class,call,wait,visit\nsmall,2,0,1\nold,0.5,8,1\nbig,0,9.5,1\n")


def _call(*words: str) -> str:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code: Any = 0
    before = sys.argv
    sys.argv = ["novacula", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    if code:
        raise RuntimeError(f"novacula {' '.join(words)} ended with {code}: {_text(err)[-2000:]}")
    return _text(out)


def _text(stream: io.TextIOWrapper) -> str:
    buffer: Any = stream.buffer
    return buffer.getvalue().decode("utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in LEFT_OUT}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _columns(found: dict[str, Any]) -> dict[str, Any]:
    # Rows of the same numbers as arrays, which are shorter to record; sets as they are.
    rows = found.pop("rows")
    columns: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        numbers = all(isinstance(v, int | float) for v in values)
        columns[name] = np.array(values, dtype=np.float64) if numbers else [len(v) for v in values if v is not None]
    return {**_plain(found), "columns": columns}


def _learn_and_predict(learn: tuple[str, ...], data: str, predict: tuple[str, ...]) -> dict[str, Any]:
    with _folder():
        printed = json.loads(_call("learn", *learn, "--no-report", "--quiet", "--json", "--output", "run"))
        predicted = json.loads(_call("predict", "run", data, "--json", *predict))
        record = json.loads(Path("run", "run.json").read_text())
        saved = nv.study.load_run("run")
        x = saved.target.params()
        inputs = next(iter(x.values()))
        rows = base.normal(6, *_inputs(record), seed=1, dtype=inputs.dtype)
        run = nv.Run.read("run")
        return {
            "same": _plain(printed) == _plain(record),
            "record": _plain(record),
            "files": {p.name: p.name in os.listdir("run") for p in sorted(Path("run").iterdir())},
            "weights": run.weights(),
            "arrays": dict(run.arrays),
            "predicted": _columns(predicted),
            "loaded": {"weights": x, "mean": _standard(saved, rows), "draws": _draws(saved.posterior)},
        }


def _standard(saved: nv.study.SavedRun, rows: torch.Tensor) -> torch.Tensor:
    # In standard units, as the record has them: when it was made, a loaded run predicted in these.
    mean = saved.predict(rows).mean()
    return mean if saved.scaling is None else saved.scaling.targets(mean)


def _inputs(record: dict[str, Any]) -> tuple[int, ...]:
    return tuple(record["data"]["input_shape"])


def _draws(posterior: Any) -> dict[str, torch.Tensor]:
    return posterior.sample(2, base.rng(1))


SHORT = ("--epochs", "3")
DIGITS = ("digits", "--train", "200", "--net", "linear", "--epochs", "2", "--copies", "2,2,3", "--perturb", "rotate=90")
KINDS = ("kinds.csv", "--target", "kind", "--net", "net.py:make", *SHORT)
PRICES = ("prices.csv", "--target", "price", "--net", "net.py:make", *SHORT)
SETS = ("--conformal", "0.1")
POSTERIORS: dict[str, tuple[str, ...]] = {
    "auto": (),
    "point": ("--posterior", "point"),
    "laplace": ("--posterior", "laplace"),
    "ensemble": ("--posterior", "ensemble:members=2"),
    "swag": ("--posterior", "swag"),
    "multi-swag": ("--posterior", "multi-swag:members=2", "--posterior-steps", "20"),
    "mean-field": ("--posterior", "mean-field", "--posterior-steps", "20"),
    "ivon": ("--posterior", "ivon", "--posterior-steps", "20"),
    "sgld": ("--posterior", "sgld:keep=10", "--posterior-steps", "40", "--chains", "2"),
    "csgld": ("--posterior", "csgld:keep=10", "--posterior-steps", "40", "--chains", "2"),
    "sghmc": ("--posterior", "sghmc:keep=10", "--posterior-steps", "40", "--chains", "2"),
    "hmc": ("--posterior", "hmc:keep=10,leapfrogs=3", "--posterior-steps", "30", "--chains", "2"),
    "nuts": ("--posterior", "nuts:keep=10,max_depth=3", "--posterior-steps", "30", "--chains", "2"),
    "smc": ("--posterior", "smc:particles=16,moves=1", "--posterior-steps", "80", "--chains", "2"),
}
DECIDE = ("--decide", "costs.csv", "--abstain", "1.5", "--groups", "site")
DROPS = ("kinds.csv", "--target", "kind", "--net", "net.py:drops", *SHORT, "--posterior", "dropout")
OTHERS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "digits": (DIGITS, "digits", ()),
    "digits/ensemble": ((*DIGITS, "--posterior", "ensemble:members=2"), "digits", ()),
    "kinds/dropout": (DROPS, "new-kinds.csv", SETS),
    "kinds/decide": (KINDS, "new-kinds.csv", ("--conformal", "0.2", *DECIDE)),
    "kinds/student_t": ((*KINDS, "--prior", "student-t", "--seed", "4"), "new-kinds.csv", ()),
    "prices/pinball": (PRICES, "new-prices.csv", ("--decide", "pinball=0.8")),
    "prices/heteroscedastic": ((*PRICES, "--likelihood", "heteroscedastic"), "new-prices.csv", SETS),
}
CASES: dict[str, Case] = {
    **{f"kinds/{k}": partial(_learn_and_predict, (*KINDS, *v), "new-kinds.csv", SETS) for k, v in POSTERIORS.items()},
    **{
        f"prices/{k}": partial(_learn_and_predict, (*PRICES, *POSTERIORS[k]), "new-prices.csv", SETS)
        for k in ("auto", "ensemble", "swag", "sgld", "nuts")
    },
    **{k: partial(_learn_and_predict, *v) for k, v in OTHERS.items()},
}
