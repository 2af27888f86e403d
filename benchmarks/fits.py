"""How often a network 7-40-40-1 fits labels of some words of seven bits, by counting, by splitting and by annealing.

    python -m benchmarks.fits
    python -m benchmarks.fits --more    # where splitting is .1 dex from counting or more, again with 500 networks

Counting puts 1,000 last layers on each of 20,000 networks beneath. Cases are written down as they come, and the same
command goes on after an interruption.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import generator

RESULT = Path(__file__).parent / "results" / "fits.json"
LN10 = math.log(10)
RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "first bit": lambda x: x[:, 0],
    "majority": lambda x: x.sum(1) > 3,
    "two bits differ": lambda x: x[:, 0] != x[:, 1],
    "coins": lambda x: torch.rand(len(x), generator=generator(5, "coins")) < 0.5,
}
CASES = [(rule, n) for n in (8, 16, 32) for rule in RULES if n < 32 or rule in ("first bit", "majority")]


def case(rule: str, n: int) -> tuple[nv.Target, nv.Data]:
    """The network, and words drawn at random with their labels."""
    words = nv.functions.cube(7)
    chosen = words[torch.randperm(128, generator=generator(0, "words"))[:n]]
    net = nn.Sequential(nn.Linear(7, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    target = nv.Target(net, prior=nv.FanIn(), likelihood=nv.Bernoulli())
    return target, nv.Data(chosen, RULES[rule](chosen).float()[:, None], task="multilabel")


def scored(estimator: Callable[..., nv.Estimate], target: nv.Target, data: nv.Data) -> dict[str, Any]:
    """An estimate in dex, and what it took."""
    before = time.process_time()
    found = estimator(target, data, seed=0)
    return {
        "log10": float(found) / LN10,
        "stderr": found.stderr / LN10,
        "kind": found.kind,
        "parts": found.parts,
        "cpu_seconds": time.process_time() - before,
    }


def more(rows: list[dict[str, Any]]) -> None:
    """Where splitting is .1 dex from counting or more, with 500 networks, not 200; counting with ten times more."""
    for row in rows:
        if abs(row["splitting"]["log10"] - row["counting"]["log10"]) > 0.1:
            ways: dict[str, Callable[..., nv.Estimate]] = {"splitting, 500": nv.evidence.Splitting(attempts=1)}
            if row["counting"]["stderr"] > 0.1:
                ways["counting, ten times"] = nv.evidence.Counting(200_000_000, heads=1_000)
            for name, estimator in ways.items():
                if name not in row:
                    row[name] = scored(estimator, *case(row["rule"], row["n"]))
                    print(row["rule"], row["n"], name, row[name], flush=True)
                    write(RESULT, {"environment": environment(), "rows": rows})


def main() -> None:
    """Measure, case by case."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    ways = {
        "counting": nv.evidence.Counting(20_000_000, heads=1_000),
        "splitting": nv.evidence.Splitting(particles=200, attempts=1),
        "annealing": nv.evidence.Annealing(method=nv.SMC(200, "elliptical", moves=8)),
    }
    if "--more" in sys.argv:
        more(rows)
        return
    for rule, n in CASES:
        if any((r["rule"], r["n"]) == (rule, n) for r in rows):
            continue
        target, data = case(rule, n)
        row: dict[str, Any] = {"rule": rule, "n": n}
        for name, estimator in ways.items():
            row[name] = scored(estimator, target, data)
        rows.append(row)
        print(row, flush=True)
        write(RESULT, {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
