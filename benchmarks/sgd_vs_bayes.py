"""Is training a draw from the posterior? Bit 0 of seven, 32 inputs for training, 16 others to tell functions apart.

    python -m benchmarks.sgd_vs_bayes --speed          # seconds that 5,000 networks take to zero error
    python -m benchmarks.sgd_vs_bayes --null           # false alarms where training is the posterior
    python -m benchmarks.sgd_vs_bayes --bit0           # one network, many ways to train it
    python -m benchmarks.sgd_vs_bayes --map            # width × depth × examples × optimiser; goes on where it was
    python -m benchmarks.sgd_vs_bayes --figure         # the map as a picture
    python -m benchmarks.sgd_vs_bayes --mnist          # parity of 100 images of 14 × 14, against wide networks

``results/sgd_vs_bayes.json`` holds what was found. ``--keep FOLDER`` keeps networks and draws, so that an interrupted
run goes on within a cell as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.diagnostics import two_samples
from novacula.inference import Descent
from novacula.study.sampling.reference import reference
from novacula.study.sampling.task import Task

RESULT = Path(__file__).parent / "results" / "sgd_vs_bayes.json"
STOP = 80.0  # CPU seconds after which no cell is begun: the same command goes on
PICTURE = RESULT.with_suffix(".png")
SGD, ADAM = Descent("sgd", lr=0.1, beyond=(16, 64)), Descent("adam", lr=0.01, beyond=(16, 64))
WAYS: dict[str, dict[str, Any]] = {
    "SGD, batches of 8": {"method": SGD},
    "SGD, all 32 at once": {"method": replace(SGD, batch_size=32)},
    "SGD, one at a time": {"method": replace(SGD, batch_size=1, lr=0.02)},
    "SGD, a tenth of the rate": {"method": replace(SGD, lr=0.01)},
    "SGD with momentum .9": {"method": replace(SGD, lr=0.01, momentum=0.9)},
    "SGD, squared loss": {"method": replace(SGD, lr=0.02, loss="squared")},
    "Adam, batches of 8": {"method": ADAM},
    "Adam, squared loss": {"method": replace(ADAM, loss="squared")},
    "SGD from PyTorch's initialisation": {"method": SGD, "init": "own"},
    "SGD from near the origin (control)": {"method": SGD, "init": nv.FanIn(0.25, 0.25)},
}


def network(width: int = 40, depth: int = 2) -> nn.Module:
    """7-40-40-1 with ReLU, or others."""
    return nv.networks.make("mlp", (7,), 1, seed=0, width=width, depth=depth, activation="relu")


def bit0(n: int = 32, seed: int = 0) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Training data and the other inputs of the cube, labelled by their first bit."""
    x = nv.functions.cube(7)
    order = torch.randperm(128, generator=torch.Generator().manual_seed(seed))
    a, b = order[:n], order[n:]
    return (x[a], x[a, 0].long()), (x[b], x[b, 0].long())


def asked(**how: Any) -> dict[str, Any]:
    """A comparison on bit 0, as plain values with the CPU seconds that it took here."""
    n, width, depth = how.pop("n", 32), how.pop("width", 40), how.pop("depth", 2)
    began = time.process_time()
    found = nv.study.sgd_vs_bayes(network(width, depth), *bit0(n), **how)
    print(found, flush=True)
    return {**found.to_dict(), "cpu_seconds": time.process_time() - began}


def known() -> dict[str, Any]:
    """What was found before."""
    return json.loads(RESULT.read_text()) if RESULT.exists() else {"environment": environment()}


def record(section: str, rows: dict[str, Any]) -> None:
    """Write a section; others may have been written meanwhile."""
    write(RESULT, {**known(), section: rows})


