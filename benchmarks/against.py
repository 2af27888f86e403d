"""The controls of ``novacula learn --against`` by themselves: trees and a Gaussian process on published UCI splits.

``OMP_NUM_THREADS=1 python -m benchmarks.against`` trains both on the training part of each set's first published split,
and writes ``results/against.json``: log-likelihood and root mean square error on the test part, in the target's units,
with their standard errors over test rows, the published numbers of MC dropout on the same split, and CPU seconds. Test
rows serve for nothing else.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.study.controls.control import Part
from novacula.study.controls.process import process
from novacula.study.controls.trees import trees

RESULT = Path(__file__).parent / "results" / "against.json"
SETS = ("concrete", "energy", "kin8nm", "power-plant")
LEARNERS = {"trees": trees, "gp": process}


def run(name: str, split: int = 0) -> dict[str, Any]:
    """Both controls on one split of a set."""
    source = np.load(Path(os.environ["NOVACULA_DATA"]) / f"uci-{name}.npz")
    test = torch.from_numpy(source["test_index"][split])
    x, y = (torch.from_numpy(source[k]).double() for k in ("x", "y"))
    y = y.reshape(len(x), -1)
    seen = nv.Data(x[~test], y[~test], task="regression")
    found: dict[str, Any] = {
        "split": split,
        "rows": seen.n,
        "test_rows": int(test.sum()),
        "published": {
            "log_likelihood": float(source["mc_dropout_test_ll"][split]),
            "rmse": float(source["mc_dropout_test_rmse"][split]),
        },
    }
    for control, learner in LEARNERS.items():
        began = time.process_time()
        said = learner(Part(seen, x[test], y.shape[1], seed=0))
        seconds = time.process_time() - began
        fit, squares = said.log_prob(y[test]), (said.mean() - y[test]).square().mean(1)
        rmse, rows = float(squares.mean().sqrt()), len(squares)
        found[control] = {
            "log_likelihood": float(fit.mean()),
            "log_likelihood_stderr": float(fit.std()) / rows**0.5,
            "rmse": rmse,
            "rmse_stderr": float(squares.std()) / rows**0.5 / (2 * rmse),
            "cpu_seconds": seconds,
            "notes": list(said.warnings),
        }
        print(name, control, {k: v for k, v in found[control].items() if k != "notes"}, flush=True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    sets = {name: run(name) for name in SETS}
    write(RESULT, {"environment": environment(), "sets": sets})


if __name__ == "__main__":
    main()
