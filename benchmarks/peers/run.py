"""Run one peer on one task and write its report: ``python -m benchmarks.peers.run --peer lila --task digits``."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
from dataclasses import replace

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.peers.common import Budget, write
from benchmarks.peers.task import TASKS, load

PEERS = ("none", "grid", "augerino", "marglik", "lila", "ntk")


def main() -> None:
    """Parse the command, run the peer, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--out", help="JSON file to write; standard output if absent")
    parser.add_argument("--state", help="npz file for the learned weights and hyperparameters")
    parser.add_argument("--peers", help="folder of the peers' checkouts; by default the variable NOVACULA_PEERS")
    parser.add_argument("--data", help="folder of mnist10k.npz; by default the variable NOVACULA_DATA")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="seed of the training; the data keep theirs")
    parser.add_argument("--degrees", type=float, default=180.0, help="largest rotation of the data")
    parser.add_argument("--epochs", type=int, help="by default the driver's own number for the task")
    parser.add_argument("--limit", type=int, help="train on the first so many examples only, to time what is slow")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a driver's setting")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    threadpool_limits(args.threads)
    task = load(args.task, degrees=args.degrees, data=args.data)
    if args.limit is not None:
        task = replace(task, x_train=task.x_train[: args.limit], y_train=task.y_train[: args.limit])
    options = dict(pair.split("=", 1) for pair in args.set)
    driver = importlib.import_module("benchmarks.peers." + ("plain" if args.peer == "none" else args.peer))
    before = os.getloadavg()[0]
    report = driver.run(task, Budget(args.epochs, options, args.peers, args.seed))
    state = report.pop("state")
    if args.state is not None:
        np.savez(args.state, **{name: np.asarray(value) for name, value in state.items()})
    shown = [f"--{k}={v}" for k, v in (("peer", args.peer), ("task", args.task), ("threads", args.threads))]
    shown += [f"--seed={args.seed}", f"--degrees={args.degrees:g}"]
    shown += [f"--epochs={args.epochs}"] if args.epochs is not None else []
    shown += [f"--limit={args.limit}"] if args.limit is not None else []
    shown += [f"--set={pair}" for pair in args.set]
    head = {
        "peer": args.peer,
        "task": args.task,
        "command": shlex.join(["python", "-m", "benchmarks.peers.run", *shown]),
        "threads": args.threads,
        "seed": args.seed,
        "load_average": [before, os.getloadavg()[0]],
        "data": {
            "degrees": task.degrees,
            "n_train": len(task.y_train),
            "n_test": len(task.y_test),
            "fingerprint": task.fingerprint,
        },
        "weights": int(sum(np.asarray(v).size for k, v in state.items() if k.endswith(("weight", "bias")))),
    }
    write(head | report, args.out)


if __name__ == "__main__":
    main()
