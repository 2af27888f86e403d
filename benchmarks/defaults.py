"""Every minibatch method's predictive, with its default settings, beside the point estimate of the same target.

``python -m benchmarks.defaults --data digits`` writes ``results/defaults/digits.json``: each method's test log loss,
that of `MAP`, their paired difference with its standard error over examples, and whether a warning says that the
predictive may be worse. Nothing is learned or chosen: prior ``N(0, 1)``, temperature 1, one network with 50 hidden
units.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.gold_task import digits
from novacula.runs.catalogue.methods import Trained, method_of, read_method

RESULTS = Path(__file__).parent / "results" / "defaults"
DATA = ("digits", "mnist10k", "concrete", "energy", "kin8nm", "power-plant")
METHODS = (
    "ensemble",
    "swag",
    "multi-swag",
    "laplace",
    "dropout",
    "mean-field",
    "ivon",
    "sgld",
    "csgld",
    "sghmc",
)
TRAINED = Trained(lr=1e-2, steps=2_000)
BATCH = 100


def problem(name: str) -> tuple[nv.Target, nv.Target, nv.Data, torch.Tensor, torch.Tensor]:
    """The target, the same with a dropout layer, training data, test inputs and labels."""
    if name == "digits":
        x, y, x_test, y_test = (torch.from_numpy(a) for a in digits())
    elif name == "mnist10k":
        source = np.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
        order = np.random.default_rng(0).permutation(10_000)
        images = torch.tensor(source["images"][order], dtype=torch.float32).flatten(1) / 255
        labels = torch.tensor(source["labels"][order].astype(np.int64))
        x, y, x_test, y_test = images[:8_000], labels[:8_000], images[8_000:], labels[8_000:]
    else:
        source = np.load(Path(os.environ["NOVACULA_DATA"]) / f"uci-{name}.npz")
        test = source["test_index"][0]
        x, y = source["x"], source["y"]
        x = torch.tensor((x - x[~test].mean(0)) / (x[~test].std(0) + 1e-12), dtype=torch.float32)
        y = torch.tensor((y - y[~test].mean()) / y[~test].std(), dtype=torch.float32).unsqueeze(1)
        x, y, x_test, y_test = x[~test], y[~test], x[test], y[test]
    classes = not y.is_floating_point()
    likelihood = nv.Categorical() if classes else nv.Normal(sigma=0.3)
    torch.manual_seed(0)
    first, last = nn.Linear(x.shape[1], 50), nn.Linear(50, 10 if classes else 1)
    plain, thinned = nn.Sequential(first, nn.ReLU(), last), nn.Sequential(first, nn.ReLU(), nn.Dropout(0.1), last)
    thinned.eval()
    targets = [nv.Target(net, likelihood=likelihood, prior=nv.Gaussian(1.0)) for net in (plain, thinned)]
    data = nv.Data(x, y.long() if classes else y)
    return targets[0], targets[1], data, x_test, y_test.long() if classes else y_test


def loss(posterior: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The log loss of every test example, nats."""
    return -nv.predict(posterior, x).log_prob(y).double()


def run(data_name: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """All methods on one data set."""
    target, thinned, data, x, y = problem(data_name)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        options = {"batch_size": BATCH, "seed": 0}
        point = loss(nv.infer(nv.MAP(lr=TRAINED.lr), target, data, steps=TRAINED.steps, **options), x, y)
        for name in names:
            if name == "laplace":
                method, steps, chains = nv.Laplace(optimiser=nv.MAP(lr=TRAINED.lr)), TRAINED.steps, 1
            else:
                method, steps, chains, _ = method_of(read_method(name), TRAINED)
            began = time.process_time()
            used = thinned if name == "dropout" else target
            posterior = nv.infer(method, used, data, steps=steps, chains=chains, **options)
            mine = loss(posterior, x, y)
            gap = mine - point
            found.append(
                {
                    "method": name,
                    "settings": f"{method!r}, {steps} steps, {chains} chains",
                    "nll": float(mine.mean()),
                    "map_nll": float(point.mean()),
                    "difference": float(gap.mean()),
                    "stderr": float(gap.std()) / math.sqrt(len(gap)),
                    "says_so": any("worse" in w for w in posterior.warnings),
                    "warnings": list(posterior.warnings),
                    "cpu_seconds": time.process_time() - began,
                }
            )
            one = found[-1]
            numbers = {k: round(one[k], 4) for k in ("nll", "map_nll", "difference", "stderr", "cpu_seconds")}
            print(data_name, name, numbers, one["says_so"], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=DATA, nargs="+", default=list(DATA))
    parser.add_argument("--method", choices=METHODS, nargs="+", default=list(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.data:
        path = RESULTS / f"{name}.json"
        found = {r["method"]: r for r in (json.loads(path.read_text())["runs"] if path.exists() else [])}
        found |= {r["method"]: r for r in run(name, options.method)}
        write(path, {"environment": environment(), "runs": list(found.values())})


if __name__ == "__main__":
    main()
