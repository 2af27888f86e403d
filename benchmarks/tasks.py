"""Whether the evidence finds what two tasks share, on digits with two label sets.

    python -m benchmarks.tasks --case labels --runs 20         # 20 CPU seconds a run
    python -m benchmarks.tasks --case pixels --runs 5
    python -m benchmarks.tasks --summary

Two tasks with 400 images of scikit-learn's digits each, no image in both, and a 64-24-10 net with shared and private
weights in both layers (`nv.structure.share`, `nv.study.relaxation`). ``labels``: the second task's labels are the
digits in another order, so that features can be shared and the last layer cannot. ``pixels``: the second task's images
have their pixels in another order and its labels are the digits, so that the last layer can be shared; whether one
first layer serves both is open. A run is right if in both layers more effective parameters are in the part named here:
shared, private; private, shared.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "tasks.json"
CASES = {"labels": ("shared", "private"), "pixels": ("private", "shared")}
LAYERS = ("network.1", "network.3")


def data_of(case: str, seed: int) -> tuple[nv.Data, nv.Data]:
    """Training and test data of both tasks."""
    digits, rng = nv.load("digits"), torch.Generator().manual_seed(seed)
    order = torch.randperm(digits.n, generator=rng)
    x, y, task = digits.x[order], digits.y[order], torch.arange(digits.n) % 2
    second = task == 1
    if case == "labels":
        y = torch.where(second, torch.randperm(10, generator=rng)[y], y)
    else:
        moved = x.flatten(1)[:, torch.randperm(64, generator=rng)].view_as(x)
        x = torch.where(second[:, None, None, None], moved, x)
    parts = [slice(0, 800), slice(800, None)]
    train, test = (nv.Data({"x": x[p], "task": task[p]}, y[p]) for p in parts)
    return train, test


def run(case: str, seed: int) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    train, test = data_of(case, seed)
    net = nv.networks.make("mlp", (1, 8, 8), 10, width=24, seed=seed)
    began = time.process_time()
    found = nv.study.relaxation(nv.Target(nv.structure.share(net, 2)), train, steps=200, rounds=6, seed=seed)
    seconds = time.process_time() - began
    share = {layer: of["shared"] / sum(of.values()) for layer, of in found.effective.items()}
    right = [(share[layer] > 0.5) == (part == "shared") for layer, part in zip(LAYERS, CASES[case], strict=True)]
    prediction = nv.predict(found.posterior, test.x)
    return {
        "seed": seed,
        "shared": share,
        "right": right,
        "accuracy": float((prediction.mean().argmax(1) == test.y).double().mean()),
        "trials": [vars(t) for t in found.trials],
        "cpu_seconds": seconds,
    }


def summary() -> str:
    """The table of results, in Markdown."""
    lines = ["| case | runs right | share of shared parameters: first layer | last layer | accuracy | CPU-s a run |"]
    lines += ["| --- | ---: | --- | --- | ---: | ---: |"]
    found = json.loads(RESULTS.read_text())
    for case in CASES:
        rows = found.get(case, [])
        if not rows:
            continue
        spans = [[r["shared"][layer] for r in rows] for layer in LAYERS]
        cells = [f"{min(v):.2f} to {max(v):.2f}" for v in spans]
        right, n = sum(all(r["right"]) for r in rows), len(rows)
        means = [sum(r[k] for r in rows) / n for k in ("accuracy", "cpu_seconds")]
        lines.append(f"| {case} | {right} of {n} | {cells[0]} | {cells[1]} | {means[0]:.3f} | {means[1]:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, default="labels")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, help="this one again, kept apart under 'again'")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if options.summary:
        print(summary())
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.seed is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nv.NovaculaWarning)
            again = run(options.case, options.seed)
        found = json.loads(RESULTS.read_text())
        found.setdefault(f"{options.case}, again", []).append(again)
        write(RESULTS, found)
        return
    rows = found.setdefault(options.case, [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        while len(rows) < options.runs:
            rows.append(run(options.case, len(rows)))
            found["environment"] = environment()
            write(RESULTS, found)


if __name__ == "__main__":
    main()
