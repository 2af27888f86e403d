"""Estimated local learning coefficients of deep linear networks beside the known ones.

    python -m benchmarks.coefficients             # thirty networks
    python -m benchmarks.coefficients --settings  # a perceptron in three settings, five seeds
    python -m benchmarks.coefficients --exact     # models whose coefficient at this n is known to quadrature, ten seeds
    python -m benchmarks.coefficients --summary

Networks of two to four layers with seeded widths and a true map of a seeded rank, at the true weights; 300 examples of
standard normal inputs and unit noise. The coefficient of infinitely many examples is Aoyagi's; the estimate is another
at this n, so that the order is what is compared. Settings: perceptrons 64-8-10 (tanh) on 700 digits by squares of
unit labels, σ = .3, with labels as they are and with a fifth or half of them drawn at random. Exact: functions
``w1^a w2^b x`` at minima of 100 examples, and a linear model of four weights: how many estimates are within two of
their standard errors. One JSON file in ``results/coefficients.json``.

References:
    Consideration on the learning efficiency of multiple-layered neural networks with linear units. M. Aoyagi, 2024.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.inference.tempered import Chains, log_likelihood, tempered_fits

RESULTS = Path(__file__).parent / "results" / "coefficients.json"
NETWORKS, N = 30, 300


def known(widths: list[int], rank: int) -> float:
    """Aoyagi's coefficient of a product of matrices of these widths whose true rank is given."""
    m = [h - rank for h in widths]
    for size in range(len(m), 1, -1):
        for chosen in itertools.combinations(range(len(m)), size):
            inside, outside = [m[i] for i in chosen], [m[i] for i in range(len(m)) if i not in chosen]
            ell, total = size - 1, sum(inside)
            fits = total >= ell * max(inside) and (not outside or max(inside) < min(outside))
            if fits and (not outside or total < ell * min(outside)):
                a = total - (math.ceil(total / ell) - 1) * ell
                pairs = sum(x * y for x, y in itertools.combinations(inside, 2))
                regular = rank * (widths[0] + widths[-1] - rank) / 2
                return regular + a * (ell - a) / (4 * ell) - (ell - 1) * total**2 / (4 * ell) + pairs / 2
    raise ValueError(f"no set of layers for {widths} and rank {rank}")


