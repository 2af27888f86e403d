"""Two networks for tables, ``mlp`` and ``table``, learned with no option on tables of several kinds.

    OMP_NUM_THREADS=1 python -m benchmarks.tables --all     # runs that are there are kept
    python -m benchmarks.tables --summary

Half of the rows of each table are learned from; the log loss (nats, of targets in standard units) and the accuracy, or
the root mean square error, are those of the other half. One JSON file a run lies in ``results/tables``.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import datasets

import novacula as nv
from benchmarks.common import environment, runs

RESULTS = Path(__file__).parent / "results" / "tables"
NETWORKS = ("mlp", "table")
Table = tuple[np.ndarray, np.ndarray]


def categories(rng: np.random.Generator) -> Table:
    """Five columns of four categories each, whose effects add up, and one pair that matters."""
    found, effects = rng.integers(0, 4, (1000, 5)), rng.normal(size=(5, 4))
    y = effects[np.arange(5), found].sum(1) + (found[:, 0] == found[:, 1]) + 0.3 * rng.normal(size=1000)
    return np.concatenate([np.eye(4)[found[:, j]] for j in range(5)], 1), y


def skewed(rng: np.random.Generator) -> Table:
    """Columns whose logarithms are normal, with a threshold and a wave in them."""
    x = np.exp(1.5 * rng.normal(size=(1200, 6)))
    return x, np.log(x[:, 0]) * (x[:, 1] > 1) + np.sin(3 * np.log(x[:, 2])) + 0.2 * rng.normal(size=1200)


def steps(rng: np.random.Generator) -> Table:
    """Two classes by two thresholds, one label of twenty wrong."""
    x = rng.uniform(size=(1000, 5))
    return x, ((x[:, 0] > 0.3) ^ (x[:, 1] > 0.6) ^ (rng.uniform(size=1000) < 0.05)).astype(int)


def linear(rng: np.random.Generator) -> Table:
    """A linear function of eight columns."""
    x = rng.normal(size=(300, 8))
    return x, x @ rng.normal(size=8) + 0.5 * rng.normal(size=300)


TABLES: dict[str, Any] = {
    "friedman": lambda _: datasets.make_friedman1(1000, 10, noise=1.0, random_state=0),
    "diabetes": lambda _: datasets.load_diabetes(return_X_y=True),
    "categories": categories,
    "skewed": skewed,
    "linear": linear,
    "steps": steps,
    "wine": lambda _: datasets.load_wine(return_X_y=True),
    "breast_cancer": lambda _: datasets.load_breast_cancer(return_X_y=True),
}


def run(table: str, network: str, seed: int) -> dict[str, Any]:
    """One learning, and its scores on the other half."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    rng = np.random.default_rng(seed)
    columns, labels = TABLES[table](rng)
    classes = labels.dtype.kind != "f"
    x = torch.from_numpy(columns).float()
    y = torch.from_numpy(labels if classes else (labels - labels.mean()) / labels.std())
    y = y if classes else y.float().reshape(-1, 1)
    rows = torch.from_numpy(rng.permutation(len(x)))
    seen, new = rows[: len(x) // 2], rows[len(x) // 2 :]
    outputs, likelihood = (int(y.max()) + 1, nv.Categorical()) if classes else (1, nv.Normal())
    net = nv.networks.make(network, x.shape[1:], outputs, seed=seed)
    task = "classification" if classes else "regression"
    before = time.process_time()
    fit = nv.learn(nv.Target(net, likelihood=likelihood), nv.Data(x[seen], y[seen], task=task), seed=seed)
    spent = time.process_time() - before
    said = nv.predict(fit.posterior, x[new])
    losses, mean = -said.log_prob(y[new]).double(), said.mean()
    score = (
        {"accuracy": float((mean.argmax(1) == y[new]).double().mean())}
        if classes
        else {"rmse": float((mean - y[new]).square().mean().sqrt())}
    )
    return {
        "table": table,
        "network": network,
        "seed": seed,
        "nll": float(losses.mean()),
        "stderr": float(losses.std()) / len(losses) ** 0.5,
        "losses": [round(v, 4) for v in losses.tolist()],
        **score,
        "out_of_fold": fit.unseen.score()["nll"] if fit.unseen else None,
        "cpu_seconds": spent,
        "environment": environment(),
    }


def summary() -> str:
    """One line a table, in Markdown, with the paired gain of the second network."""
    lines = ["| rows | mlp | table | gain | CPU-s |", "| --- | --- | --- | --- | --- |"]
    for name in TABLES:
        paths = [RESULTS / f"{name}-{network}-0.json" for network in NETWORKS]
        if not all(path.exists() for path in paths):
            continue
        found = [json.loads(path.read_text()) for path in paths]
        both = [f"{r['nll']:.3f}, {r.get('accuracy', r.get('rmse')):.3f}" for r in found]
        gap = np.subtract(*(r["losses"] for r in found))
        gain = f"{gap.mean():+.3f} ± {gap.std() / len(gap) ** 0.5:.3f}"
        taken = ", ".join(f"{r['cpu_seconds']:.0f}" for r in found)
        lines.append(f"| {name} | {' | '.join(both)} | {gain} | {taken} |")
    return "\n".join(lines)


if __name__ == "__main__":
    runs(RESULTS, list(TABLES), NETWORKS, run, summary)
