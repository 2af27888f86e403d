"""Estimated local learning coefficients of deep linear networks beside the known ones.

    python -m benchmarks.coefficients             # thirty networks
    python -m benchmarks.coefficients --settings  # a perceptron in three settings, five seeds
    python -m benchmarks.coefficients --summary

Networks of two to four layers with seeded widths and a true map of a seeded rank, at the true weights; 300 examples of
standard normal inputs and unit noise. The coefficient of infinitely many examples is Aoyagi's; the estimate is another
at this n, so that the order is what is compared. Settings: perceptrons 64-8-10 (tanh) on 700 digits by squares of
unit labels, σ = .3, with labels as they are and with a fifth or half of them drawn at random. One JSON file in
``results/coefficients.json``.

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


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--settings", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows, pairs = record.setdefault("networks", []), record.setdefault("settings", [])
    for seed, wrong in itertools.product(range(5), (0.0, 0.2, 0.5)) if options.settings else ():
        if not any((p["seed"], p["wrong"]) == (seed, wrong) for p in pairs):
            pairs.append(trained(seed, wrong))
            write(RESULTS, {**record, "environment": environment()})
            print(pairs[-1], flush=True)
    for seed in [] if options.summary or options.settings else range(len(rows), NETWORKS):
        rows.append(run(seed))
        write(RESULTS, {**record, "environment": environment()})
        print(rows[-1], flush=True)
    for wrong in sorted({p["wrong"] for p in pairs}):
        own = ", ".join(f"{p['found']:.1f} ± {p['stderr']:.1f}" for p in pairs if p["wrong"] == wrong)
        print(f"trained, {wrong:.0%} of labels drawn at random: {own}")
    order, half = (float(spearmanr([r["known"] for r in rows], [r[k] for r in rows])[0]) for k in ("found", "weights"))  # type: ignore[arg-type]
    print(f"{len(rows)} networks: rank correlation with the known {order:.3f}; of the number of weights {half:.3f}")


if __name__ == "__main__":
    main()