def run(seed: int) -> dict[str, Any]:
    """One network."""
    rng = torch.Generator().manual_seed(seed)
    layers = int(torch.randint(2, 5, (), generator=rng))
    widths = torch.randint(2, 7, (layers + 1,), generator=rng).tolist()
    rank = int(torch.randint(0, min(widths) + 1, (), generator=rng))
    net = nn.Sequential(*(nn.Linear(i, o, bias=False) for i, o in itertools.pairwise(widths))).double()
    with torch.no_grad():
        for layer in net:
            assert isinstance(layer, nn.Linear)
            left, right = (torch.linalg.qr(torch.randn(n, n, generator=rng).double())[0] for n in layer.weight.shape)
            layer.weight.copy_(left[:, :rank] @ right[:, :rank].mT if rank else torch.zeros_like(layer.weight))
    with torch.no_grad():  # what a layer gives out, the next takes in, so that the rank of the product is the rank
        for one, other in itertools.pairwise(list(net)):
            u = torch.linalg.svd(one.weight)[0][:, :rank]  # type: ignore[arg-type]
            w = torch.linalg.svd(other.weight)[0][:, :rank]  # type: ignore[arg-type]
            other.weight.copy_(w @ u.mT if rank else torch.zeros_like(other.weight))  # type: ignore[union-attr,operator]
        x = torch.randn(N, widths[0], generator=rng).double()
        y = net(x) + torch.randn(N, widths[-1], generator=rng).double()
    began = time.process_time()
    found = nv.paths.learning_coefficient(
        nv.Target(net, nv.Normal(sigma=1.0)), nv.Data(x, y), chains=8, steps=80, leapfrogs=4, seed=seed
    )
    return {
        "seed": seed, "widths": widths, "rank": rank, "weights": sum(w.numel() for w in net.parameters()),
        "known": known(widths, rank), "found": float(found), "stderr": found.stderr,
        "warnings": list(found.warnings), "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def trained(seed: int, wrong: float) -> dict[str, Any]:
    """A perceptron that was trained on digits of which a share has labels that were drawn at random."""
    digits, rng = nv.load("digits").subset(range(700)), torch.Generator().manual_seed(seed)
    drawn = torch.rand(digits.n, generator=rng) < wrong
    labels = torch.where(drawn, torch.randint(10, (digits.n,), generator=rng), digits.y)
    data = nv.Data(digits.x.flatten(1), nn.functional.one_hot(labels, 10).float())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))
    target = nv.Target(net, nv.Normal(sigma=0.3))
    began = time.process_time()
    start = nv.infer(nv.MAP(lr=0.01), target, data, epochs=100, batch_size=100, seed=seed)
    found = nv.paths.learning_coefficient(target, data, start, chains=8, steps=80, leapfrogs=4, seed=seed)
    return {
        "seed": seed, "wrong": wrong, "found": float(found), "stderr": found.stderr,
        "other": [round(row["value"], 1) for row in found.details[1:]],
        "warnings": list(found.warnings), "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


class Product(nn.Module):
    """``f(x) = w1^a w2^b x``."""

    def __init__(self, a: int, b: int, at: tuple[float, float]) -> None:
        super().__init__()
        self.a, self.b, self.w = a, b, nn.Parameter(torch.tensor(at, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs."""
        return (self.w[0] ** self.a * self.w[1] ** self.b) * x


MODELS: dict[str, tuple[tuple[int, int, tuple[float, float]] | None, float]] = {
    "linear, 4 weights": (None, 2.0),
    "w1 w2 at 0": ((1, 1, (0.0, 0.0)), 0.5),
    "w1² w2 at 0": ((2, 1, (0.0, 0.0)), 0.25),
    "w1² w2² at 0": ((2, 2, (0.0, 0.0)), 0.25),
    "w1 w2² at (1.5, 0)": ((1, 2, (1.5, 0.0)), 0.25),
}
"""Powers with the minimum, and the coefficient of infinitely many examples (without localisation)."""


def exact(name: str, seed: int) -> dict[str, Any]:
    """One model as `nv.paths.learning_coefficient` estimates it first, beside its coefficient at this n."""
    made, rng = MODELS[name][0], torch.Generator().manual_seed(seed)
    x = torch.randn(100, 1 if made else 4, generator=rng, dtype=torch.float64)
    if made is None:
        net: nn.Module = nn.Linear(4, 1, bias=False).double()
        y = x.sum(1, keepdim=True) + torch.randn(100, 1, generator=rng, dtype=torch.float64)
        net.load_state_dict({"weight": torch.linalg.lstsq(x, y).solution.mT})
        h = torch.linalg.eigvalsh(x.T @ x) / math.log(100)
        value = float(0.5 * (h / (h + 1)).sum())
    else:
        net, y, (a, b, at) = Product(*made), 0 * x, made
        t = torch.linspace(-6, 6, 1201, dtype=torch.float64)
        excess = 0.5 * x.square().sum() * (t[:, None] ** a * t**b) ** 2 / math.log(100)
        mass = (-excess - 0.5 * ((t[:, None] - at[0]) ** 2 + (t - at[1]) ** 2)).exp()
        value = float((mass * excess).sum() / mass.sum())
    target, data = nv.Target(net, nv.Normal(sigma=1.0), nv.priors.Gaussian(mean="start")).prepare(nv.Data(x, y))
    began, least = time.process_time(), target.params()
    fits = tempered_fits(target, data, least, math.log(100), Chains(64, 300, 8, 0.8), seed=seed)
    found = float(log_likelihood(target, data, least) - fits.values.mean()) / math.log(100)
    return {
        "model": name, "seed": seed, "exact": value, "found": found, "stderr": fits.stderr / math.log(100),
        "rhat": fits.rhat, "warned": len(fits.warnings), "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def agreement(rows: list[dict[str, Any]]) -> str:
    """How often estimates are within two and three standard errors, by model."""
    lines = ["| model | of infinitely many | exact | found | s.e. | within 2 s.e. | within 3 | largest | R-hat |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name in [*MODELS, "all"] if rows else ():
        own = [r for r in rows if name in (r["model"], "all")]
        far = [abs(r["found"] - r["exact"]) / r["stderr"] for r in own]
        mean = [f"{sum(r[k] for r in own) / len(own):.3f}" for k in ("exact", "found", "stderr")]
        cells = [f"{MODELS[name][1]:g}", *mean] if name in MODELS else [""] * 4
        cells += [f"{sum(z < limit for z in far)} of {len(far)}" for limit in (2, 3)]
        lines.append(f"| {name} | {' | '.join(cells)} | {max(far):.1f} | {max(r['rhat'] for r in own):.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--settings", action="store_true")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows, pairs, known_ones = (record.setdefault(k, []) for k in ("networks", "settings", "exact"))
    for seed, name in itertools.product(range(10), MODELS) if options.exact else ():
        if not any((p["seed"], p["model"]) == (seed, name) for p in known_ones):
            known_ones.append(exact(name, seed))
            write(RESULTS, {**record, "environment": environment()})
    for seed, wrong in itertools.product(range(5), (0.0, 0.2, 0.5)) if options.settings else ():
        if not any((p["seed"], p["wrong"]) == (seed, wrong) for p in pairs):
            pairs.append(trained(seed, wrong))
            write(RESULTS, {**record, "environment": environment()})
            print(pairs[-1], flush=True)
    for seed in [] if options.summary or options.settings or options.exact else range(len(rows), NETWORKS):
        rows.append(run(seed))
        write(RESULTS, {**record, "environment": environment()})
        print(rows[-1], flush=True)
    print(agreement(known_ones))
    for wrong in sorted({p["wrong"] for p in pairs}):
        own = ", ".join(f"{p['found']:.1f} ± {p['stderr']:.1f}" for p in pairs if p["wrong"] == wrong)
        print(f"trained, {wrong:.0%} of labels drawn at random: {own}")
    order, half = (float(spearmanr([r["known"] for r in rows], [r[k] for r in rows])[0]) for k in ("found", "weights"))  # type: ignore[arg-type]
    print(f"{len(rows)} networks: rank correlation with the known {order:.3f}; of the number of weights {half:.3f}")


if __name__ == "__main__":
    main()
