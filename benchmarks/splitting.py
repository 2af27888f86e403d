"""How far multilevel splitting reaches, what it costs, and whether its intervals cover: `nv.evidence.Splitting`.

    python -m benchmarks.splitting reach [seeds]
    python -m benchmarks.splitting coverage [seeds]
    python -m benchmarks.splitting networks

`reach`: perceptrons on orthogonal inputs, where ``P = 2^-n``, with the default effort and one attempt. `coverage`: the
share of 95 % intervals that hold the truth, by seeds, of small populations. `networks`: an MLP, a CNN with pooling and
a small transformer, against brute force. Costs are evaluations of one network on all inputs, per population and dex.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import generator
from novacula.evidence import Splitting
from novacula.target.many import prior_outputs
from novacula.target.margins import margins

RESULTS = Path(__file__).parent / "results" / "splitting"
LN10 = math.log(10)


def orthogonal(n: int) -> tuple[nv.Target, nv.Data]:
    """A perceptron without a bias on n orthogonal inputs: each label has probability ½."""
    y = (torch.arange(n) % 2).float()[:, None]
    target = nv.Target(nn.Linear(n, 1, bias=False), likelihood=nv.Bernoulli())
    return target, nv.Data(torch.eye(n), y, task="multilabel")


def scored(estimator: Splitting, target: nv.Target, data: nv.Data, seed: int) -> dict[str, Any]:
    """One estimate, in dex, and what it took."""
    before = time.process_time()
    found = estimator(target, data, seed=seed)
    return {
        "seed": seed,
        "log10": float(found) / LN10,
        "stderr": found.stderr / LN10,
        "spread": found.parts["spread"] / LN10,
        "converged": bool(found.parts["converged"]),
        "evaluations_per_dex": found.parts["evaluations"] / estimator.populations / max(1.0, -float(found) / LN10),
        "cpu_seconds": time.process_time() - before,
    }


def reach(seeds: int) -> dict[str, Any]:
    """Perceptrons at 1e-5, 1e-15 and 1e-30."""
    rows = []
    for n in (17, 50, 100):
        for seed in range(seeds):
            row = scored(Splitting(attempts=1), *orthogonal(n), seed)
            rows.append({"n": n, "exact": -n * math.log10(2), **row})
            print(rows[-1], flush=True)
    return {"rows": rows}


def coverage(seeds: int) -> dict[str, Any]:
    """Intervals of a perceptron at 1e-5."""
    n, estimator = 17, Splitting(particles=100, moves=4, attempts=1)
    target, data = orthogonal(n)
    rows = [scored(estimator, target, data, seed) for seed in range(seeds)]
    inside = [abs(r["log10"] + n * math.log10(2)) < 1.959964 * r["stderr"] for r in rows]
    errors = [r["log10"] + n * math.log10(2) for r in rows]
    return {
        "estimator": estimator.name,
        "n": n,
        "seeds": seeds,
        "covered": sum(inside) / seeds,
        "mean_error": sum(errors) / seeds,
        "sd": float(torch.tensor(errors).std()),
        "evaluations_per_dex": sum(r["evaluations_per_dex"] for r in rows) / seeds,
        "cpu_seconds": sum(r["cpu_seconds"] for r in rows),
    }


class Transformer(nn.Module):
    """One block of attention over the columns of a small picture."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(4, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.block(self.into(x.squeeze(1))).mean(1))


def networks() -> dict[str, Any]:
    """Three kinds of networks on ten random pictures, against brute force."""
    x = torch.randn(10, 1, 4, 4, generator=generator(0))
    y = (x[:, 0, :2].sum((1, 2)) > x[:, 0, 2:].sum((1, 2))).long()
    made = {
        "mlp": nn.Sequential(nn.Flatten(), nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 2)),
        "cnn": nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 2)),
        "transformer": Transformer(),
    }
    found = {}
    for name, net in made.items():
        target, data = nv.Target(net), nv.Data(x, y)
        draws, hits = 100_000, 0
        for part in range(10):
            f = prior_outputs(target, x, draws // 10, generator(0, "brute", part))
            hits += int((margins(f, y) > 0).all(1).sum())
        row = scored(Splitting(particles=200, attempts=1), target, data, 0)
        brute = {"log10": math.log10(hits / draws) if hits else None, "hits": hits, "draws": draws}
        found[name] = {"brute": brute, "splitting": row}
        print(name, found[name], flush=True)
    return found


def main() -> None:
    """Run one part and write it down."""
    part = sys.argv[1] if len(sys.argv) > 1 else "reach"
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 200 if part == "coverage" else 3
    torch.set_num_threads(1)
    result = {"reach": lambda: reach(seeds), "coverage": lambda: coverage(seeds), "networks": networks}[part]()
    write(RESULTS / f"{part}.json", {"environment": environment(), **result})
    print({k: v for k, v in result.items() if k != "rows"})


if __name__ == "__main__":
    main()