def speed() -> None:
    """Seconds of 5,000 networks to zero error, by one process and by two."""
    rows: dict[str, Any] = {}
    for name, workers in (("one process", 1), ("two processes", 2)):
        wall, began = time.perf_counter(), time.process_time()
        found = nv.study.sgd_vs_bayes(
            network(), *bit0(), method=Descent(lr=0.1), nets=5000, draws=32, moves=1, workers=workers, seed=1
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - began
        rows[name] = {"wall_seconds": wall, "cpu_seconds_here": cpu, "nets": found.nets, "stops": list(found.stops)}
        print(name, rows[name], flush=True)
    record("speed", rows)


def null() -> None:
    """Share of alarms at 5 %: draws by rejection against others, and against splitting, on a small network."""
    x = nv.functions.cube(5)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    net = nv.networks.make("mlp", (5,), 1, seed=0, width=10, depth=1, activation="relu")
    a, b = order[:10], order[10:]
    task = Task.of(net, (x[a], y[a]), (x[b], y[b]), nv.FanIn(), None)
    rng, rows = np.random.default_rng(0), known().get("null", {})

    def alarms(name: str, runs: int, other: Callable[[int], Any] | None) -> None:
        if name in rows:
            return
        size = 10_000 if other is None else 40_000
        pool = reference(task, "rejection", size, 10**8, 1, seed=0, progress=lambda *_: None).functions
        found = []
        for i in range(runs):
            # Two parts of the pool have no network in common.
            chosen = rng.choice(len(pool), 2000, replace=False)
            mine, theirs = pool[chosen[:1000]], pool[chosen[1000:]] if other is None else other(i)
            both, index = np.unique(
                np.concatenate([mine.labels[:, :16], theirs.labels[:, :16]]), axis=0, return_inverse=True
            )
            one, two = np.split(index.reshape(-1), [1000])
            each = [np.bincount(two[theirs.population == k], minlength=len(both)) for k in np.unique(theirs.population)]
            found.append(two_samples(np.bincount(one, minlength=len(both)), np.stack(each), permutations=199, seed=i))
        p = np.array([f.p_value for f in found])
        rows[name] = {
            "runs": runs,
            "alarms": float((p <= 0.05).mean()),
            "alarms_at_20": float((p <= 0.2).mean()),
            "bound_above_zero": float(np.mean([f.least.low > 0 for f in found])),
            "variation": float(np.mean([f.total_variation.value for f in found])),
            "floor": float(np.mean([f.total_variation.null for f in found])),
            "worth": float(np.mean([f.sizes[1] for f in found])),
        }
        print(name, rows[name], flush=True)
        record("null", rows)

    def split(moves: int, seed: int) -> Any:
        return reference(task, "splitting", 800, 0, moves, seed=seed, progress=lambda *_: None).functions

    alarms("rejection", 1000, None)
    for moves in (4, 8):
        alarms(f"splitting, {moves} moves", 200, partial(split, moves))


def ways(keep: Path | None) -> None:
    """One network, many ways to train it."""
    rows = known().get("bit0", {})
    for name, how in WAYS.items():
        if name not in rows and time.process_time() < STOP:
            print(name, flush=True)
            constants = {"all 0": "0" * 16, "all 1": "1" * 16}
            rows[name] = asked(nets=2000, draws=2000, named=constants, epochs=2000, keep=keep, **how)
            record("bit0", rows)


def cells(keep: Path | None) -> None:
    """The map, cell by cell."""
    rows = known().get("map", {})
    for n, depth, width, (name, method) in itertools.product(
        (16, 32), (1, 2, 3), (10, 40), (("SGD", SGD), ("Adam", ADAM))
    ):
        key = f"width {width}, depth {depth}, n {n}, {name}"
        if key not in rows and time.process_time() < STOP:
            print(key, flush=True)
            found = asked(n=n, width=width, depth=depth, method=method, nets=500, draws=1000, epochs=2000, keep=keep)
            about = {"width": width, "depth": depth, "n": n, "optimiser": name}
            rows[key] = {**about, **{k: v for k, v in found.items() if k != "top"}}
            record("map", rows)


def images() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """A hundred images of MNIST at half their resolution and 400 others, labelled by parity."""
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
    chosen = torch.randperm(data.n, generator=torch.Generator().manual_seed(0))[:500]
    x = nn.functional.avg_pool2d(data.x[chosen].reshape(-1, 1, 28, 28).float(), 2)
    x, y = (x - x.mean()) / x.std(), data.y[chosen] % 2
    return (x[:100], y[:100]), (x[100:], y[100:])


def of_images(kind: str) -> nn.Module:
    """A perceptron or a network of two convolutions, of one output."""
    if kind == "MLP":
        return nn.Sequential(nn.Flatten(), nn.Linear(196, 100), nn.ReLU(), nn.Linear(100, 1))
    convolutions = (nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU())
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64, 1))


def mnist(keep: Path | None) -> None:
    """Networks for images against infinitely wide ones."""
    rows = known().get("mnist", {})
    sgd, adam = replace(SGD, lr=0.05, beyond=(16,)), replace(ADAM, lr=0.003, beyond=(16,))
    steps = {
        "SGD, batches of 8": sgd,
        "Adam, batches of 8": adam,
        "SGD, all at once": replace(sgd, batch_size=100),
    }
    for (name, method), kind in itertools.product(steps.items(), ("MLP", "CNN")):
        key = f"{kind}, {name}"
        if key in rows or time.process_time() > STOP:
            continue
        print(key, flush=True)
        began = time.process_time()
        found = nv.study.sgd_vs_bayes(
            of_images(kind), *images(), method=method, nets=200, draws=2000, points=10, by="nngp", keep=keep
        )
        print(found, flush=True)
        rows[key] = {"net": kind, "way": name, **found.to_dict(), "cpu_seconds": time.process_time() - began}
        record("mnist", rows)


def picture(result: dict[str, Any]) -> None:
    """The map: total variation less what chance gives, and the share that sampling explains, cell by cell."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharey=True)
    cells = sorted(result["map"].values(), key=lambda c: (c["n"], c["optimiser"], c["depth"], c["width"]), reverse=True)
    colours = {0: "#1f5f8b", 16: "#d9a441", 64: "#b0522d"}
    for place, cell in enumerate(cells):
        for row, shift in zip(cell["checkpoints"], (0.22, 0.0, -0.22), strict=True):
            colour, y = colours[row["beyond"]], place + shift
            value, low, high = row["functions"]["least"]
            axes[0].plot([low, high], [y, y], color=colour, linewidth=1.6)
            axes[0].plot(value, y, "o", color=colour, markersize=3)
            value, low, high = row["share"]
            axes[1].plot([low, high], [y, y], color=colour, linewidth=1.6)
            axes[1].plot(value, y, "o", color=colour, markersize=3)
    texts = [f"{c['optimiser']}, {c['n']} examples, {c['depth']} × {c['width']}" for c in cells]
    axes[0].set_yticks(range(len(cells)), texts, fontsize=7)
    axes[0].set_xlabel("total variation at least, 95 % interval")
    axes[1].set_xlabel("share of the gain over guessing that sampling explains")
    axes[1].axvline(1.0, color="#888888", linewidth=0.8)
    for beyond, colour in colours.items():
        axes[0].plot([], [], color=colour, label=f"stop + {beyond} epochs")
    axes[0].legend(fontsize=7, frameon=False, loc="lower right")
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.set_ylim(-0.6, len(cells) - 0.4)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=130)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("speed", "null", "bit0", "map", "figure", "mnist"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.speed:
        speed()
    if options.null:
        null()
    if options.bit0:
        ways(options.keep)
    if options.map:
        cells(options.keep)
    if options.mnist:
        mnist(options.keep)
    if options.figure:
        picture(known())


if __name__ == "__main__":
    main()
