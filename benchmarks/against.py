"""Tables: `novacula learn` with no option beside boosted trees and a Gaussian process, on published splits.

``OMP_NUM_THREADS=1 python -m benchmarks.against --splits 5`` trains all three on the training part of each set's first
published splits, and writes ``results/against.json``: log-likelihood and root mean square error on the test part, in
the target's units, with their standard errors over test rows, the share of test rows in intervals of 90 %, what the
folds of ``learn`` had said of the loss, the published numbers of MC dropout on the same split, and CPU seconds. Splits
that are in the file already are kept; with ``--again``, ``learn`` is run anew beside the others' numbers. ``--summary``
prints the means. Test rows serve for nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
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
CONTROLS = {"trees": trees, "gp": process}
LEARNERS = ("learn", *CONTROLS)


def run(name: str, split: int, known: dict[str, Any]) -> dict[str, Any]:
    """All learners on one split of a set, but for those that are known."""
    source = np.load(Path(os.environ["NOVACULA_DATA"]) / f"uci-{name}.npz")
    test = torch.from_numpy(source["test_index"][split])
    x, y = (torch.from_numpy(source[k]).float() for k in ("x", "y"))
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
    for learner in LEARNERS:
        if learner in known:
            found[learner] = known[learner]
            continue
        began = time.process_time()
        if learner == "learn":
            said, notes = learned(seen, x[test], split)
        else:
            said, notes = CONTROLS[learner](Part(seen, x[test].double(), y.shape[1], seed=split)), {}
        seconds = time.process_time() - began
        found[learner] = {**scores(said, y[test]), "cpu_seconds": seconds, "notes": list(said.warnings), **notes}
        print(name, split, learner, {k: v for k, v in found[learner].items() if k != "notes"}, flush=True)
    return found


def learned(seen: nv.Data, x: torch.Tensor, seed: int) -> tuple[nv.Predictive, dict[str, Any]]:
    """What ``novacula learn`` with no option predicts, and what it says of itself."""
    net = nv.networks.make("auto", seen.x_shape, 1, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        fit = nv.learn(nv.Target(net, likelihood=nv.Normal()), seen, seed=seed)
        said = nv.predict(fit.posterior, x)
    return said, {
        "converged": fit.converged,
        "out_of_fold": fit.unseen.score(),
        "predictive": {k: v for k, v in fit.choice.to_dict().items() if k in {"structure", "members", "calibration"}},
        "likelihood_temperature": fit.settings.get("likelihood_temperature", 1.0),
        "seconds": fit.seconds,
    }


def scores(said: nv.Predictive, y: torch.Tensor) -> dict[str, float]:
    """The scores of a predictive, in the target's units."""
    fit, squares = said.log_prob(y).double(), (said.mean() - y).double().square().mean(1)
    rmse, rows = float(squares.mean().sqrt()), len(squares)
    low, high = said.interval(0.9)
    return {
        "log_likelihood": float(fit.mean()),
        "log_likelihood_stderr": float(fit.std()) / rows**0.5,
        "rmse": rmse,
        "rmse_stderr": float(squares.std()) / rows**0.5 / (2 * rmse),
        "coverage_90": float(((y >= low) & (y <= high)).double().mean()),
    }


def summary(sets: dict[str, list[dict[str, Any]]]) -> str:
    """Means over splits, in Markdown."""
    lines = [
        "| set | splits | learner | log-likelihood | RMSE | 90 % intervals hold | CPU-s |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, runs in sets.items():
        for learner in (*LEARNERS, "published"):
            mean = {k: float(np.mean([r[learner].get(k, np.nan) for r in runs])) for k in _COLUMNS}
            lines.append(
                f"| {name} | {len(runs)} | {learner} | " + " | ".join(f"{v:.3f}" for v in mean.values()) + " |"
            )
    return "\n".join(lines)


_COLUMNS = ("log_likelihood", "rmse", "coverage_90", "cpu_seconds")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = json.loads(RESULT.read_text())["sets"] if RESULT.exists() else {}
    for split in range(0 if options.summary else options.splits):
        for name in options.sets:
            done = {r["split"]: r for r in sets.get(name, [])}
            if split not in done or options.again:
                known = {k: v for k, v in done.get(split, {}).items() if k in CONTROLS}
                sets[name] = [v for _, v in sorted({**done, split: run(name, split, known)}.items())]
                write(RESULT, {"environment": environment(), "sets": sets})
    print(summary(sets))


if __name__ == "__main__":
    main()
