"""How far multilevel splitting reaches, what it costs, and whether its intervals cover: `nv.evidence.Splitting`.

    python -m benchmarks.splitting reach [seeds]
    python -m benchmarks.splitting coverage [seeds [case]]
    python -m benchmarks.splitting beside [groups [case [particles [moves]]]]
    python -m benchmarks.splitting networks

`reach`: perceptrons on orthogonal inputs, where ``P = 2^-n``, with the default effort and one attempt. `coverage`: the
share of 95 % intervals that hold the truth, by seeds, of small populations with the default number of attempts, on the
cases of `CASES`. `beside`: the same at one effort, with all populations of ten intervals in one run, four to each.
The same command goes on after an interruption. `networks`: an MLP, a
CNN with pooling and a small transformer, against brute force. Costs are evaluations of one network on all inputs, per
population and dex.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import generator
from novacula.evidence import Splitting
from novacula.evidence.fitting.splitting import DISAGREE
from novacula.functions.result import share
from novacula.inference import Splitting as Method
from novacula.inference.particles.smc import log_mean
from novacula.posteriors.draws import Draws
from novacula.target.many import prior_outputs
from novacula.target.margins import margins

RESULTS = Path(__file__).parent / "results" / "splitting"
LN10 = math.log(10)
AT_ONCE = 10
"""Intervals whose populations are moved side by side."""


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
        "attempts": found.parts["attempts"],
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


def equicorrelated(n: int) -> tuple[nv.Target, nv.Data, float]:
    """A perceptron whose outputs on n inputs correlate by one half, seven of them positive, and log10 of its fit."""
    k = torch.full((n, n), 0.5, dtype=torch.float64) + 0.5 * torch.eye(n, dtype=torch.float64)
    y = (torch.arange(n) < 7).double()
    target = nv.Target(nn.Linear(n, 1, bias=False).double(), likelihood=nv.Bernoulli())
    exact = nv.kernels.orthant(k, 2 * y - 1, method="tilting", seed=0)
    return target, nv.Data(torch.linalg.cholesky(k), y[:, None], task="multilabel"), float(exact) / LN10


def signs(n: int) -> tuple[nv.Target, nv.Data, float]:
    """A perceptron of 17 weights of ±1 on n inputs, with labels of one of them, and log10 of the share that fits."""
    x = torch.randn(n, 17, generator=generator(3), dtype=torch.float64)
    every = 2.0 * nv.functions.cube(17).double() - 1
    f = every @ x.T
    fits = ((f > 0) == (f[12_345] > 0)).all(1)
    target = nv.Target(nn.Linear(17, 1, bias=False).double(), likelihood=nv.Bernoulli(), prior=nv.priors.Signs())
    data = nv.Data(x, (f[12_345] > 0).double()[:, None], task="multilabel")
    return target, data, math.log10(float(fits.double().mean()))


CASES: dict[str, Callable[[], tuple[nv.Target, nv.Data, float]]] = {
    "perceptron-17": lambda: (*orthogonal(17), -17 * math.log10(2)),
    "perceptron-50": lambda: (*orthogonal(50), -50 * math.log10(2)),
    "perceptron-100": lambda: (*orthogonal(100), -100 * math.log10(2)),
    "equicorrelated-20": lambda: equicorrelated(20),
    "signs-14": lambda: signs(14),
}


def coverage(seeds: int, case: str) -> dict[str, Any]:
    """Intervals of one case, at the default number of attempts; what is known is written down every 20 seeds."""
    estimator = Splitting(particles=100, moves=4)
    target, data, exact = CASES[case]()
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for seed in range(seeds):
        rows.append(scored(estimator, target, data, seed))
        if len(rows) % 20 == 0 or len(rows) == seeds:
            found = {"estimator": estimator.name, "case": case, "exact": exact, **_covered(rows, exact)}
            write(RESULTS / f"coverage-{case}.json", {"environment": environment(), **found})
            print(found, flush=True)
    return found


def beside(groups: int, case: str, particles: int, moves: int) -> dict[str, Any]:
    """Intervals of one case, each of four populations, at one effort; goes on from those that were found before."""
    target, data, exact = CASES[case]()
    method, path = Method(particles, moves), RESULTS / f"beside-{case}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    before = before if before.get("method") == repr(method) else {}
    known = [float(v) for v in before.get("populations", "").split()]
    logs, found = torch.tensor(known, dtype=torch.float64), before
    evaluations, spent = before.get("evaluations", 0.0), before.get("cpu_seconds", 0.0)
    while len(logs) < 4 * groups:
        began, seed = time.process_time(), len(logs)
        post = cast("Draws", nv.infer(method, target, data, steps=500, chains=4 * AT_ONCE, seed=seed))
        logs = torch.cat([logs, post.stats["log_evidence"] / LN10])
        evaluations += float(post.stats["evaluations"].sum())
        spent += time.process_time() - began
        rows: list[dict[str, Any]] = []
        for four in logs.unflatten(0, (-1, 4)):
            value, stderr = log_mean(four * LN10)
            row = {"log10": value / LN10, "stderr": stderr / LN10, "converged": float(four.std()) <= DISAGREE / LN10}
            rows.append({**row, "attempts": 1.0, "cpu_seconds": spent / len(logs) * 4})
            rows[-1]["evaluations_per_dex"] = evaluations / len(logs) / -exact
        found = {"method": repr(method), "case": case, "exact": exact, **_covered(rows, exact)}
        found |= {"spread": float(logs.std()), "mean_of_logs": float(logs.mean() - exact), "evaluations": evaluations}
        found["populations"] = " ".join(f"{v:.4f}" for v in logs.tolist())  # not each on a line of its own
        write(path, {"environment": environment(), **found})
        print({k: v for k, v in found.items() if k != "populations"}, flush=True)
    return found


def _covered(rows: list[dict[str, Any]], exact: float) -> dict[str, Any]:
    errors = torch.tensor([r["log10"] - exact for r in rows], dtype=torch.float64)
    inside = errors.abs() < 1.959964 * torch.tensor([r["stderr"] for r in rows], dtype=torch.float64)
    efforts = torch.tensor([r["attempts"] for r in rows])
    each = {str(int(a)): inside[efforts == a] for a in efforts.unique()}
    return {
        "seeds": len(rows),
        "covered": share(int(inside.sum()), len(rows)),
        "covered_by_attempts": {a: share(int(i.sum()), len(i)) for a, i in each.items()},
        "seeds_by_attempts": {a: len(i) for a, i in each.items()},
        "converged": sum(r["converged"] for r in rows) / len(rows),
        "mean_error": float(errors.mean()),
        "sd": float(errors.std()),
        "evaluations_per_dex": sum(r["evaluations_per_dex"] for r in rows) / len(rows),
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
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else {"coverage": 200, "beside": 200}.get(part, 3)
    torch.set_num_threads(1)
    case = sys.argv[3] if len(sys.argv) > 3 else next(iter(CASES))
    if part == "coverage":
        coverage(seeds, case)
        return
    if part == "beside":
        beside(seeds, case, *([int(v) for v in sys.argv[4:6]] or (200, 4)))
        return
    result = reach(seeds) if part == "reach" else networks()
    write(RESULTS / f"{part}.json", {"environment": environment(), **result})
    print({k: v for k, v in result.items() if k != "rows"})


if __name__ == "__main__":
    main()
