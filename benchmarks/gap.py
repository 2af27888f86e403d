"""How often the interval of `nv.study.gap` covers the difference of two settings, in simulated experiments.

    python -m benchmarks.gap

500 experiments a row: R pairs of runs share a seed's effect (sd 1) and differ by .5 and by noise of their own (sd .6
and .9; normal, of Student's distribution with five degrees of freedom, or log-normal with a long tail).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import novacula as nv
from benchmarks.common import environment, write

RESULT = Path(__file__).parent / "results" / "gap.json"
TIMES, SHIFT = 500, 0.5


def noise(kind: str, rng: np.random.Generator, runs: int) -> np.ndarray:
    """Of mean nought and variance one."""
    if kind == "normal":
        return rng.normal(size=runs)
    if kind == "student":
        return rng.standard_t(5, runs) / np.sqrt(5 / 3)
    drawn = rng.lognormal(0, 0.8, runs)
    return (drawn - np.exp(0.32)) / np.sqrt((np.exp(0.64) - 1) * np.exp(0.64))


def main() -> None:
    """Run all cases and write them down."""
    before, rows = time.process_time(), []
    for kind in ("normal", "student", "log-normal"):
        for runs in (3, 5, 10):
            rng = np.random.default_rng([len(kind), runs])
            covered = real = 0
            for _ in range(TIMES):
                seeds = rng.normal(size=runs)
                a = seeds + SHIFT + 0.6 * noise(kind, rng, runs)
                b = seeds + 0.9 * noise(kind, rng, runs)
                found = nv.study.gap(a, b)
                low, high = found.interval
                covered += low <= SHIFT <= high
                real += found.real
            row: dict[str, Any] = {"noise": kind, "pairs": runs, "covered": covered / TIMES, "real": real / TIMES}
            rows.append(row)
            print(row)
    write(RESULT, {"environment": environment(), "times": TIMES, "rows": rows, "cpu": time.process_time() - before})


if __name__ == "__main__":
    main()
