"""Extents learned by Gaussian processes whose kernel is averaged over rotations, on upright and turned digits.

    python -m benchmarks.invariant_gp --turned 90 --arm invariant     # a minute or two
    python -m benchmarks.invariant_gp --all
    python -m benchmarks.invariant_gp --summary

1,000 digits of ``mnist10k``, 300 inducing points, classes as Gaussians on the logits. ``plain`` is the kernel inside
alone; ``network`` a 784-64-10 net with the same rotation, learned by its own evidence without folds, whose log evidence
is one of labels and does not compare with those of logits. Error on 1,000 other digits, turned alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.invariances.perturb import parse, perturb
from novacula.kernels import Invariant, SquaredExponential, inducing

RESULTS = Path(__file__).parent / "results" / "invariant_gp"
ARMS = ("plain", "invariant", "network")
TURNS = (0, 90)


def run(turned: int, arm: str, n: int, points: int, copies: int, steps: int, seed: int) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
    x = perturb(data.x, [parse(f"rotate={turned}")], seed=seed) if turned else data.x
    train, test = data.with_values(x, data.y).split(n, seed=seed)
    test, began = test.subset(range(1_000)), time.process_time()
    found: dict[str, Any] = {"turned": turned, "arm": arm, "n": n, "seed": seed}
    if arm == "network":
        turns = nv.Affine(only=("rotation",))
        net = nv.networks.make("mlp", train.x_shape, 10, width=64, seed=seed)
        target = nv.Target(net, invariance=turns, copies=nv.Copies(train=8, evidence=8, predict=8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nv.NovaculaWarning)
            fit = nv.learn(target, train, folds=0, seed=seed)
        mean, eta = nv.predict(fit.posterior, test.x).mean(), fit.target.learnable()["invariance.eta"]
        found["log_evidence"] = float(fit.evidence)
    else:
        inside = SquaredExponential(torch.tensor(math.log(6.0)).double(), torch.tensor(math.log(3.0)).double())
        turns = nv.Affine(eta=torch.tensor([0.1]).double(), only=("rotation",))
        kernel = Invariant(inside, turns, copies=copies) if arm == "invariant" else inside
        made = inducing(kernel, train, points=points, steps=steps, lr=0.05, batch_size=200, seed=seed)
        mean, learned = made.outputs(test.x)[0], made.kernel.learnable()
        eta = learned.get("eta")
        found |= {"log_evidence": float(made.bound), "stderr": made.bound.stderr, "steps": steps, "copies": copies}
        found |= {"points": points, "learned": {k: v.tolist() for k, v in learned.items()}}
    found["error"] = float((mean.argmax(1) != test.y).double().mean())
    found["degrees"] = None if eta is None else 180 * abs(float(eta[0]))
    return {**found, "cpu_seconds": time.process_time() - began, "environment": environment()}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turned", type=int, default=0)
    parser.add_argument("--arm", choices=ARMS, default="invariant")
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--copies", type=int, default=6)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    if given.summary:
        for path in sorted(RESULTS.glob("*.json")):
            row = json.loads(path.read_text())
            told = "" if row["degrees"] is None else f"{row['degrees']:.0f} degrees"
            numbers = (f"{k} {row[k]:.3f}" for k in ("log_evidence", "error", "cpu_seconds"))
            print(row["turned"], row["arm"], row["n"], row["seed"], *numbers, told)
        return
    wanted = [(t, a) for t in TURNS for a in ARMS] if given.all else [(given.turned, given.arm)]
    for turned, arm in wanted:
        found = run(turned, arm, given.n, given.points, given.copies, given.steps, given.seed)
        write(RESULTS / f"{turned}-{arm}-{given.n}-{given.seed}.json", found)


if __name__ == "__main__":
    main()
