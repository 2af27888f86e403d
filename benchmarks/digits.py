"""Rotated scikit-learn digits with a 9.6k-weight MLP: is the rotation found, how fast, and does it help?

    python -m benchmarks.digits --arm learn --seed 0
    python -m benchmarks.digits --all --seeds 3           # learned, and without an invariance
    python -m benchmarks.digits --summary

Pixels, split and rotations are those that the peers get (`benchmarks.peers.task`); all six affine generators are free.
One JSON file a run lies in ``results/digits``. ``--state`` also writes the weights, under the peers' names, and the six
extents as ``eta``, for ``python -m benchmarks.peers.yardstick --task digits STATE.npz``.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.peers.task import load
from novacula.inference import MAP

RESULTS = Path(__file__).parent / "results" / "digits"
BATCH = 50
FULL = 165.0  # degrees from which the rotation counts as found
NAMES = {"1.weight": "hidden.weight", "1.bias": "hidden.bias", "3.weight": "out.weight", "3.bias": "out.bias"}


def hyper_cpu(fit: nv.LearnResult, method: nv.study.EmpiricalBayes, repeats: int) -> float:
    """CPU seconds of one hyper-step (evidence and its gradient in everything learned): the median."""
    found = []
    for seed in range(repeats):
        leaves = {k: v.detach().clone().requires_grad_() for k, v in fit.target.learnable().items()}
        began = time.process_time()
        estimate = method.estimator(fit.target.with_learnable(leaves), fit.data, fit.params, seed=seed)
        torch.autograd.grad(estimate.value, list(leaves.values()))
        found.append(time.process_time() - began)
    return statistics.median(found)


def run(arm: str, seed: int, epochs: int, copies: int, threads: int, state: bool) -> dict[str, object]:
    """One run of one arm."""
    torch.set_num_threads(threads)
    task = load("digits")
    train = nv.Data(torch.from_numpy(task.x_train), torch.from_numpy(task.y_train), name="rotated digits")
    test = nv.Data(torch.from_numpy(task.x_test), torch.from_numpy(task.y_test), name="rotated digits")
    network = nv.networks.make("mlp", train.x_shape, 10, seed=seed)
    invariance = nv.Affine() if arm == "learn" else None
    # The peers' learning rate, batch and number of epochs; a weak prior to begin with, as they do best with.
    target = nv.Target(network, prior=nv.Gaussian(precision=0.1), invariance=invariance, copies=nv.Copies(train=copies))
    method = dataclasses.replace(nv.study.default_method(train.n, BATCH), optimiser=MAP(lr=0.02))
    clock = [time.process_time()]
    fit = nv.learn(
        target,
        train,
        epochs=epochs,
        batch_size=BATCH,
        seed=seed,
        method=method,
        folds=0,
        progress=lambda *_: clock.append(time.process_time()),
    )
    record, _ = nv.study.describe(fit, test)
    rotation = [180 * r["extent/rotation"] for r in fit.history] if arm == "learn" else []
    if state:
        weights = {NAMES[k]: w.numpy() for k, w in fit.params.items()}
        if fit.target.invariance is not None:
            weights["eta"] = fit.target.invariance.eta.detach().numpy()
        RESULTS.mkdir(parents=True, exist_ok=True)
        np.savez(RESULTS / f"{arm}-{seed}.npz", **weights)
    per_epoch = [b - a for a, b in itertools.pairwise(clock)]
    return {
        "arm": arm,
        "seed": seed,
        "epochs": epochs,
        "copies": copies,
        "fingerprint": task.fingerprint,
        "weights": record["weights"],
        "rotation_by_epoch": rotation,
        "epoch_of_full_rotation": next((i for i, r in enumerate(rotation, 1) if r >= FULL), None),
        "invariance": record["invariance"],
        "cpu_seconds_per_epoch": statistics.median(per_epoch),
        "cpu_seconds_by_epoch": per_epoch,
        "cpu_seconds_per_hyper_step": hyper_cpu(fit, method, 15),
        "hyper_steps_every": method.every,
        "seconds": fit.seconds,
        "accuracy": record["test"]["accuracy"],
        "nll": record["test"]["nll"],
        "map_test": record["map_test"],
        "predictive": {k: record["predictive"][k] for k in ("structure", "temperature")},
        "evidence": {k: record["evidence"][k] for k in ("value", "stderr", "estimator", "per_example")},
        "warnings": record["warnings"],
        "environment": environment(),
    }


def summary() -> str:
    """The table of results, in Markdown."""
    lines = [
        "| arm | seed | rotation ° | full from epoch | accuracy | NLL | CPU-s / epoch | CPU-ms / hyper-step |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in (json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))):
        turned = f"{r['rotation_by_epoch'][-1]:.0f}" if r["rotation_by_epoch"] else "–"
        lines.append(
            f"| {r['arm']} | {r['seed']} | {turned} | {r['epoch_of_full_rotation'] or '–'} | {r['accuracy']:.4f} | "
            f"{r['nll']:.4f} | {r['cpu_seconds_per_epoch']:.3f} | {1e3 * r['cpu_seconds_per_hyper_step']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", choices=("learn", "none"), default="learn")
    parser.add_argument("--epochs", type=int, default=75)
    parser.add_argument("--copies", type=int, default=8, help="transformed copies in a training step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--state", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    jobs = [(options.arm, options.seed)]
    if options.all:
        jobs = [(arm, seed) for seed in range(options.seeds) for arm in ("learn", "none")]
    for arm, seed in [] if options.summary else jobs:
        result = run(arm, seed, options.epochs, options.copies, options.threads, options.state)
        write(RESULTS / f"{arm}-{seed}.json", result)
    print(summary())


if __name__ == "__main__":
    main()
