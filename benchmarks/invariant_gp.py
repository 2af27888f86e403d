"""Extents learned by an exact Gaussian process whose kernel is averaged over rotations, on upright and turned digits.

    python -m benchmarks.invariant_gp --turned 90 --n 400     # a minute
    python -m benchmarks.invariant_gp --summary

Digits of ``mnist10k``, classes by the Dirichlet model of the logits. ``plain`` is the kernel inside alone. Error on
1,000 other digits, turned alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.invariances.perturb import parse, perturb
from novacula.kernels import Invariant, SquaredExponential, process

RESULTS = Path(__file__).parent / "results" / "invariant_gp"


def run(turned: int, n: int, copies: int, steps: int, seed: int) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz").to(dtype=torch.float64)
    x = perturb(data.x, [parse(f"rotate={turned}")], seed=seed) if turned else data.x
    train, test = data.with_values(x, data.y).split(n, seed=seed)
    test = test.subset(range(1_000))
    inside = SquaredExponential(torch.tensor(math.log(5.0)).double(), torch.tensor(math.log(3.0)).double())
    found: dict[str, Any] = {"turned": turned, "n": n, "copies": copies, "steps": steps, "seed": seed}
    turns = nv.Affine(eta=torch.tensor([0.1]).double(), only=("rotation",))
    for name, kernel in (("plain", inside), ("invariant", Invariant(inside, turns, copies=copies))):
        began = time.process_time()
        made = process(kernel, train, steps=steps, lr=0.05)
        mean, _ = made.outputs(test.x)
        found[name] = {
            "log_evidence": made.log_evidence,
            "error": float((mean.argmax(1) != test.y).double().mean()),
            "learned": {k: v.tolist() for k, v in made.kernel.learnable().items()},
            "cpu_seconds": time.process_time() - began,
        }
    found["degrees"] = 180 * abs(found["invariant"]["learned"]["eta"][0])
    return {**found, "environment": environment()}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turned", type=int, default=0)
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    if given.summary:
        for path in sorted(RESULTS.glob("*.json")):
            row = json.loads(path.read_text())
            plain, ours = row["plain"], row["invariant"]
            both = (f"{k}: {plain[k]:.3f} {ours[k]:.3f}" for k in plain if k != "learned")
            print(row["turned"], row["n"], f"{row['degrees']:.0f} degrees", *both)
        return
    found = run(given.turned, given.n, given.copies, given.steps, given.seed)
    write(RESULTS / f"{given.turned}-{given.n}-{given.seed}.json", found)


if __name__ == "__main__":
    main()
