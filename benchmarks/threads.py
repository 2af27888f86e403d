"""What a second thread is worth: a step of training with one thread and with two.

    python -m benchmarks.threads

Steps of 50 examples of the built-in networks, images warped where they are larger than 8 × 8, in turn; medians of five
turns, wall and CPU milliseconds, beside the operations of a forward pass, in ``results/threads.json``. Not to be run
with ``OMP_NUM_THREADS`` set.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

import novacula as nv
from benchmarks.common import environment, write
from novacula.cli.threads import operations

RESULT = Path(__file__).parent / "results" / "threads.json"
NETS = (("mlp", (1, 8, 8)), ("cnn", (1, 8, 8)), ("cnn", (1, 28, 28)), ("cnn", (3, 32, 32)), ("resnet", (3, 32, 32)))
TURNS = 5


def main() -> None:
    """Run all and write it down."""
    rows = []
    for name, shape in NETS:
        network = nv.networks.make(name, shape, 10, seed=0)
        data = nv.Data(torch.rand(400, *shape), torch.arange(400) % 10)
        target = nv.Target(network, invariance=nv.Affine() if shape[1] > 8 else None)
        steps = 8 if name == "resnet" else 40
        taken: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for _ in range(TURNS):
            for threads in taken:
                torch.set_num_threads(threads)
                nv.infer(nv.MAP(), target, data, steps=2, batch_size=50, seed=0)
                wall, cpu = time.perf_counter(), time.process_time()
                nv.infer(nv.MAP(), target, data, steps=steps, batch_size=50, seed=0)
                each = (time.perf_counter() - wall) / steps, (time.process_time() - cpu) / steps
                taken[threads].append((1e3 * each[0], 1e3 * each[1]))
        row = {"net": name, "shape": list(shape), "operations": operations(*target.prepare(data))}
        for threads, each in taken.items():
            wall, cpu = (statistics.median(t) for t in zip(*each, strict=True))
            row |= {f"wall_ms_{threads}": wall, f"cpu_ms_{threads}": cpu}
        rows.append(row)
        print(row, flush=True)
    write(RESULT, {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
