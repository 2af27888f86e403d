"""How the prior over functions divides between training and test accuracy: parity of digits, by splitting.

    python -m benchmarks.joint_accuracy             # the cells that are missing
    python -m benchmarks.joint_accuracy --n 600 --steps 40    # no further than about 1e-12
    python -m benchmarks.joint_accuracy --figure

Networks 64-20-1 with weights ``N(0, 1/fan-in)`` and biases ``N(0, 1)``, or all of ±1 over the root of the fan-in, on
100, 300 and 600 digits; the other digits are held out. Real networks are also trained to zero error, for comparison.
``results/joint_accuracy.json`` holds what was found, cell by cell; the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import generator
from novacula.study.sampling.task import Task
from novacula.study.sampling.trained import train

RESULT = Path(__file__).parent / "results" / "joint_accuracy.json"
STOP = 60.0  # CPU seconds after which no cell is begun: the same command goes on
LN10 = math.log(10)
PRIORS = {"real": nv.FanIn(), "±1": nv.priors.Signs(fan_in=True)}
METHOD = nv.inference.Splitting(particles=100, moves=8)
CELLS = [(weights, n) for n in (100, 300, 600) for weights in PRIORS]


def task(n: int) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """A network, training data and all other digits, labelled by their parity."""
    data = nv.load("digits")
    order = torch.randperm(data.n, generator=generator(0, "digits"))
    x, y = data.x[order].flatten(1), data.y[order] % 2
    return nn.Sequential(nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 1)), (x[:n], y[:n]), (x[n:], y[n:])


def cell(weights: str, n: int, steps: int) -> dict[str, Any]:
    """One joint density, and what it took."""
    began = time.process_time()
    found = nv.study.joint_accuracy(*task(n), prior=PRIORS[weights], method=METHOD, steps=steps, seed=0)
    spent = time.process_time() - began
    rows = {}
    for most in dict.fromkeys(round(share * n) for share in (0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0)):
        (log_prob, stderr), unseen = found.within(0, most)
        if math.isfinite(log_prob):
            rows[str(most)] = {"log10": log_prob / LN10, "stderr": stderr / LN10, "held_out": list(unseen)}
    i, j = np.nonzero(np.isfinite(found.log_prob))
    return {
        "weights": weights,
        "n": n,
        "steps": steps,
        "reached": found.reached,
        "at_most": rows,
        "evaluations": found.evaluations,
        "cpu_seconds": spent,
        # As text, each number on a line of its own otherwise.
        "density": {
            "train": " ".join(map(str, i)),
            "test": " ".join(map(str, j)),
            "log10": " ".join(f"{v / LN10:.2f}" for v in found.log_prob[i, j]),
        },
    }


def trained(n: int) -> dict[str, Any]:
    """Errors of 200 networks that were trained from draws of the prior, at the stop and 64 epochs beyond."""
    net, data, held_out = task(n)
    made = Task.of(net, data, held_out, PRIORS["real"], None)
    method = nv.inference.Descent("sgd", lr=0.1, beyond=(64,))
    found = train(made, method, "prior", 200, 1000, seed=0, workers=1, progress=lambda *_: None)
    return {"nets": len(found.stops), "errors": [float((f.labels != made.y).mean()) for f in found.at]}


def figure(result: dict[str, Any]) -> None:
    """Log densities over accuracies, in a column for each number of digits and a row for each kind of weights."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    known = [(*cell, result["cells"][key]) for cell in CELLS if (key := f"{cell[0]}, n {cell[1]}") in result["cells"]]
    columns = -(-len(known) // 2)
    drawn, axes = plt.subplots(2, columns, figsize=(3.8 * columns, 7), sharex=True, sharey=True, layout="constrained")
    for place, (weights, n, row) in zip(axes.T.flat, known, strict=False):
        held = nv.load("digits").n - n
        train, test, logs = (np.array(row["density"][k].split(), float) for k in ("train", "test", "log10"))
        x, y = 1 - train / n, 1 - test / held
        # Densities in squares of two hundredths, as a cell of the exact table is a single draw.
        grid = np.full((50, 50), -np.inf)
        at = np.minimum((x * 50).astype(int), 49), np.minimum((y * 50).astype(int), 49)
        np.logaddexp.at(grid, at, logs * LN10)
        shown = place.pcolormesh(
            np.linspace(0, 1, 51), np.linspace(0, 1, 51), np.ma.masked_invalid(grid.T / LN10), cmap="viridis"
        )
        drawn.colorbar(shown, ax=place, label="log10 P" if place in axes[:, -1] else None)
        most = sorted(map(int, row["at_most"]))
        unseen = np.array([row["at_most"][str(k)]["held_out"] for k in most])
        place.plot(
            1 - np.array(most) / n,
            1 - unseen[:, 0],
            "o-",
            color="#d1495b",
            ms=3,
            lw=1.2,
            label="mean, at most so many errors",
        )
        if weights == "real" and str(n) in result.get("trained", {}):
            error = result["trained"][str(n)]["errors"][0]
            place.plot(1.0, 1 - error, "s", color="black", ms=5, clip_on=False, label="trained by SGD")
        place.set_title(f"{weights} weights, {n} digits", fontsize=9)
        place.set_xlim(0.2, 1.0)
        place.set_ylim(0.2, 1.0)
    for place in axes[-1]:
        place.set_xlabel("accuracy in training")
    for place in axes[:, 0]:
        place.set_ylabel("accuracy on the others")
    axes[0, 0].legend(fontsize=7, frameon=False, loc="upper left")
    drawn.savefig(RESULT.with_suffix(".png"), dpi=110)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", action="store_true")
    parser.add_argument("--n", type=int, nargs="*", default=[100, 300, 600], help="sizes of training sets")
    parser.add_argument("--steps", type=int, default=1000, help="the most levels, of a factor of two each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"cells": {}, "trained": {}}
    if options.figure:
        figure(result)
        return

    def keep() -> None:
        write(RESULT, {"environment": environment(), **{k: result[k] for k in ("cells", "trained")}})

    for weights, n in CELLS:
        if n not in options.n or time.process_time() > STOP:
            continue
        if (key := f"{weights}, n {n}") not in result["cells"]:
            result["cells"][key] = cell(weights, n, options.steps)
            keep()
            print(key, {k: v for k, v in result["cells"][key].items() if k != "density"}, flush=True)
        if weights == "real" and str(n) not in result["trained"]:
            result["trained"][str(n)] = trained(n)
            keep()
            print(n, result["trained"][str(n)], flush=True)


if __name__ == "__main__":
    main()
