"""What a hyper-step costs: memory above a plain training step at 2.3M weights, and time against P, M, S and C.

    python -m benchmarks.memory                # memory: results/memory.json
    python -m benchmarks.memory --scaling      # time: results/scaling.json and results/scaling.png

Each step runs in a process of its own; what counts is the high-water mark of its resident memory above the mark after a
first forward pass. ``plain`` is a step of Adam on 64 images, ``copies`` the same with four transformed copies of each,
and ``hyper`` that followed by a hyper-step: `NTKSubset` with M = 64 and S = 4, its gradient in the six extents and all
prior precisions, and their update.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.peak import MIB, in_subprocess, peak
from novacula.core.params import count
from novacula.core.rng import generator
from novacula.evidence import NTKSubset
from novacula.inference.method import Start
from novacula.study import EmpiricalBayes
from novacula.target.batch import Batch

RESULTS = Path(__file__).parent / "results"
WORKS = ("plain", "copies", "hyper")
LARGE = {"width": 64, "hidden": 1008}
# One setting at a time moves away from the base.
BASE = {"width": 16, "hidden": 128, "subset": 64, "copies": 4, "outputs": 10, "rows": "sampled"}
GRID: dict[str, list[dict[str, Any]]] = {
    "P": [{"width": w, "hidden": h} for w, h in ((4, 32), (8, 64), (16, 128), (32, 256), (64, 512))],
    "M": [{"subset": m} for m in (16, 32, 64, 128, 256)],
    "S": [{"copies": s} for s in (1, 2, 4, 8, 16)],
    "C": [{"outputs": c} for c in (2, 5, 10, 30, 100)],
    "C, all rows": [{"outputs": c, "rows": "all"} for c in (2, 5, 10, 20)],
}


def problem(invariance: bool, outputs: int, copies: int, **network: int) -> tuple[nv.Target, nv.Data]:
    """A convolutional network for 28×28 images, and images of noise: the costs do not depend on what is in them."""
    x = torch.rand(512, 1, 28, 28, generator=generator(0, "images"))
    net = nv.networks.make("cnn", (1, 28, 28), outputs, seed=0, **network)
    averaged = nv.Copies(train=copies, evidence=copies)
    target = nv.Target(net, invariance=nv.Affine() if invariance else None, copies=averaged)
    return target.prepare(nv.Data(x, torch.arange(512) % outputs))


def memory(work: str, steps: int) -> dict[str, float]:
    """MiB above the warm-up's mark; meant for a fresh process."""
    target, data = problem(work != "plain", 10, 4, **LARGE)
    # With no hyper-step due, the method is a plain step of Adam.
    moves = 10**9 if work == "hyper" else 1
    method = EmpiricalBayes(estimator=NTKSubset(subset=64, copies=4), moves=moves, burn_in=0.0)
    with torch.no_grad():
        target.forward(target.params(), data.x[:1])
    before = peak()
    state = method.init(
        target, data, generator(0, "init"), Start({k: w.unsqueeze(0) for k, w in target.params().items()}, 100)
    )
    began = time.perf_counter()
    for step in range(steps):
        # Always at the start of a run, where the extents are learned.
        batch = Batch(data.x[:64], data.y[:64], data.n, 0, 100)
        state, _ = method.step(target, state, batch, generator(0, "step", step))
    return {
        "weights": count(target.params()),
        "before_mib": before / MIB,
        "above_mib": (peak() - before) / MIB,
        "seconds_per_step": (time.perf_counter() - began) / steps,
    }


def hyper_step(subset: int, copies: int, outputs: int, rows: Any, repeats: int, **network: int) -> dict[str, float]:
    """Wall seconds of one estimate and its gradient: median and least."""
    target, data = problem(True, outputs, copies, **network)
    estimator = NTKSubset(subset=subset, copies=copies, outputs=rows)
    params, found = target.params(), []
    for seed in range(repeats + 1):
        leaves = {k: v.detach().clone().requires_grad_() for k, v in target.learnable().items()}
        began = time.perf_counter()
        value = estimator(target.with_learnable(leaves), data, params, seed=seed).value
        torch.autograd.grad(value, list(leaves.values()))
        found.append(time.perf_counter() - began)
    return {"weights": count(params), "seconds": statistics.median(found[1:]), "least": min(found[1:])}


def scaling(repeats: int, limit: int | None) -> dict[str, list[dict[str, Any]]]:
    """The time of a hyper-step for every setting of the grid, or its first few."""
    return {
        axis: [{**BASE, **s, **hyper_step(**{**BASE, **s}, repeats=repeats)} for s in settings[:limit]]
        for axis, settings in GRID.items()
    }


def plot(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Four panels on logarithmic axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(9, 2.6), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    columns = {"P": ("weights", 0), "M": ("subset", 1), "S": ("copies", 2), "C": ("outputs", 3)}
    for axis, rows in found.items():
        key, position = columns[axis[0]]
        label = "one row an example" if axis == "C" else "all C rows" if "," in axis else None
        x, y = [r[key] for r in rows], [1e3 * r["seconds"] for r in rows]
        panels[position].loglog(x, y, "o--" if "," in axis else "o-", label=label)
        panels[position].set_xlabel({"P": "weights P", "M": "examples M", "S": "copies S", "C": "outputs C"}[axis[0]])
    for panel in panels:
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[1].set_xticks([r["subset"] for r in found["M"]], [str(r["subset"]) for r in found["M"]])
    panels[0].set_ylabel("milliseconds a hyper-step")
    panels[3].legend(fontsize="small", loc="center right")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--limit", type=int, help="only the first so many settings of each axis")
    parser.add_argument("--work", choices=WORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.work:
        print(json.dumps(memory(options.work, options.steps)))
    elif options.scaling:
        found = scaling(options.repeats, options.limit)
        write(RESULTS / "scaling.json", {"base": BASE, "axes": found, "environment": environment()})
        plot(found, RESULTS / "scaling.png")
        for axis, rows in found.items():
            print(f"{axis:12}", "  ".join(f"{1e3 * r['seconds']:.0f} ms" for r in rows))
    else:
        shared = ("--threads", options.threads, "--steps", options.steps)
        measured = {w: in_subprocess("benchmarks.memory", "--work", w, *shared, threads=options.threads) for w in WORKS}
        extra = {w: measured["hyper"]["above_mib"] - measured[w]["above_mib"] for w in ("plain", "copies")}
        result = {"works": measured, "hyper_above_mib": extra, "environment": environment()}
        write(RESULTS / "memory.json", result)
        print({w: f"{m['above_mib']:.0f} MiB" for w, m in measured.items()}, "hyper-step above:", extra)


if __name__ == "__main__":
    main()
