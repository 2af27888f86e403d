"""Learned invariances on perturbed MNIST, against an oracle that is told the true extents.

    python -m benchmarks.mnist --case rotate180 --arm learn --seed 0
    python -m benchmarks.mnist --all --seeds 3            # every case, learned and oracle; about half an hour
    python -m benchmarks.mnist --summary                  # the table of what has been measured

Each run trains the built-in ``cnn`` (81k weights) on 8,000 images of ``mnist10k.npz`` and is tested on the other 2,000;
both are perturbed alike, and the learner is told nothing. One JSON file a run lies in ``results/mnist``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.invariances.perturb import parse, perturb
from novacula.study import EmpiricalBayes

RESULTS = Path(__file__).parent / "results" / "mnist"
# The perturbation, and the extents in the units of eta that an oracle is told (scale: log of the factor).
CASES: dict[str, tuple[str | None, dict[str, float]]] = {
    "rotate180": ("rotate=180", {"rotation": 1.0}),
    "rotate90": ("rotate=90", {"rotation": 0.5}),
    "translate30": ("translate=0.3", {"translation_x": 0.6, "translation_y": 0.6}),
    "upright": (None, {}),
    "scale50": ("scale=0.5", {"scale": 0.3466}),
}


def run(case: str, arm: str, seed: int, epochs: int, threads: int) -> dict[str, object]:
    """One run; the oracle's extents are fixed, everything else is learned in both arms."""
    torch.set_num_threads(threads)
    text, truth = CASES[case]
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
    x = perturb(data.x, [parse(text)], seed=seed) if text else data.x
    train, test = data.with_values(x, data.y).split(8000, seed=seed)
    invariance = nv.Affine()
    if arm == "oracle":
        invariance = nv.Affine(eta=torch.tensor([truth.get(n, 0.0) for n in invariance.names]))
    network = nv.networks.make("cnn", tuple(train.x.shape[1:]), 10, seed=seed)
    target = nv.Target(network, invariance=None if arm == "none" else invariance)
    method = nv.study.default_method(train.n)
    if arm == "oracle":
        method = EmpiricalBayes(**{**vars(method), "learn": ("prior", "likelihood")})
    cpu = time.process_time()
    fit = nv.learn(target, train, epochs=epochs, seed=seed, method=method, folds=0)
    cpu = time.process_time() - cpu
    record, _ = nv.study.describe(fit, test)
    tail = [{k: v for k, v in r.items() if k.startswith("extent/")} for r in fit.history]
    return {
        "case": case,
        "arm": arm,
        "seed": seed,
        "epochs": epochs,
        "threads": threads,
        "invariance": record["invariance"],
        "accuracy": record["test"]["accuracy"],
        "nll": record["test"]["nll"],
        "map_test": record["map_test"],
        "predictive": {k: record["predictive"][k] for k in ("structure", "temperature")},
        "evidence": {k: record["evidence"][k] for k in ("value", "stderr", "estimator", "per_example")},
        "seconds": fit.seconds,
        "cpu_seconds": cpu,
        "hyper_share": fit.seconds["hyper"] / fit.seconds["total"],
        "extents_by_epoch": tail,
        "warnings": list(fit.warnings),
        "environment": environment(),
    }


def summary() -> str:
    """The table of results, in Markdown."""
    found = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))]
    lines = [
        "| case | arm | seeds | accuracy | NLL | rotation ° | translation x, y | largest other | seconds | hyper |",
        "| --- | --- | ---: | ---: | ---: | --- | --- | --- | ---: | ---: |",
    ]
    for case, (_, truth) in CASES.items():
        for arm in ("learn", "oracle", "none"):
            runs = [r for r in found if r["case"] == case and r["arm"] == arm]
            if not runs:
                continue
            mean = {k: sum(r[k] for r in runs) / len(runs) for k in ("accuracy", "nll")}
            inv = [r["invariance"] for r in runs if r["invariance"]]
            others = [max((v for k, v in i["eta"].items() if k not in truth), default=0.0) for i in inv]
            lines.append(
                f"| {case} | {arm} | {len(runs)} | {mean['accuracy']:.4f} | {mean['nll']:.4f} | "
                + " | ".join(
                    ", ".join(column)
                    for column in (
                        [f"{i['rotation_degrees']:.0f}" for i in inv],
                        [f"{i['translation_x']:.2f}/{i['translation_y']:.2f}" for i in inv],
                        [f"{o:.2f}" for o in others],
                        [f"{r['seconds']['total']:.0f}" for r in runs],
                        [f"{r['hyper_share']:.0%}" for r in runs],
                    )
                )
                + " |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=list(CASES), default="rotate180")
    parser.add_argument("--arm", choices=("learn", "oracle", "none"), default="learn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        jobs = (
            [(c, a, s) for s in range(options.seeds) for c in CASES for a in ("learn", "oracle")]
            if options.all
            else [(options.case, options.arm, options.seed)]
        )
        for case, arm, seed in jobs:
            result = run(case, arm, seed, options.epochs, options.threads)
            write(RESULTS / f"{case}-{arm}-{seed}.json", result)
            print(case, arm, seed, f"{result['accuracy']:.4f}", result["seconds"], flush=True)
    print(summary())


if __name__ == "__main__":
    main()
