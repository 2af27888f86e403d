"""Whether the intervals of learned hyperparameters hold what an independent repetition finds, and the truth.

    python -m benchmarks.intervals                 # 100 repetitions of three linear models; ten minutes
    python -m benchmarks.intervals --images 10     # and so many of a rotation of digits; a minute each

Each repetition draws everything anew: weights from the prior, inputs and noise; ``nv.learn`` learns noise and precision
without folds. The interval of each repetition is held against the value of the next, and against the truth. For images
it is 400 digits (scikit-learn's, 8 × 8) turned by up to ±90°, with folds. ``results/intervals.json`` holds the shares.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.invariances.perturb import parse, perturb

RESULTS = Path(__file__).parent / "results" / "intervals.json"
CASES = {"30 x 4": (30, 4, 0.3), "60 x 8": (60, 8, 0.05), "400 x 20": (400, 20, 1.0)}
PRECISION = 2.0


def linear(case: str, seed: int) -> dict[str, Any]:
    """What is found of a linear model without a bias: its hyperparameters in the order of learning."""
    n, d, sigma = CASES[case]
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=rng, dtype=torch.float64)
    w = torch.randn(d, 1, generator=rng, dtype=torch.float64) / PRECISION**0.5
    y = x @ w + sigma * torch.randn(n, 1, generator=rng, dtype=torch.float64)
    # Inputs and targets are learned in standard units, precisions too: the truth is known up to these.
    unit = float(y.std() ** 2 / x.std() ** 2)
    network = nn.Linear(d, 1, bias=False).double()
    fit = nv.learn(nv.Target(network, likelihood=nv.Normal()), nv.Data(x, y, task="regression"), folds=0, seed=seed)
    return {"noise": (fit.hyper["noise"], sigma), "precision": (fit.hyper["precision"], PRECISION * unit)}


def turned(seed: int) -> dict[str, Any]:
    """What is found of 400 digits turned by up to ±90°."""
    data = nv.load("digits")
    rows = torch.randperm(data.n, generator=torch.Generator().manual_seed(seed))[:400]
    few = data.subset(rows)
    few = few.with_values(perturb(few.x, [parse("rotate=90")], seed=seed), few.y)
    network = nv.networks.make("cnn", few.x_shape, 10, seed=seed)
    fit = nv.learn(nv.Target(network, invariance=nv.Affine(only=("rotation",))), few, seed=seed)
    return {"rotation": (fit.hyper["rotation"], 0.5)}


def shares(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How often intervals hold the next repetition's value, and the truth."""
    said = {}
    for name in found[0]:
        intervals = [f[name][0]["interval"] for f in found]
        values = [f[name][0]["value"] for f in found]
        truths = [f[name][1] for f in found]
        following = [*values[1:], values[0]]
        said[name] = {
            "repetition": _mean([a <= v <= b for (a, b), v in zip(intervals, following, strict=True)]),
            "truth": _mean([a <= v <= b for (a, b), v in zip(intervals, truths, strict=True)]),
            "median": float(torch.tensor(values, dtype=torch.float64).median()),
            "converged": _mean([bool(f[name][0]["converged"]) for f in found]),
        }
    return said


def _mean(held: list[bool]) -> float:
    return sum(held) / len(held)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--images", type=int, default=0, help="repetitions of the rotation of digits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"environment": environment(), "repetitions": options.repetitions, "cases": {}}
    jobs = [(case, options.repetitions, lambda s, c=case: linear(c, s)) for case in CASES]
    if options.images:
        jobs.append(("digits turned by 90 degrees", options.images, turned))
    for case, repetitions, run in jobs:
        began = time.process_time()
        said = shares([run(seed) for seed in range(repetitions)])
        found["cases"][case] = {**said, "repetitions": repetitions, "cpu_seconds": time.process_time() - began}
        print(case, said, flush=True)
        write(RESULTS, found)


if __name__ == "__main__":
    main()
