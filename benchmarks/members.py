"""Many small networks trained at once: network steps a CPU second, beside a Python loop and beside JAX in the same run.

``python -m benchmarks.members --jax PATH/TO/PYTHON`` (an environment with JAX and Optax) writes
``results/members.json``. A network step is one minibatch's gradient and one step of Adam for one network. ``loop`` is
the naive way: a plain module and `torch.optim.Adam`, one network after another; ``ours`` takes all networks at once,
with the gradient recorded and Adam in place. ``pure Adam`` and ``unrecorded`` go without the latter and without both.
Everything runs on one core and one thread, in turns.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.turns import Request, Worker, rate, ratios, serve, summary
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference.optimising.adam import adam_init, adam_step, adam_step_
from novacula.inference.starts import starts
from novacula.target import Target
from novacula.target.batch import Batch
from novacula.target.many import loss_and_gradient

RESULT = Path(__file__).parent / "results" / "members.json"
TASKS = {"100 nets 64-128-128-10": (100, (64, 128, 128, 10)), "1,000 nets 7-40-40-1": (1_000, (7, 40, 40, 1))}
ROWS, LR, PRECISION = 1_000, 1e-3, 1.0
BATCHES = (16, 32, 128)
WAYS = ("loop", "unrecorded", "pure Adam", "ours")


def network(sizes: tuple[int, ...]) -> nn.Module:
    """Layers with ReLU between them."""
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def prepared(sizes: tuple[int, ...]) -> tuple[Target, Data]:
    """A network and random data: ten classes, or two by one logit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, y = torch.randn(ROWS, sizes[0]), torch.randint(0, max(sizes[-1], 2), (ROWS,))
        likelihood = nv.Categorical() if sizes[-1] > 1 else nv.Bernoulli()
        return Target(network(sizes), likelihood, nv.Gaussian(PRECISION)).prepare(Data(x, y))


def batches(data: Data, size: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """One batch after another."""
    return lambda i: (data.x[(at := i * size % (ROWS - size)) : at + size], data.y[at : at + size])


def loop(sizes: tuple[int, ...], size: int) -> Callable[[int], int]:
    """The naive way."""
    _, data = prepared(sizes)
    take, net = batches(data, size), network(sizes)
    optimiser = torch.optim.Adam(net.parameters(), lr=LR, weight_decay=PRECISION / ROWS)
    loss = nn.CrossEntropyLoss() if sizes[-1] > 1 else nn.BCEWithLogitsLoss()

    def run(rounds: int) -> int:
        for i in range(50 * rounds):
            x, y = take(i)
            optimiser.zero_grad()
            loss(net(x), y).backward()
            optimiser.step()
        return 50 * rounds

    return run


def together(members: int, sizes: tuple[int, ...], size: int, way: str) -> Callable[[int], int]:
    """All networks at once."""
    target, data = prepared(sizes)
    take, params, rng = batches(data, size), starts(target, members, 0), generator(0)
    kept = {"params": params, "state": adam_init(params)}
    steps = 1 if way == "unrecorded" else 10**6  # of the run: whether it is worth a recording

    def run(rounds: int) -> int:
        for i in range(rounds):
            x, y = take(i)
            _, grads = loss_and_gradient(target, kept["params"], Batch(x, y, ROWS, i, steps), rng)
            if way == "ours":
                kept["state"] = adam_step_(kept["params"], grads, kept["state"], LR)
            else:
                kept["params"], kept["state"] = adam_step(kept["params"], grads, kept["state"], LR)
        return members * rounds

    return run


def worker() -> None:
    """Answer ``{"way", "task", "batch", "seconds"}`` with network steps a CPU second."""
    torch.set_num_threads(1)
    known: dict[tuple[Any, ...], Callable[[int], int]] = {}

    def answer(request: Request) -> dict[str, Any]:
        members, sizes = TASKS[request["task"]]
        way, size = request["way"], request["batch"]
        key = (way, request["task"], size)
        if key not in known:
            known.clear()
            known[key] = loop(sizes, size) if way == "loop" else together(members, sizes, size, way)
        known[key](1)
        return {"rate": rate(known[key], request["seconds"])}

    serve(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jax", help="the python of an environment with JAX and Optax")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds of a turn")
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker()
        return
    ours = {way: Worker(sys.executable, "benchmarks.members", options.core, "--worker") for way in WAYS}
    theirs = Worker(options.jax, "benchmarks.peers.jax_members", options.core) if options.jax else None
    found: dict[str, dict[str, Any]] = {}
    for task, (members, sizes) in TASKS.items():
        for batch in BATCHES:
            rates: dict[str, list[float]] = {}
            for _ in range(options.repeats + 1):
                request = {"task": task, "batch": batch, "seconds": options.seconds}
                for way, program in ours.items():
                    rates.setdefault(way, []).append(program.ask({**request, "way": way})["rate"])
                if theirs is not None:
                    shape = {"members": members, "sizes": sizes, "rows": ROWS, "lr": LR, "precision": PRECISION}
                    rates.setdefault("jax", []).append(theirs.ask({**request, **shape})["rate"])
            rates = {k: v[1:] for k, v in rates.items()}  # the first turn is for warming up
            entry: dict[str, Any] = {k: summary(v) for k, v in rates.items()}
            entry["over the loop"] = {k: ratios(v, rates["loop"]) for k, v in rates.items() if k != "loop"}
            found[f"{task}, batches of {batch}"] = entry
            print(task, batch, {k: v["median"] for k, v in entry["over the loop"].items()}, flush=True)
    versions = theirs.ask({"versions": True}) if theirs is not None else {}
    for program in (*ours.values(), *([] if theirs is None else [theirs])):
        program.close()
    load = {"load_after": round(os.getloadavg()[0], 1)}
    write(options.out, {**environment(), **load, "peer": versions, "network_steps_a_cpu_second": found})


if __name__ == "__main__":
    main()
