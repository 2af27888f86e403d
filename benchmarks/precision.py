"""What bfloat16 and the order of channels do to a step of training on colour images of 32², batches of 100.

    python -m benchmarks.precision --repeats 3

``ours`` is the gradient of a step as `nv.MAP(precision=…)` takes it, ``plain`` the module's own forward and backward
pass under `torch.autocast`, with its weights and images in either order of memory. Milliseconds of CPU time a step, on
one thread, ways in turns; a first turn is not counted. What the processor knows of bfloat16 is written down as well.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.modules.precision import Precision, computing
from novacula.core.rng import generator
from novacula.networks.cnn import cnn
from novacula.networks.resnet import resnet
from novacula.target.batch import Batch
from novacula.target.training import statistics_of, training_gradient

RESULTS = Path(__file__).parent / "results" / "precision.json"
SHAPE, ROWS = (3, 32, 32), 100
PRECISIONS: tuple[Precision, ...] = ("full", "bfloat16")
FORMATS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def ways(make: Callable[..., nn.Module]) -> dict[str, Callable[[], object]]:
    """A step in each way."""
    torch.manual_seed(0)
    x, y = torch.randn(ROWS, *SHAPE), torch.randint(0, 10, (ROWS,))
    net = make(SHAPE, 10)
    target, data = nv.Target(net, nv.Categorical(), nv.Gaussian(1.0)).prepare(nv.Data(x, y))
    params = {k: w.unsqueeze(0) for k, w in target.params().items()}
    statistics = statistics_of(target, data, 1, {})

    def ours(precision: Precision) -> Callable[[], object]:
        batch = Batch(data.x, data.y, data.n, 0, 10)
        return lambda: training_gradient(target, params, statistics, batch, generator(0), precision)

    def plain(precision: Precision, order: str) -> Callable[[], object]:
        own = make(SHAPE, 10).to(memory_format=FORMATS[order])  # type: ignore[call-overload]
        seen = x.to(memory_format=FORMATS[order])

        def step() -> None:
            with computing(precision, seen):
                f = own(seen)
            nn.functional.cross_entropy(f.float(), y).backward()

        return step

    found = {f"ours, {p}": ours(p) for p in PRECISIONS}
    return {**found, **{f"plain, {order}, {p}": plain(p, order) for order in FORMATS for p in PRECISIONS}}


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, dict[str, float]] = {}
    for name, make in {"cnn": cnn, "resnet": resnet}.items():
        took: dict[str, list[float]] = {}
        steps = ways(make)
        for turn in range(options.repeats + 1):
            for way, step in steps.items():
                began = time.process_time()
                step()
                if turn:
                    took.setdefault(way, []).append(1e3 * (time.process_time() - began))
        table[name] = {way: round(statistics.median(each), 1) for way, each in took.items()}
        print(name, table[name], flush=True)
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    known = sorted(f for f in flags.split() if "bf16" in f)
    write(
        options.out, {"milliseconds": table, "knows": known, "repeats": options.repeats, "environment": environment()}
    )


if __name__ == "__main__":
    main()
