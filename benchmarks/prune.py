"""Pruning by posterior damage beside magnitude, at four sparsities: test accuracy, out-of-fold loss and evidence.

    python -m benchmarks.prune --data mnist10k --net mlp --seed 0     # two minutes
    python -m benchmarks.prune --summary

A network of `novacula.networks` is trained by MAP on 2,000 images and tested on 2,000 others. ``tuned`` and ``plain``
prune the same weights: ``tuned`` by damage after precisions of rows were tuned by the evidence, ``plain`` by magnitude
without tuning, which is what others do; ``tuned`` by magnitude shows what the criterion alone does.
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

RESULTS = Path(__file__).parent / "results" / "prune"
TO = (0.8, 0.9, 0.95, 0.98)


def run(name: str, kind: str, seed: int, after: int, folds: int) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / f"{name}.npz")
    train, test = data.split(4_000, seed=seed)[0].split(2_000, seed=seed)
    net = nv.networks.make(kind, train.x_shape, 10, seed=seed)
    target, began = nv.Target(net, nv.Categorical()), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        point = nv.infer(nv.MAP(), target, train, epochs=20, seed=seed)
        shared = {"to": TO, "epochs": after, "seed": seed, "subset": 500}
        tuned = nv.structure.prune(point, train, rounds=2, folds=folds, **shared)
        plain = nv.structure.prune(
            point, train, rounds=0, folds=0, criteria=["magnitude"], precisions="tensor", **shared
        )

    def tested(found: nv.structure.Pruned, arm: str) -> list[dict[str, Any]]:
        rows = []
        for level, row in zip((found.dense, *found.levels), found.table(), strict=True):
            scores = nv.prediction.evaluate(nv.predict(level.posterior, test.x), test.y)
            rows.append({"arm": arm, **row, "test_accuracy": scores["accuracy"], "test_nll": scores["nll"]})
        return rows

    return {
        "data": name,
        "net": kind,
        "weights": sum(p.numel() for p in net.parameters()),
        "seed": seed,
        "epochs_after": after,
        "rows": tested(tuned, "tuned") + tested(plain, "plain"),
        "cpu_seconds": time.process_time() - began,
        "environment": environment(),
    }


def summary() -> None:
    """Means over seeds."""
    table: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        for row in found["rows"]:
            key = (found["data"], found["net"], str(found["epochs_after"]), row["arm"], row["criterion"], row["asked"])
            table.setdefault(key, []).append(row)
    names = ("test_accuracy", "test_nll", "evidence", "loss", "loss_given_up")
    print("data net after arm criterion sparsity n", *names)
    for key, rows in sorted(table.items(), key=lambda item: tuple(map(str, item[0]))):
        means = [sum(r[n] if r[n] is not None else float("nan") for r in rows) / len(rows) for n in names]
        print(*key, len(rows), *(f"{m:.4f}" for m in means))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist10k", choices=("mnist10k", "cifar10-small"))
    parser.add_argument("--net", default="mlp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--after", type=int, default=5, help="epochs after each cut")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    if given.summary:
        summary()
        return
    found = run(given.data, given.net, given.seed, given.after, given.folds)
    write(RESULTS / f"{given.data}-{given.net}-{given.after}-{given.seed}.json", found)


if __name__ == "__main__":
    main()
