"""What a fit of the scikit-learn estimators costs on a small table, and what a shorter budget loses.

    python -m benchmarks.estimators            # about two minutes on one core

Four tables that scikit-learn has, a hundred training rows of at most ten columns each, with budgets of so many steps of
training (as ``epochs``; the folds take their share of it each), and with none (rounds until nothing is gained). CPU
seconds of a fit, the log loss (nats, of targets in standard units) of all other rows, and its difference from that of
no budget with the error over rows, stand in ``results/estimators.json``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets

import novacula as nv
from benchmarks.common import environment, write
from novacula.integrations.estimator import steps_an_epoch

RESULTS = Path(__file__).parent / "results" / "estimators.json"
BUDGETS: tuple[int | None, ...] = (300, 600, None)
ROWS, COLUMNS = 100, 10


def tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets by name; measurements in standard units."""
    found = {}
    for name in ("diabetes", "wine", "breast_cancer"):
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        found[name] = (x[:, :COLUMNS], (y - y.mean()) / y.std() if y.dtype.kind == "f" else y)
    x, y = datasets.make_friedman1(600, COLUMNS, noise=1.0, random_state=0)
    return {**found, "friedman": (x, (y - y.mean()) / y.std())}


def fit(x: np.ndarray, y: np.ndarray, steps: int | None, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """The cost of a fit on a hundred rows, and the log loss of each other row."""
    rows = np.random.default_rng(seed).permutation(len(x))
    train, test = rows[:ROWS], rows[ROWS:]
    kind = nv.NovaculaRegressor if y.dtype.kind == "f" else nv.NovaculaClassifier
    epochs = None if steps is None else max(1, round(steps / steps_an_epoch(ROWS)))
    # Where there is time without end, rounds go on until nothing is gained.
    model: Any = kind(epochs=epochs, seconds=None if epochs else 1e6, random_state=seed)
    before = time.process_time()
    model.fit(x[train], y[train])
    spent = time.process_time() - before
    losses = -np.asarray(model.predictive(x[test]).log_prob(_labels(y[test], model)).cpu())
    return {"cpu_seconds": spent, "converged": model.converged_, "nll": float(losses.mean())}, losses


def _labels(y: np.ndarray, model: Any) -> Any:
    import torch

    if y.dtype.kind == "f":
        return torch.from_numpy(y)[:, None]
    return torch.from_numpy(np.searchsorted(model.classes_, y))


def main() -> None:
    """All tables, budgets and seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    rows: list[dict[str, Any]] = []
    for name, (x, y) in tables().items():
        for seed in range(options.seeds):
            made = {steps: fit(x, y, steps, seed) for steps in BUDGETS}
            whole = made[None][1]
            for steps, (row, losses) in made.items():
                gap = losses - whole
                error = float(gap.std() / np.sqrt(len(gap)))
                rows.append(
                    {"table": name, "seed": seed, "steps": steps, **row, "worse": float(gap.mean()), "stderr": error}
                )
                print(rows[-1], flush=True)
            write(options.out, {"rows": rows, "environment": environment()})


if __name__ == "__main__":
    main()
