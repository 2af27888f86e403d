"""Over how much of a training the prior should come in: `nv.MAP(warm=)` at half and at twice its default, and at none.

    python -m benchmarks.warm            # about six minutes on one core

Networks without any transformation, blind to the first of three folds, 1,200 steps, weights N(0, 1) to begin with:
labels that a small change makes (`benchmarks.verdicts`: a tilt of 7°, a hue, a width), digits, MNIST and photographs.
The loss (nats) and accuracy on the fold, by seeds, stand in ``results/warm.json``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.verdicts import cases

RESULTS = Path(__file__).parent / "results"
SHARES = (0.0, 0.25, 0.5, 1.0)
SEEDS, STEPS = (0, 1), 1_200


def photographs() -> tuple[Tensor, Tensor]:
    """A thousand images of CIFAR-10 in [0, 1], and their classes."""
    with np.load(Path(os.environ["NOVACULA_DATA"]) / "cifar10-small.npz") as saved:
        rows = np.random.default_rng(0).permutation(len(saved["train_labels"]))[:1_000]
        x = torch.from_numpy(saved["train_images"][rows]).float().permute(0, 3, 1, 2) / 255
        return x.contiguous(), torch.from_numpy(saved["train_labels"][rows]).long()


def sets() -> dict[str, tuple[Tensor, Tensor]]:
    """Images and labels by name."""
    planted = {name: cases(0)[name]()[:2] for name in ("tilt", "width", "hue-is-label", "upright")}
    digits = nv.load("digits").subset(range(600))
    return {**planted, "digits": (digits.x, digits.y), "photographs": photographs()}


def run(x: Tensor, y: Tensor, warm: float, seed: int) -> dict[str, Any]:
    """Loss and accuracy on the fold that the network has not seen."""
    net = nv.networks.make("cnn", x.shape[1:], int(y.max()) + 1, seed=seed)
    method = nv.MAP(lr=0.01 if sum(p.numel() for p in net.parameters()) < 50_000 else 4e-3, warm=warm)
    before = time.process_time()
    score = nv.cross_fit(net, nv.Data(x, y), seed=seed, only=1, steps=STEPS, method=method).score()
    return {
        "warm": warm,
        "seed": seed,
        "nll": score["nll"],
        "accuracy": score["accuracy"],
        "cpu_seconds": time.process_time() - before,
    }


def main() -> None:
    """Run all and write it down."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, (x, y) in sets().items():
        for warm in SHARES:
            for seed in SEEDS:
                rows.append({"data": name, **run(x, y, warm, seed)})
                print(rows[-1], flush=True)
        write(RESULTS / "warm.json", {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
