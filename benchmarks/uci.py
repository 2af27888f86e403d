"""UCI regression on the published splits: learned prior and noise, averaged over draws, against published MC dropout.

``python -m benchmarks.uci --data concrete`` runs 20 splits of a net with one hidden layer of 50 ReLU units and writes
``results/uci/concrete.json``: test log-likelihood and RMSE in the target's units by split, and their paired differences
to the published numbers with 95 % intervals (Student's t over splits; the splits overlap, so the intervals are what the
field reports, not exact). Splits that are done are kept; ``--splits`` runs some of them.

Per split: weights by Adam; prior precisions and noise by Monte-Carlo EM (`novacula.study.learn_from_draws`); then draws
at what was learned. Test data are used for nothing but the two numbers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student_t
from torch import nn

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "uci"


@dataclass(frozen=True)
class Plan:
    """How a data set is sampled.

    Args:
        method: Of the rounds of Monte-Carlo EM.
        rounds: How many.
        steps: Steps of each.
        final: The method of the predictive's draws.
        final_steps: Its steps.
        chains: Its chains.
    """

    method: Any
    rounds: int
    steps: int
    final: Any
    final_steps: int
    chains: int


SMALL = Plan(nv.NUTS(keep=50, max_depth=7), 4, 100, nv.NUTS(keep=100, max_depth=7), 300, 2)
LARGE = Plan(nv.NUTS(keep=50, max_depth=7), 4, 60, nv.NUTS(keep=100, max_depth=7), 200, 2)
PLANS = {"concrete": SMALL, "energy": SMALL, "kin8nm": LARGE, "power-plant": LARGE}


def run(name: str, k: int) -> dict[str, float]:
    """One split."""
    torch.set_num_threads(1)
    plan = PLANS[name]
    source = np.load(Path(os.environ["NOVACULA_DATA"]) / f"uci-{name}.npz")
    test = source["test_index"][k]
    x, y = source["x"], source["y"]
    x = (x - x[~test].mean(0)) / (x[~test].std(0) + 1e-12)
    centre, scale = y[~test].mean(), y[~test].std()
    inputs = torch.tensor(x, dtype=torch.float32)
    labels = torch.tensor((y - centre) / scale, dtype=torch.float32).unsqueeze(1)
    rows = torch.tensor(~test)
    data, x_test, y_test = nv.Data(inputs[rows], labels[rows]), inputs[~rows], labels[~rows]
    torch.manual_seed(k)
    net = nn.Sequential(nn.Linear(x.shape[1], 50), nn.ReLU(), nn.Linear(50, 1))
    target = nv.Target(net, likelihood=nv.Normal(sigma=0.5), prior=nv.Gaussian(1.0))
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        start = nv.infer(nv.MAP(lr=1e-2), target, data, steps=2_000, seed=k).mode
        learned = nv.study.learn_from_draws(
            plan.method, target, data, rounds=plan.rounds, steps=plan.steps, init=start, seed=k
        )
        post = nv.infer(
            plan.final,
            learned.target,
            data,
            init=learned.params,
            steps=plan.final_steps,
            chains=plan.chains,
            seed=k,
        )
        prediction = nv.predict(post, x_test)
    error = (prediction.mean() - y_test).double()
    sigma = float(learned.target.learnable()["likelihood.log_sigma"].exp()) * scale
    return {
        "split": k,
        "log_likelihood": float(prediction.log_prob(y_test).double().mean()) - math.log(scale),
        "rmse": float(error.square().mean().sqrt()) * scale,
        "published_log_likelihood": float(source["mc_dropout_test_ll"][k]),
        "published_rmse": float(source["mc_dropout_test_rmse"][k]),
        "noise": sigma,
        "cpu_seconds": time.process_time() - began,
    }


def summary(splits: list[dict[str, float]]) -> dict[str, Any]:
    """Means, and paired differences with 95 % intervals; positive means better than published for the likelihood."""
    found: dict[str, Any] = {}
    for key in ("log_likelihood", "rmse"):
        mine = np.array([s[key] for s in splits])
        theirs = np.array([s[f"published_{key}"] for s in splits])
        gap, n = mine - theirs, len(splits)
        half = float(student_t.ppf(0.975, n - 1) * gap.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        found[key] = {
            "mean": float(mine.mean()),
            "published": float(theirs.mean()),
            "difference": float(gap.mean()),
            "interval": [float(gap.mean()) - half, float(gap.mean()) + half],
            "better_splits": int((gap > 0).sum() if key == "log_likelihood" else (gap < 0).sum()),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=PLANS, required=True)
    parser.add_argument("--splits", type=int, nargs="+", default=list(range(20)))
    options = parser.parse_args()
    path = RESULTS / f"{options.data}.json"
    done = {s["split"]: s for s in json.loads(path.read_text())["splits"]} if path.exists() else {}
    for k in options.splits:
        if k in done:
            continue
        done[k] = run(options.data, k)
        print(options.data, {name: round(v, 4) for name, v in done[k].items()}, flush=True)
        splits = [done[i] for i in sorted(done)]
        plan = {f.name: str(getattr(PLANS[options.data], f.name)) for f in dataclasses.fields(Plan)}
        write(path, {"environment": environment(), "plan": plan, "splits": splits, "summary": summary(splits)})
    print(json.dumps(summary([done[i] for i in sorted(done)]), indent=1))


if __name__ == "__main__":
    main()
