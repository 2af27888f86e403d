"""Leapfrog steps a CPU second on the digits net of `benchmarks.gold_task`, beside BlackJAX in the same run.

``python -m benchmarks.leapfrog --jax PATH/TO/PYTHON`` (an environment with JAX and BlackJAX) writes
``results/leapfrog.json``. Both start at the same weights with the same step size, on one core and one thread, in turns.
``hmc`` counts the steps of trajectories of fixed length, ``nuts`` those of NUTS's trees (at most seven doublings); both
count what the sampler does around the gradients as well.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.gold_task import SIZES, digits
from benchmarks.turns import Request, Worker, rate, ratios, serve, summary
from novacula.core.params import flatten
from novacula.core.rng import generator
from novacula.inference.hamiltonian.mass import unit_mass
from novacula.inference.hamiltonian.nuts_tree import nuts
from novacula.inference.hamiltonian.trajectory import hmc, place_at
from novacula.inference.optimising.adam import adam_init, adam_step
from novacula.inference.starts import starts
from novacula.target.flat import FlatDensity, Potential, flat_density

RESULT = Path(__file__).parent / "results" / "leapfrog.json"
CHAINS = 4
STEP, LENGTH, DEPTH = 2e-3, 50, 7
WAYS = ("autograd", "recorded", "compiled")


def density(gradients: int = 0) -> FlatDensity:
    """The log-density of the net's weights."""
    x, y, _, _ = digits()
    d, h, c = SIZES
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, c))
    target, data = nv.Target(net).prepare(nv.Data(torch.from_numpy(x), torch.from_numpy(y)))
    return flat_density(target, data, target.params(), generator(0), gradients=gradients)


def begin(path: str) -> None:
    """Weights after some training, for both to start at."""
    full = density()
    w = {"q": flatten(starts(full.target, CHAINS, 0), batch_dims=1)}
    state = adam_init(w)
    for _ in range(300):
        w, state = adam_step(w, {"q": -full(w["q"])[1]}, state, 1e-2)
    np.save(path, w["q"].numpy())


def work(potential: Potential, q: Tensor, sampler: str) -> Callable[[int], int]:
    """Transitions of a sampler, that count leapfrog steps of all chains."""
    place, mass, rng = place_at(potential, q), unit_mass(q), generator(0)
    step = torch.full((len(q),), STEP)

    def run(rounds: int) -> int:
        total = 0
        for _ in range(rounds):
            if sampler == "hmc":
                done = hmc(potential, place, step, mass, rng, leapfrogs=LENGTH)
            else:
                done = nuts(potential, place, step, mass, rng, max_depth=DEPTH)
            total += int(done.leapfrogs.sum())
        return total

    return run


def worker(path: str) -> None:
    """Answer ``{"way", "sampler", "chains", "seconds"}`` with leapfrog steps a CPU second."""
    torch.set_num_threads(1)
    start = torch.from_numpy(np.load(path))
    known: dict[tuple[str, int], Potential] = {}

    def answer(request: Request) -> dict[str, Any]:
        way, chains = request["way"], request["chains"]
        if (way, chains) not in known:
            full = density(10**12 if way == "compiled" else 0)
            known[way, chains] = full
            if way == "autograd":
                known[way, chains] = lambda q: full.value_and_gradient(q, *full.parts[0], with_prior=True)
            known[way, chains](start[:chains])
            if way == "compiled":
                made = {f.__qualname__.split(".")[0] for f in full.functions.values()}
                if made != {"compiled_graph"}:
                    return {"rate": None}
        run = work(known[way, chains], start[:chains], request["sampler"])
        run(1)
        return {"rate": rate(run, request["seconds"])}

    serve(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jax", help="the python of an environment with JAX and BlackJAX")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds of a turn")
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/start.npy"
        begin(path)
        ours = Worker(sys.executable, "benchmarks.leapfrog", options.core, "--worker", path)
        theirs = Worker(options.jax, "benchmarks.peers.blackjax_leapfrog", options.core, path) if options.jax else None
        found: dict[str, dict[str, Any]] = {}
        for sampler in ("hmc", "nuts"):
            for chains in (1, CHAINS):
                rates: dict[str, list[float]] = {}
                for _ in range(options.repeats + 1):
                    request = {"sampler": sampler, "chains": chains, "seconds": options.seconds}
                    for way in WAYS:
                        rates.setdefault(way, []).append(ours.ask({**request, "way": way})["rate"])
                    if theirs is not None:
                        answer = theirs.ask({**request, "step": STEP, "length": LENGTH, "depth": DEPTH})
                        rates.setdefault("blackjax", []).append(answer["rate"])
                # The first turn is for warming up; where there is no compiler there is no rate.
                rates = {k: v[1:] for k, v in rates.items() if None not in v}
                entry: dict[str, Any] = {k: summary(v) for k, v in rates.items()}
                if theirs is not None:
                    entry["over blackjax"] = {k: ratios(v, rates["blackjax"]) for k, v in rates.items() if k in WAYS}
                found[f"{sampler}, {chains} chain{'s' if chains > 1 else ''}"] = entry
                print(sampler, chains, entry, flush=True)
        ours.close()
        versions = {}
        if theirs is not None:
            versions = theirs.ask({"versions": True})
            theirs.close()
    load = {"load_after": round(os.getloadavg()[0], 1)}
    write(options.out, {**environment(), **load, "peer": versions, "leapfrogs_a_cpu_second": found})


if __name__ == "__main__":
    main()
