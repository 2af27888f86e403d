"""Which of my models, after a tenth of the time? Scores along training beside the test loss, and races.

    python -m benchmarks.choosing --part scores     # 24 networks of two tasks; goes on from what is there
    python -m benchmarks.choosing --part race       # races in a quarter of the time of training all
    python -m benchmarks.choosing --part vary       # which choice moves predictions most
    python -m benchmarks.choosing --summary

Two tasks, `digits` and `mnist`, with 800 training rows each, and the twelve networks that `benchmarks.ranking` has for
images. **Scores**: three networks of each, blind to a fold, train for 1,000 steps in rungs that end at 2, 5, 10, 50 and
100 %, as `nv.study.race` trains them. At 10, 50 and 100 % stand, lower is better:

- ``unseen``: the calibrated out-of-fold loss; ``extrapolated``: a power law through the last three of them, at 100 %;
- ``last passes``: the mean training loss of the later half of the rung (Ru 2021, TSE-E); ``all passes``: the sum of the
  training losses so far (TSE);
- ``prequential``: forecasts of blocks that double, 25 rows given, by one network that goes on from block to block with
  steps in proportion to the rows (1,000 in all); ``conditional``: the last of these forecasts alone.

The test loss and accuracy are those of one more network, trained on all rows at once, at the folds' temperature of the
labels. The number is Spearman's correlation with the test loss over the twelve networks.

**Races**: the budget is a quarter of the CPU seconds that the folds' networks took for all models (scores included).
What is lost is the test accuracy of the best network less that of the winner, both trained on all rows, with the
standard error of the paired difference over the test rows; beside it the loss of the choice by all networks trained to
the end. The finalists' stack is scored on the test rows beside the
winner, both by their folds' networks. Nothing was tuned on the test rows.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy.stats import spearmanr

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.ranking import load, networks
from novacula.prediction import Predictive
from novacula.study.comparing import race as racing
from novacula.study.comparing.choices import usual

RESULTS = Path(__file__).parent / "results" / "choosing.json"
TASKS = ("digits", "mnist")
ROWS, TEST, STEPS = 800, 2_000, 1_000
STOPS = (20, 50, 100, 500, 1_000)
SHOWN = {100: "10 %", 500: "50 %", 1_000: "100 %"}
BLOCKS = (25, 50, 100, 200, 400, 800)


def data_of(task: str, seed: int) -> tuple[nv.Data, nv.Data]:
    """So many training rows, and test rows."""
    rows, rest = load(task, seed, ROWS)
    return rows, rest.subset(range(min(TEST, rest.n)))


def along(target: nv.Target, data: nv.Data, seed: int) -> tuple[dict[str, dict[str, float]], float, float]:
    """Scores at the stops, the labels' temperature at the end, and CPU seconds."""
    began, passes, unseen = time.process_time(), list[list[float]](), list[float]()
    found: dict[str, dict[str, float]] = {}
    starts, done, fit = None, 0, None
    for stop in STOPS:
        new: list[list[float]] = []

        def record(_: int, __: int, r: dict[str, float], new: list[list[float]] = new) -> None:
            if r["epoch"] == 1:
                new.append([])
            new[-1].append(r["loss"])

        folds = 3 if fit is None else fit.folds
        options = {"folds": folds, "steps": stop - done, "starts": starts, "seed": seed + stop}
        fit = nv.cross_fit(target, data, progress=record, **options)
        starts, done = fit.networks, stop
        unseen.append(float(fit.losses.mean()))
        passes.append([float(np.mean(column)) for column in zip(*new, strict=True)])
        if stop in SHOWN:
            last = passes[-1]
            found[SHOWN[stop]] = {
                "unseen": unseen[-1],
                "last passes": float(np.mean(last[len(last) // 2 :])),
                "all passes": float(sum(sum(p) for p in passes)),
                "extrapolated": extrapolated(STOPS[: len(unseen)], unseen),
            }
    assert fit is not None
    return found, fit.temperature, time.process_time() - began


def extrapolated(stops: tuple[int, ...], losses: list[float]) -> float:
    """The power law through the last three losses, at the end of training."""
    slope, level = np.polyfit(np.log(stops[-3:]), np.log(losses[-3:]), 1)
    return float(np.exp(level + slope * np.log(STEPS)))


def forecasts(target: nv.Target, data: nv.Data, seed: int) -> tuple[dict[str, dict[str, float]], float]:
    """Prequential scores along one run, and CPU seconds."""
    began, starts, losses = time.process_time(), None, []
    order = torch.randperm(data.n, generator=torch.Generator().manual_seed(seed))
    for seen, upto in pairwise(BLOCKS):
        rows = data.subset(order[:upto])
        folds = torch.cat([torch.ones(seen), torch.zeros(upto - seen)]).long()
        steps = round(STEPS * seen / sum(BLOCKS[:-1]))
        fit = nv.cross_fit(target, rows, folds=folds, only=1, steps=steps, seed=seed, batch_size=min(25, seen),
                           starts=None if starts is None else [starts[0], starts[0]])  # fmt: skip
        starts = fit.networks
        losses.append(float(-fit.plain.log_prob(fit.labels).double().sum()))
    known = {"10 %": 2, "50 %": 4, "100 %": 5}
    scores = {
        at: {"prequential": sum(losses[:b]), "conditional": losses[b - 1] / (BLOCKS[b] - BLOCKS[b - 1])}
        for at, b in known.items()
    }
    return scores, time.process_time() - began


def score(task: str, name: str, seed: int) -> dict[str, Any]:
    """One network: scores, test loss and accuracy, CPU seconds."""
    data, test = data_of(task, seed)
    target = nv.Target(networks(data, task, seed)[name])
    at, temperature, seconds = along(target, data, seed)
    more, blocks = forecasts(target, data, seed)
    began = time.process_time()
    predictive = at_all_rows(target, data, test, temperature, seed)
    plain = time.process_time() - began
    return {
        "scores": {stop: {**at[stop], **more[stop]} for stop in at},
        "test_loss": -float(predictive.log_prob(test.y).double().mean()),
        "accuracy": float((predictive.mean().argmax(1) == test.y).double().mean()),
        "temperature": temperature,
        "cpu_seconds": {"folds": seconds, "forecasts": blocks, "all_rows": plain},
    }


def at_all_rows(target: nv.Target, data: nv.Data, test: nv.Data, temperature: float, seed: int) -> Predictive:
    """The predictions of test rows by a network that is trained on all others, at one stretch."""
    posterior = nv.infer(nv.MAP(lr=4e-3), target.calibrated(temperature), data, steps=STEPS, batch_size=25, seed=seed)
    return nv.predict(posterior, test.x)


def race(task: str, seed: int, by: str, nets: dict[str, Any]) -> dict[str, Any]:
    """A race in a quarter of the time."""
    data, test = data_of(task, seed)
    whole = sum(r["cpu_seconds"]["folds"] for r in nets.values())
    targets = {name: nv.Target(net) for name, net in networks(data, task, seed).items()}
    began = time.process_time()
    # Other processes share the cores: the budget is in CPU seconds.
    with mock.patch.object(racing.time, "perf_counter", time.process_time):
        found = nv.study.race(targets, data, budget=whole / 4, by=by, steps=STEPS, seed=seed)  # type: ignore[arg-type]
    seconds = time.process_time() - began
    best = max(nets, key=lambda name: nets[name]["accuracy"])
    full = min(nets, key=lambda name: nets[name]["scores"]["100 %"]["unseen"])
    right = {
        name: at_all_rows(targets[name], data, test, nets[name]["temperature"], seed).mean().argmax(1) == test.y
        for name in {best, full, found.best.name}
    }
    lost, by_all = (right[best].double() - right[name].double() for name in (found.best.name, full))
    mixed, alone = found.stack.predict(test.x), nv.predict(found.best.fit.posterior, test.x)
    stacked = {
        "weights": found.stack.weights,
        "gain": found.stack.gain.value,
        "gain_stderr": found.stack.gain.stderr,
        "test_loss": -float(mixed.log_prob(test.y).mean()),
        "test_loss_of_winner": -float(alone.log_prob(test.y).double().mean()),
    }
    return {
        "winner": found.best.name,
        "lost": float(lost.mean()),
        "lost_stderr": float(lost.std()) / test.n**0.5,
        "by_all": full,
        "lost_by_all": float(by_all.mean()),
        "share_of_time": seconds / whole,
        "stack": stacked,
        "race": found.to_dict(),
    }


def varied(seed: int) -> dict[str, Any]:
    """Which choice moves a perceptron's predictions of digits most."""
    data, _ = data_of("digits", seed)
    build, levels = usual("mlp", data, ["init", "optimizer", "depth", "standardise"], 10, seed=seed)
    began = time.process_time()
    found = nv.study.vary(build, data, levels, steps=300, seed=seed)
    return {**found.to_dict(), "table": found.table(), "cpu_seconds": time.process_time() - began}


def summary(found: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    names = list(next(iter(found["scores"].values()))["linear"]["scores"]["10 %"])
    lines = [f"| task | after | {' | '.join(names)} |", f"| --- | --- | {' | '.join('---:' for _ in names)} |"]
    for key, nets in found["scores"].items():
        for at in SHOWN.values():
            tests = [r["test_loss"] for r in nets.values()]
            cells = [float(np.asarray(spearmanr([r["scores"][at][s] for r in nets.values()], tests))[0]) for s in names]
            lines.append(f"| {key} | {at} | {' | '.join(f'{c:.2f}' for c in cells)} |")
    lines += ["", "| race | winner | points lost | by training all | points lost | share of the time |"]
    lines += ["| --- | --- | ---: | --- | ---: | ---: |"]
    for key, r in found.get("races", {}).items():
        lost = f"{100 * r['lost']:.2f} ± {100 * r['lost_stderr']:.2f}"
        cells = [r["winner"], lost, r["by_all"], f"{100 * r['lost_by_all']:.2f}"]
        lines.append(f"| {key} | {' | '.join(cells)} | {r['share_of_time']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["scores", "race", "vary"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"scores": {}, "races": {}}
    seed = options.seed
    if options.part == "vary":
        found["vary"] = varied(seed)
        write(RESULTS, found)
        print(found["vary"]["table"])
        return
    for task in TASKS if options.part else ():
        key = f"{task}, seed {seed}"
        nets = found["scores"].setdefault(key, {})
        names = networks(data_of(task, seed)[0], task, seed)
        for name in names if options.part == "scores" else ():
            if name not in nets:
                nets[name] = score(task, name, seed)
                found["environment"] = environment()
                write(RESULTS, found)
        for by in ("unseen", "speed") if options.part == "race" else ():
            if f"{key}, by {by}" not in found["races"]:
                found["races"][f"{key}, by {by}"] = race(task, seed, by, nets)
                write(RESULTS, found)
    print(summary(found))


if __name__ == "__main__":
    main()
