"""How often intervals over runs cover, in simulations.

    python -m benchmarks.run_intervals

Runs label 300 examples by the sign of scores with noise of their own: independent for each example, of three directions
that all examples share, or of a size that differs between runs (log-normal, .5). What is covered is the mean
disagreement of two runs, at 90 %, in 400 experiments (a standard error of .015); beside it percentiles of the same
bootstrap. Components of crossed layouts, of 9 normal examples with variances 1 (first), .25 (second) and .49
(together), in 400 experiments. One JSON file, ``results/run_intervals.json``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import environment, write
from novacula.paths.crossed import Layout, components, over_pairs

RESULTS = Path(__file__).parent / "results" / "run_intervals.json"
TIMES, EXAMPLES = 400, 300


def scores(kind: str, runs: int, rng: np.random.Generator, fixed: np.random.Generator) -> np.ndarray:
    """Of each run and example."""
    base, shared = 3 * fixed.normal(size=EXAMPLES), 0.6 * fixed.normal(size=(3, EXAMPLES))
    if kind == "shared directions":
        return base + rng.normal(size=(runs, 3)) @ shared
    size = np.exp(0.5 * rng.normal(size=(runs, 1))) if kind == "sizes differ" else 1.0
    return base + size * rng.normal(size=(runs, EXAMPLES))


def disagreement(kind: str, runs: int) -> dict[str, float]:
    """The share of experiments in which the interval covers."""
    rng, layout = np.random.default_rng(runs), Layout.of(runs)

    def apart(count: int) -> np.ndarray:
        said = scores(kind, count, rng, np.random.default_rng(1)) > 0
        return (said[:, None] != said[None]).mean(2)

    many = apart(600)
    truth, covered, percentiles = many.sum() / (600 * 599), 0, 0
    for seed in range(TIMES):
        statistic = over_pairs(apart(runs), layout.apart)
        low, high = layout.measure(statistic, draws=300, seed=seed).interval or (1.0, 0.0)
        covered += low <= truth <= high
        with np.errstate(invalid="ignore"):
            drawn = statistic(layout.weights(300, seed))
        low, high = np.nanquantile(drawn, [0.05, 0.95])
        percentiles += low <= truth <= high
    return {"covered": float(covered / TIMES), "percentiles": float(percentiles / TIMES)}


def causes(levels: int) -> dict[str, float]:
    """The share of experiments in which the intervals of components cover."""
    rng, (a, b) = np.random.default_rng(levels), np.indices((levels, levels)).reshape(2, -1).tolist()
    layout, truths = Layout.of(levels**2, {"first": a, "second": b}), {"first": 1.0, "second": 0.25, "together": 0.49}
    covered = dict.fromkeys(truths, 0)
    for _ in range(TIMES):
        parts = rng.normal(size=(levels, 1, 9)), 0.5 * rng.normal(size=(1, levels, 9))
        values = sum(parts) + 0.7 * rng.normal(size=(levels, levels, 9))
        for name, part in components(values.reshape(-1, 9, 1), layout).items():
            low, high = part.interval or (1.0, 0.0)
            covered[name] += low <= truths[name] <= high
    return {name: count / TIMES for name, count in covered.items()}


def main() -> None:
    """All of it."""
    began, result = time.process_time(), dict[str, Any]()
    kinds = ("independent", "shared directions", "sizes differ")
    result["disagreement"] = {k: {str(n): disagreement(k, n) for n in (3, 4, 8, 16)} for k in kinds}
    result["components"] = {f"{k}x{k}": causes(k) for k in (3, 4, 5)}
    for name, rows in {**result["disagreement"], **result["components"]}.items():
        print(name, rows)
    write(RESULTS, {**result, "cpu_seconds": time.process_time() - began, "environment": environment()})


if __name__ == "__main__":
    main()
