"""Does the evidence choose? Its rank correlation with the test log-likelihood, beside that of cross-validation.

    python -m benchmarks.chooses

Widths × depths × prior scales, twelve models a task: regression on ``uci-concrete`` (its first published split,
standardised; the noise of each model is learned by the evidence) and 1,000 of scikit-learn's digits. Each model is
trained at its fixed prior precision and scored by the Laplace evidence, the conditional evidence, and the held-out
log-likelihood of threefold cross-validation. Both forecasts, cross-validation's and the test's, are made by the plug-in
point and by the linearised Laplace predictive; those of concrete are in standard units, which ranks do not see. Written
to ``results/chooses.json``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.params import Params, count
from novacula.core.rng import generator
from novacula.evidence import Conditional, Laplace
from novacula.inference import MAP
from novacula.inference.loop import run as train
from novacula.posteriors.base import Point
from novacula.posteriors.laplace import laplace_posterior
from novacula.study import EmpiricalBayes
from novacula.study.learning.empirical_bayes import learned

RESULT = Path(__file__).parent / "results" / "chooses.json"
FOLDS = 3
PRECISIONS = (0.1, 1.0, 10.0)
WIDTHS = {"concrete": (10, 50), "digits": (10, 50)}
DEPTHS = (1, 2)
# The exact curvature is affordable where one side of the Jacobian, P or N·C, is small.
STRUCTURES = {"concrete": ("exact", "kron"), "digits": ("kron",)}


def load(task: str, seed: int) -> tuple[nv.Data, nv.Data]:
    """Training and test data."""
    if task == "digits":
        return nv.load("digits").split(1000, seed=seed)
    folder = Path(os.environ["NOVACULA_DATA"])
    with np.load(folder / "uci-concrete.npz") as stored:
        data, mask = nv.Data(stored["x"], stored["y"], name="concrete", task="regression"), stored["test_index"][0]
    held_out = torch.from_numpy(mask.astype(bool))
    rows = data.subset(~held_out)
    scale = nv.Standardiser.fit(rows)
    return scale.apply(rows), scale.apply(data.subset(held_out))


def fit(target: nv.Target, data: nv.Data, epochs: int, seed: int) -> tuple[nv.Target, Params]:
    """Weights by MAP, with the noise (where there is one) learned by the evidence."""
    method = EmpiricalBayes(optimiser=MAP(lr=5e-3), learn=("likelihood",))
    state = train(method, target, data, epochs=epochs, batch_size=50, seed=seed).state
    found = learned(target, state)
    return found.with_learnable({k: v.detach() for k, v in found.learnable().items()}), state.best.params


def forecast(target: nv.Target, params: Params, data: nv.Data, test: nv.Data, seed: int) -> dict[str, torch.Tensor]:
    """The log-likelihood of each test example, by the point and by the linearised Laplace predictive."""
    posterior = laplace_posterior(target, params, data, structure="kron", seed=seed, check=False)
    by = {"point": Point(params, target), "laplace": posterior}
    return {name: nv.predict(p, test.x).log_prob(test.y).detach().double() for name, p in by.items()}


def score(task: str, target: nv.Target, data: nv.Data, test: nv.Data, epochs: int, seed: int) -> dict[str, Any]:
    """One model: every score per example, in nats, and the seconds of each."""
    seconds, scores = {}, {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        clock, began = time.perf_counter(), clock
        seconds[name] = clock - began

    target, data = target.prepare(data)
    start = target
    target, params = fit(start, data, epochs, seed)
    lap("train")
    for structure in STRUCTURES[task]:
        scores[f"evidence_{structure}"] = Laplace(structure)(target, data, params, seed=seed).per_example
        lap(f"evidence_{structure}")
    conditional = Conditional(orders=1, epochs=epochs, optimiser=MAP(lr=5e-3))
    scores["conditional"] = conditional(target, data, seed=seed).per_example
    lap("conditional")
    parts = torch.randperm(data.n, generator=generator(seed, "folds")).tensor_split(FOLDS)
    held: dict[str, list[torch.Tensor]] = {"point": [], "laplace": []}
    for fold, part in enumerate(parts):
        rest = data.subset(torch.cat([p for i, p in enumerate(parts) if i != fold]))
        moved, weights = fit(start, rest, epochs, seed)
        for name, found in forecast(moved, weights, rest, data.subset(part), seed).items():
            held[name].append(found)
    lap("cross_validation")
    on_test = forecast(target, params, data, test, seed)
    lap("test")
    scores |= {f"cross_validation_{k}": float(torch.cat(v).mean()) for k, v in held.items()}
    return {"weights": count(params), "scores": scores, "seconds": seconds} | {
        "test": {k: float(v.mean()) for k, v in on_test.items()}
    }


def run(task: str, epochs: int, seed: int, limit: int | None) -> dict[str, Any]:
    """All models of a task."""
    data, test = load(task, seed)
    models = []
    for width, depth, precision in itertools.islice(itertools.product(WIDTHS[task], DEPTHS, PRECISIONS), limit):
        outputs = data.y.shape[1] if data.task == "regression" else 10
        network = nv.networks.make("mlp", data.x_shape, outputs, seed=seed, width=width, depth=depth)
        likelihood = nv.Normal(sigma=0.5) if data.task == "regression" else nv.Categorical()
        target = nv.Target(network, likelihood=likelihood, prior=nv.Gaussian(precision=precision))
        setting = {"width": width, "depth": depth, "precision": precision}
        models.append(setting | score(task, target, data, test, epochs, seed))
        print(task, setting, {k: round(v, 3) for k, v in models[-1]["scores"].items()}, models[-1]["test"], flush=True)
    correlation = {
        by: {k: float(spearmanr([m["scores"][k] for m in models], [m["test"][by] for m in models]).statistic)
             for k in models[0]["scores"]}
        for by in ("point", "laplace")
    }  # fmt: skip
    total = {k: sum(m["seconds"][k] for m in models) for k in models[0]["seconds"]}
    return {"models": models, "spearman_with_test": correlation, "seconds": total, "n_train": data.n, "epochs": epochs}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="only the first so many models of each task")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {task: run(task, options.epochs, options.seed, options.limit) for task in WIDTHS}
    write(RESULT, {"tasks": found, "environment": environment()})
    for task, r in found.items():
        print(task, r["spearman_with_test"], {k: round(s, 1) for k, s in r["seconds"].items()})


if __name__ == "__main__":
    main()
