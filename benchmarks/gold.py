"""Every method against the reference posterior of a small net (see `benchmarks.gold_task`).

``python -m benchmarks.gold --method sgld --seeds 0 1 2`` writes ``results/gold/sgld.json``: accuracy, log loss,
agreement with the reference's classes, total variation from its probabilities, CPU seconds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.gold_task import SIZES, compare, digits, scores

RESULTS = Path(__file__).parent / "results" / "gold"


@dataclass(frozen=True)
class Entry:
    """A method and how long it runs, and whether its temperature is chosen first (from the training data)."""

    method: Callable[[], Any]
    steps: int
    chains: int = 1
    batch_size: int = 100
    tempered: bool = False


METHODS: dict[str, Entry] = {
    "map": Entry(lambda: nv.MAP(lr=1e-2), 2_000),
    "ensemble": Entry(lambda: nv.Ensemble(nv.MAP(lr=1e-2), members=10), 2_000),
    "laplace_exact": Entry(lambda: nv.Laplace("exact", optimiser=nv.MAP(lr=1e-2)), 2_000),
    "laplace_kron": Entry(lambda: nv.Laplace("kron", optimiser=nv.MAP(lr=1e-2)), 2_000),
    "laplace_last_layer": Entry(lambda: nv.Laplace("last_layer", optimiser=nv.MAP(lr=1e-2)), 2_000),
    "multi_laplace_kron": Entry(lambda: nv.Ensemble(nv.Laplace("kron", optimiser=nv.MAP(lr=1e-2)), 5), 2_000),
    "laplace_exact_tempered": Entry(lambda: nv.Laplace("exact", optimiser=nv.MAP(lr=1e-2)), 2_000, tempered=True),
    "laplace_kron_tempered": Entry(lambda: nv.Laplace("kron", optimiser=nv.MAP(lr=1e-2)), 2_000, tempered=True),
    "laplace_last_layer_tempered": Entry(
        lambda: nv.Laplace("last_layer", optimiser=nv.MAP(lr=1e-2)), 2_000, tempered=True
    ),
    "nuts": Entry(lambda: nv.NUTS(warmup=200, keep=400), 600, chains=4),
    "swag": Entry(lambda: nv.SWAG(), 3_000),
    "multiswag": Entry(lambda: nv.Ensemble(nv.SWAG(), members=5), 3_000),
    "mean_field": Entry(lambda: nv.MeanField(), 6_000),
    "ivon": Entry(lambda: nv.IVON(), 6_000),
    "sgld": Entry(lambda: nv.SGLD(keep=200), 20_000, chains=4),
    "sgld_fast": Entry(lambda: nv.SGLD(lr=1.0, keep=200), 20_000, chains=4),
    "sgld_large_batches": Entry(lambda: nv.SGLD(keep=200), 20_000, chains=4, batch_size=500),
    "sghmc": Entry(lambda: nv.SGHMC(keep=200), 20_000, chains=4),
    "sghmc_fast": Entry(lambda: nv.SGHMC(lr=0.05, keep=200), 20_000, chains=4),
    "sghmc_large_batches": Entry(lambda: nv.SGHMC(keep=200), 20_000, chains=4, batch_size=500),
}
TEMPERATURES = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


def problem(temperature: float = 1.0) -> tuple[nv.Target, nv.Data, torch.Tensor, np.ndarray]:
    """The target, the training data, test images and labels."""
    x, y, x_test, y_test = digits()
    d, h, c = SIZES
    net = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, c))
    target = nv.Target(net, prior=nv.Gaussian(1.0), temperature=temperature)
    return target, nv.Data(torch.tensor(x), torch.tensor(y, dtype=torch.int64)), torch.tensor(x_test), y_test


def run(name: str, seed: int, entry: Entry | None = None, **predict: Any) -> dict[str, Any]:
    """One run of a method."""
    entry = entry or METHODS[name]
    torch.manual_seed(seed)  # the network's own start
    target, data, x_test, y_test = problem()
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        if entry.tempered:
            found = nv.study.choose_temperature(
                entry.method(),
                target,
                data,
                temperatures=TEMPERATURES,
                steps=entry.steps,
                batch_size=entry.batch_size,
                chains=1,
                seeds=(seed,),
            )
            target = found.target
        post = nv.infer(
            entry.method(),
            target,
            data,
            steps=entry.steps,
            chains=entry.chains,
            batch_size=entry.batch_size,
            seed=seed,
        )
        inferred = time.process_time() - began
        p = nv.predict(post, x_test, **predict).mean().double().numpy()
    reference = np.load(RESULTS / "numpyro.npz")["probabilities"].mean(0)
    result = {**scores(p, y_test), **compare(p, reference), "cpu_seconds": inferred, "warnings": list(post.warnings)}
    result["temperature"] = target.temperature
    return {**result, "cpu_seconds_with_prediction": time.process_time() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    entry = METHODS[options.method]
    runs = [run(options.method, seed) for seed in options.seeds]
    means = {k: fmean(r[k] for r in runs) for k in runs[0] if k != "warnings"}
    settings = {"method": repr(entry.method()), "steps": entry.steps, "chains": entry.chains, "batch": entry.batch_size}
    result = {"environment": environment(), "settings": settings, "seeds": options.seeds, "runs": runs, "mean": means}
    write(RESULTS / f"{options.method}.json", result)
    print(options.method, {k: round(v, 4) for k, v in means.items()})


if __name__ == "__main__":
    main()
