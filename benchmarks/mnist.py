"""Learned invariances on perturbed MNIST, beside an oracle, none, a mild affine one and a TrivialAugment-like policy.

    python -m benchmarks.mnist --case rotate180 --arm learn --seed 0
    python -m benchmarks.mnist --all --examples 800       # every case and arm; half an hour
    python -m benchmarks.mnist --summary                  # the table of what has been measured

Each run trains the built-in ``cnn`` (81k weights) on 8,000 or 800 images of ``mnist10k.npz`` and is tested on the other
2,000; both are perturbed alike. ``learn`` is `nv.learn` with its defaults, folds included, and is told nothing;
``evidence`` the same without folds. The other arms are plain trainings of as many steps as its longest (``oracle`` with
the true extents). One JSON file a run lies in ``results/mnist/<examples>``; runs that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.inference.loop import default_batch_size
from novacula.invariances.perturb import parse, perturb

# Extents that people use without thinking.
MILD = {"rotation": 0.06, "translation_x": 0.1, "translation_y": 0.1, "scale": 0.1, "shear": 0.1}
RESULTS = Path(__file__).parent / "results" / "mnist"
# The perturbation, and the extents in the units of eta that an oracle is told (scale: log of the factor).
CASES: dict[str, tuple[str | None, dict[str, float]]] = {
    "rotate180": ("rotate=180", {"rotation": 1.0}),
    "rotate90": ("rotate=90", {"rotation": 0.5}),
    "translate30": ("translate=0.3", {"translation_x": 0.6, "translation_y": 0.6}),
    "upright": (None, {}),
    "scale50": ("scale=0.5", {"scale": 0.3466}),
}


ARMS = ("none", "mild", "trivial", "oracle", "learn", "evidence")
TIMED = ("none", "learn", "evidence")
RATE, STEPS = 4e-3, {800: 2_800, 8_000: 6_720}


def run(case: str, arm: str, seed: int, examples: int, threads: int) -> dict[str, object]:
    """One run."""
    torch.set_num_threads(threads)
    text, truth = CASES[case]
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
    x = perturb(data.x, [parse(text)], seed=seed) if text else data.x
    train, test = data.with_values(x, data.y).split(8000, seed=seed)
    train = train.subset(range(examples))
    network = nv.networks.make("cnn", tuple(train.x.shape[1:]), 10, seed=seed)
    cpu = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        if arm in {"learn", "evidence"}:
            folds = 3 if arm == "learn" else 0
            fit = nv.learn(nv.Target(network, invariance=nv.Affine()), train, seed=seed, folds=folds)
            posterior, said = fit.posterior, described(fit)
        else:
            method, target = nv.MAP(lr=RATE), nv.Target(network, invariance=fixed(arm, truth))
            batch = default_batch_size(train.n)
            posterior = nv.infer(method, target, train, steps=STEPS[examples], batch_size=batch, seed=seed)
            said = {}
    cpu = time.process_time() - cpu
    prediction = nv.predict(posterior, test.x)
    return {
        "case": case,
        "arm": arm,
        "seed": seed,
        "examples": examples,
        "accuracy": float((prediction.mean().argmax(1) == test.y).double().mean()),
        "nll": -float(prediction.log_prob(test.y).double().mean()),
        "cpu_seconds": cpu,
        "environment": environment(),
        **said,
    }


def fixed(arm: str, truth: dict[str, float]) -> nv.invariances.Invariance | None:
    """What an arm trains with."""
    if arm in {"none", "trivial"}:
        return None if arm == "none" else nv.Trivial()
    extents = truth if arm == "oracle" else MILD
    return nv.Affine(eta=torch.tensor([extents.get(n, 0.0) for n in nv.Affine().names]))


def described(fit: nv.LearnResult) -> dict[str, object]:
    """What `learn` says of itself."""
    invariance = fit.target.invariance
    return {
        "invariance": None if invariance is None else invariance.describe(),
        "verdicts": fit.verdicts,
        "out_of_fold": fit.unseen and fit.unseen.score(),
        "converged": fit.converged,
        "predictive": {
            k: v for k, v in fit.choice.to_dict().items() if k in {"structure", "temperature", "calibration"}
        },
        "seconds": fit.seconds,
        "hyper_share": fit.seconds["hyper"] / fit.seconds["total"],
        "warnings": list(fit.warnings),
    }


def summary() -> str:
    """The table of results, in Markdown."""
    lines = [
        "| examples | case | seeds | "
        + " | ".join(f"{a}: accuracy, NLL" for a in ARMS)
        + f" | learned | CPU-s: {', '.join(TIMED)} |",
        "| ---: | --- | ---: | " + " | ".join("---" for _ in ARMS) + " | --- | ---: |",
    ]
    for examples in (800, 8_000):
        found = [json.loads(p.read_text()) for p in sorted((RESULTS / str(examples)).glob("*.json"))]
        for case in CASES:
            runs = {a: [r for r in found if (r["case"], r["arm"]) == (case, a)] for a in ARMS}
            if not any(runs.values()):
                continue
            cells = [f"{_mean(r, 'accuracy'):.4f}, {_mean(r, 'nll'):.3f}" if r else "–" for r in runs.values()]
            extents = "; ".join(_extents(r["invariance"]) for r in runs["learn"])
            times = ", ".join(f"{_mean(runs[a], 'cpu_seconds'):.0f}" if runs[a] else "–" for a in TIMED)
            seeds = max(map(len, runs.values()))
            lines.append(f"| {examples} | {case} | {seeds} | {' | '.join(cells)} | {extents} | {times} |")
    return "\n".join(lines)


def _mean(runs: list[dict[str, Any]], key: str) -> float:
    return sum(r[key] for r in runs) / len(runs)


def _extents(found: dict[str, float] | None) -> str:
    if found is None:
        return "dropped"
    shifts = f"{found['translation_x']:.2f}/{found['translation_y']:.2f}"
    return f"±{found['rotation_degrees']:.0f}°, {shifts}, scale {found['scale']:.2f}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=list(CASES), default="rotate180")
    parser.add_argument("--arm", choices=ARMS, default="learn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--examples", type=int, choices=tuple(STEPS), default=800)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    jobs = [(options.case, options.arm, options.seed)]
    if options.all:
        jobs = [(c, a, s) for s in range(options.seeds) for c in CASES for a in ARMS]
    for case, arm, seed in [] if options.summary else jobs:
        path = RESULTS / str(options.examples) / f"{case}-{arm}-{seed}.json"
        if not path.exists():
            result = run(case, arm, seed, options.examples, options.threads)
            write(path, result)
            print(
                case,
                arm,
                seed,
                f"{result['accuracy']:.4f}, {result['nll']:.3f}",
                f"{result['cpu_seconds']:.0f} CPU-s",
                flush=True,
            )
    print(summary())


if __name__ == "__main__":
    main()
