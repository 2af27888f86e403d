"""Do measures of complexity rank test losses where one factor alone varies?

    python -m benchmarks.complexity               # about a minute on one core
    python -m benchmarks.complexity --summary

Perceptrons with two hidden layers of rectifiers on 400 of scikit-learn's digits, 300 steps of `novacula.MAP`: width 16
or 64, precision of the prior .3 or 3, rate .003 or .01, batches of 20 or 100, and two seeds; 32 networks. Of each the
measures of `nv.paths.complexity`, and of `nv.paths.spectrum` (GGN, 2 probes of 40 steps) the trace, the largest
eigenvalue and the effective dimension at precision 1. Then Kendall's τ with the loss of 1,397 test digits, over all
networks, and within groups that differ in one factor, with 90 % intervals over groups. JSON in
``results/complexity.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "complexity.json"
FACTORS = {
    "width": (16, 64),
    "precision": (0.3, 3.0),
    "rate": (0.003, 0.01),
    "batch": (20, 100),
    "seed": (0, 1),
}


def one(train: nv.Data, test: nv.Data, at: dict[str, Any]) -> dict[str, float]:
    """Train a network, measure it, and score it."""
    options = {"width": at["width"], "depth": 2, "activation": "relu"}
    net = nv.networks.make("mlp", train.x_shape, 10, seed=at["seed"], **options)
    target = nv.Target(net, prior=nv.Gaussian(precision=at["precision"]))
    run = nv.infer(nv.MAP(lr=at["rate"]), target, train, steps=300, batch_size=at["batch"], seed=at["seed"])
    simple = nv.paths.complexity(target, train, run)
    curved = nv.paths.spectrum(target, train, run, probes=2, steps=40)
    loss = {
        name: float(-nv.predict(run, data.x).mean().gather(1, data.y[:, None]).log().mean())
        for name, data in (("test", test), ("train", train))
    }
    return {
        "norm": simple.norm,
        "path norm": simple.path_norm or 0.0,
        "spectral norm": simple.spectral_norm,
        "margin": simple.margin or 0.0,
        "flatness": simple.flatness,
        "PAC-Bayes": simple.pac_bayes,
        "trace": curved.trace[0],
        "largest eigenvalue": curved.largest[0][0],
        "effective dimension": curved.effective_dimension(1.0)[0],
        "training loss": loss["train"],
        "test loss": loss["test"],
    }


def run() -> dict[str, Any]:
    """The whole grid."""
    train, test = nv.load("digits").split(400, seed=0)
    grid = [dict(zip(FACTORS, at, strict=True)) for at in product(*FACTORS.values())]
    began = time.process_time()
    found = [one(train, test, at) for at in grid]
    return {"networks": found, "grid": grid, "cpu_seconds": time.process_time() - began}


def ranks(result: dict[str, Any]) -> dict[str, Any]:
    """By measure, Kendall's τ with the test loss: over all networks, and within groups by factor."""
    found, table = result["networks"], {}
    outcome = [f["test loss"] for f in found]
    levels = {name: [at[name] for at in result["grid"]] for name in FACTORS}
    for name in (k for k in found[0] if k != "test loss"):
        values = [f[name] for f in found]
        within = nv.paths.ranked_within(values, outcome, levels)
        tau = float(kendalltau(values, outcome).statistic)
        table[name] = {"all": tau, **{k: m.to_dict() for k, m in within.items()}}
    return table


def summary(result: dict[str, Any]) -> str:
    """The table, in Markdown."""
    lines = ["| measure | all | " + " | ".join(FACTORS) + " |", "| --- |" + " ---: |" * (len(FACTORS) + 1)]
    for name, row in ranks(result).items():
        cells = []
        for factor in FACTORS:
            interval = row[factor]["interval"]
            beside = "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
            cells.append(f"{row[factor]['value']:.2f}{beside}")
        lines.append(f"| {name} | {row['all']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    if not options.summary:
        found = run()
        write(RESULTS, {**found, "ranks": ranks(found), "environment": environment()})
    print(summary(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
