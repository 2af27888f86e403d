"""What folds say of new data: out-of-fold loss and expected loss beside the test loss, over many cells.

    python -m benchmarks.folds                      # all cells, three seeds; goes on from what is there
    python -m benchmarks.folds --cell wine-linear --seeds 1

Of a data set a part is drawn at random for training, up to 2,000 other rows for testing. `nv.cross_fit(…, curve=True)`
with three folds gives the out-of-fold loss at the calibrated temperature and, from a network of one fold, the loss to
expect of a network of all rows (`novacula.study.growth`). That network is then trained, as often over its rows and by
the same method, and its test loss is taken at the same temperature. Losses are in nats a row, in standard units of the
training targets where these are measurements.

The error of a difference holds that of the folds' estimate and that of the test rows. It knows nothing of what the one
network owes to the chance of its training; over the seeds, the spread of differences has that too.

Networks are those of `nv.networks`; the prior is N(0, 1), and noise of measurements .3 standard units before it is
calibrated. Nothing was tuned on these numbers; the exponent of `novacula.study.growth` was taken from seeds 10 to 15 of
`benchmarks.calibrate`, of other networks on the same data sets.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import novacula as nv
from benchmarks.calibrate import Cell, load
from benchmarks.common import environment, write
from novacula.core.rng import derive
from novacula.inference.loop import default_batch_size
from novacula.posteriors.base import Point

RESULTS = Path(__file__).parent / "results" / "folds"
STEPS, FOLDS = 900, 3
DATA = {
    "digits": ("digits", 500, ("linear", "mlp", "cnn")),
    "mnist800": ("mnist10k", 800, ("linear", "mlp")),
    "cancer": ("breast_cancer", 300, ("linear", "mlp", "wide")),
    "wine": ("wine", 90, ("linear", "mlp", "wide")),
    "diabetes": ("diabetes", 300, ("linear", "mlp", "wide")),
    "energy": ("uci-energy", 500, ("linear", "mlp", "wide")),
    "concrete": ("uci-concrete", 700, ("linear", "mlp", "wide")),
    "kin8nm": ("uci-kin8nm", 1_000, ("linear", "mlp")),
    "power-plant": ("uci-power-plant", 1_000, ("linear", "mlp")),
}
CELLS = {f"{name}-{net}": (name, net) for name, (_, _, nets) in DATA.items() for net in nets}
WIDTHS: dict[str, dict[str, int]] = {"linear": {}, "mlp": {"width": 30}, "wide": {"width": 150}, "cnn": {}}


def target_of(data: nv.Data, net: str, seed: int) -> nv.Target:
    """A network with its likelihood."""
    regression = data.task == "regression"
    outputs = data.y.shape[1] if regression else int(data.y.max()) + 1
    kind = "mlp" if net == "wide" else net
    made = nv.networks.make(kind, data.x_shape, outputs, seed=derive(seed, "network"), **WIDTHS[net])
    return nv.Target(made, nv.Normal(sigma=0.3) if regression else nv.Categorical(outputs))


def measure(name: str, seed: int) -> dict[str, Any]:
    """A cell: what folds say, and what the test rows do."""
    key, net = CELLS[name]
    source, n, _ = DATA[key]
    data, test = (_alone(part) for part in load(Cell(source, n, net, 0), seed))
    target, began = target_of(data, net, seed), time.process_time()
    size = default_batch_size(data.n, table=data.x.ndim == 2)
    fit = nv.cross_fit(target, data, folds=FOLDS, steps=STEPS, batch_size=size, seed=seed, curve=True)
    found = fit.score()
    # Of a network that learned nothing from its fold, nothing is expected: the folds' own loss stands.
    expected = (found.get(k, found[other]) for k, other in (("expected", "nll"), ("expected_stderr", "stderr")))
    # As many passes over all rows as the networks of the folds make over theirs.
    steps = round(STEPS * FOLDS / (FOLDS - 1))
    full = nv.infer(nv.MAP(lr=4e-3), target, data, steps=steps, batch_size=size, seed=derive(seed, "full"))
    predictive = nv.predict(Point(full.mode, target.calibrated(fit.temperature)), test.x, seed=seed)
    losses = -predictive.log_prob(test.y).double()
    spent = time.process_time() - began
    nll, stderr = float(losses.mean()), float(losses.std() / len(losses) ** 0.5)
    return {
        "cell": name, "seed": seed, "n": data.n, "test_rows": test.n, "temperature": fit.temperature,
        "test": nll, "test_stderr": stderr, "cpu_seconds": spent, "environment": environment(),
        "out_of_fold": _against(found["nll"], found["stderr"], nll, stderr),
        "expected": _against(*expected, nll, stderr),
    }  # fmt: skip


def _alone(data: nv.Data) -> nv.Data:
    # In standard units for good: losses of different data sets are then alike.
    return nv.Data(data.x, data.y, name=data.name, task=data.task)


def _against(value: float, stderr: float, nll: float, error: float) -> dict[str, float]:
    difference, both = value - nll, math.hypot(stderr, error)
    return {"value": value, "stderr": both, "difference": difference, "z": difference / both}


def summary() -> dict[str, Any]:
    """Differences by cell (means over seeds), and over the cells."""
    cells: dict[str, Any] = {}
    for name in CELLS:
        records = [json.loads(p.read_text()) for p in sorted(RESULTS.glob(f"{name}-[0-9]*.json"))]
        if records:
            cells[name] = {
                "n": records[0]["n"],
                "seeds": len(records),
                "test": float(np.mean([r["test"] for r in records])),
                "cpu_seconds": float(np.mean([r["cpu_seconds"] for r in records])),
                **{
                    kind: {
                        "difference": float(np.mean([r[kind]["difference"] for r in records])),
                        "stderr": float(np.mean([r[kind]["stderr"] for r in records])),
                        "z": [r[kind]["z"] for r in records],
                    }
                    for kind in ("out_of_fold", "expected")
                },
            }
    over: dict[str, Any] = {}
    for kind in ("out_of_fold", "expected"):
        each = np.array([c[kind]["difference"] for c in cells.values()])
        z = np.concatenate([c[kind]["z"] for c in cells.values()])
        over[kind] = {
            "cells": len(each),
            "mean": float(each.mean()),
            "stderr": float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else math.nan,
            "median": float(np.median(each)),
            "rms": float(np.sqrt((each**2).mean())),
            "runs": len(z),
            "z_rms": float(np.sqrt((z**2).mean())),
            "z_largest": float(np.abs(z).max()),
            "beyond_3": int((np.abs(z) > 3).sum()),
        }
    return {"cells": cells, "over_cells": over}


def table(cells: dict[str, Any]) -> str:
    """The summary as a table in Markdown."""
    lines = [
        "| cell | n | test loss | out-of-fold less test | expected less test | z of expected, by seed | CPU-s |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for name, c in cells.items():
        z = ", ".join(f"{v:.1f}" for v in c["expected"]["z"])
        both = " | ".join(f"{c[k]['difference']:+.3f} ± {c[k]['stderr']:.3f}" for k in ("out_of_fold", "expected"))
        lines.append(f"| {name} | {c['n']:,} | {c['test']:.3f} | {both} | {z} | {c['cpu_seconds']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, and summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=list(CELLS), action="append", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.first, options.first + options.seeds):
        for name in options.cell or CELLS:
            path = RESULTS / f"{name}-{seed}.json"
            if not path.is_file():
                record = measure(name, seed)
                write(path, record)
                shown = {k: [round(v, 3) for v in record[k].values()] for k in ("out_of_fold", "expected")}
                print(name, seed, round(record["test"], 3), shown, round(record["cpu_seconds"], 1), flush=True)
    whole = summary()
    write(RESULTS / "summary.json", whole)
    print(table(whole["cells"]))
    print(json.dumps(whole["over_cells"], indent=1))


if __name__ == "__main__":
    main()
