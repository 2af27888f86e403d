"""Does `nv.study.compare` order models rightly? Its scores beside the test log loss of models trained on everything.

    python -m benchmarks.ranking            # all tasks; goes on from what is there
    python -m benchmarks.ranking --task energy

Six tasks of 240 training examples, twelve models each: multilayer perceptrons of varied width, depth and activation,
some of them meant to be bad (a network of width 1, a deep one with sigmoids that hardly learns); for images
convolutional networks too. Scores, higher is better, in nats an example: minus the out-of-fold loss that `compare`
leads with; plain cross-validation (networks under the learned hyperparameters, from fresh weights, on the same folds,
not calibrated); the Laplace evidence; the prequential score. The test loss is that of the weights of all training
examples, at the calibrated temperature of the folds (``test``) and without it (``test_plain``). Nothing was tuned on
the test losses.

Every model's record is written when it is there, to ``results/ranking/``; those that exist are not made again.
Spearman's correlations of tasks whose models are all there are in ``results/ranking/summary.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.posteriors.base import Point
from novacula.study.learning.learn import learn

RESULTS = Path(__file__).parent / "results" / "ranking"
TABLES = ("energy", "concrete", "kin8nm", "power-plant")
TASKS = (*TABLES, "digits", "mnist")
SCORES = ("out_of_fold", "cross_validation", "evidence", "prequential")
ROWS, TEST = 240, 2_000
EPOCHS = {"table": 30, "images": 15}
STEPS = 500  # of each network of the plain cross-validation


def load(task: str, seed: int, count: int = ROWS) -> tuple[nv.Data, nv.Data]:
    """So many training examples, and test examples, drawn at random."""
    if task == "digits":
        whole = nv.load("digits")
    else:
        name = "mnist10k" if task == "mnist" else f"uci-{task}"
        with np.load(Path(os.environ["NOVACULA_DATA"]) / f"{name}.npz") as stored:
            x, y = (stored[k] for k in (("images", "labels") if task == "mnist" else ("x", "y")))
        if task == "mnist":
            x = x.reshape(-1, 1, 28, 28).astype("float32") / 255
        whole = nv.Data(
            x,
            y.astype("int64") if task == "mnist" else y,
            name=task,
            task="classification" if task == "mnist" else "regression",
        )
    rows, rest = whole.split(min(count, whole.n // 2), seed=seed)
    return rows, rest.subset(range(min(TEST, rest.n)))


def networks(data: nv.Data, task: str, seed: int) -> dict[str, nn.Module]:
    """Twelve networks by name."""
    outputs = data.y.shape[1] if data.task == "regression" else 10
    features = int(np.prod(data.x_shape))

    def mlp(width: int, depth: int, activation: type[nn.Module]) -> nn.Module:
        torch.manual_seed(seed)
        sizes = [features, *[width] * depth]
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), activation())]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], outputs))

    shapes = [(1, 1), (3, 1), (10, 1), (50, 1), (200, 1), (10, 2), (50, 2), (50, 3)]
    found = {f"tanh {w}x{d}": mlp(w, d, nn.Tanh) for w, d in shapes[: 8 if task in TABLES else 5]}
    found |= {f"gelu {w}x{d}": mlp(w, d, nn.GELU) for w, d in ((10, 1), (50, 2))}
    found |= {"linear": mlp(0, 0, nn.Tanh), "sigmoid 20x4": mlp(20, 4, nn.Sigmoid)}
    if task not in TABLES:
        for width in (2, 4, 8):
            torch.manual_seed(seed)
            found[f"conv {width}"] = nn.Sequential(
                nn.Conv2d(1, width, 3, padding=1), nn.GELU(), nn.AvgPool2d(2),
                nn.Conv2d(width, 2 * width, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                nn.Linear(8 * width, 10),
            )  # fmt: skip
    return found


def score(task: str, name: str, seed: int) -> dict[str, Any]:
    """One model: its scores, test losses and CPU seconds."""
    data, test = load(task, seed)
    began = time.process_time()
    likelihood = nv.Normal(sigma=0.5) if data.task == "regression" else nv.Categorical()
    target = nv.Target(networks(data, task, seed)[name], likelihood=likelihood)
    options: dict[str, Any] = {"epochs": EPOCHS["table" if task in TABLES else "images"], "seed": seed}
    evidence = nv.evidence.Laplace(structure="kron", repeats=2)
    # What `compare` does for one model.
    fit = learn(target, data, evidence=evidence, structures=("last_layer",), **options)
    unseen = fit.unseen
    assert unseen is not None
    learned = time.process_time()
    plain = nv.cross_fit(fit.target, fit.data, folds=unseen.folds, steps=STEPS, seed=seed + 1)
    crossed = time.process_time()
    prequential = nv.evidence.Prequential(blocks=4, epochs=40)(fit.target, fit.data, seed=seed)
    ended = time.process_time()
    losses = {}
    for key, chosen in (("test", fit.target.calibrated(unseen.temperature)), ("test_plain", fit.target)):
        losses[key] = -float(nv.predict(Point(fit.params, chosen), test.x).log_prob(test.y).double().mean())
    scores = {
        "out_of_fold": -float(unseen.losses.mean()),
        "cross_validation": -plain.score(calibrated=False)["nll"],
        "evidence": fit.evidence.per_example,
        "prequential": prequential.per_example,
    }
    seconds = {"learn": learned - began, "cross_validation": crossed - learned, "prequential": ended - crossed}
    return {"model": name, "scores": scores, **losses, "seconds": seconds, "n": data.n, "environment": environment()}


def summary(tasks: list[str]) -> dict[str, Any]:
    """Spearman's correlations of the scores with minus the test loss, of tasks whose models are all there."""
    found = {}
    for task in tasks:
        records = [read(p) for p in sorted((RESULTS / task).glob("*.json"))]
        if len(records) < 12:
            continue
        found[task] = {
            by: {s: correlation([r["scores"][s] for r in records], [-r[by] for r in records]) for s in SCORES}
            for by in ("test", "test_plain")
        }
    median = {s: float(np.median([f["test"][s] for f in found.values()])) for s in SCORES} if found else {}
    return {"tasks": found, "median": median}


def correlation(a: list[float], b: list[float]) -> float:
    """Spearman's."""
    return float(np.asarray(spearmanr(a, b))[0])


def read(path: Path) -> dict[str, Any]:
    """A record."""
    return json.loads(path.read_text())


def main() -> None:
    """Measure what is missing, and summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for task in [options.task] if options.task else TASKS:
        for name in networks(load(task, options.seed)[0], task, options.seed):
            path = RESULTS / task / f"{name.replace(' ', '-')}.json"
            if path.is_file():
                continue
            record = score(task, name, options.seed)
            write(path, record)
            rounded = {k: round(v, 3) for k, v in record["scores"].items()}
            print(task, name, rounded, round(record["test"], 3), record["seconds"], flush=True)
        write(RESULTS / "summary.json", summary(list(TASKS)))
    print(read(RESULTS / "summary.json"))


if __name__ == "__main__":
    main()
