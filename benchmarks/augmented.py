"""Temperatures without augmentation, and with copies that count as data, or whose logits or probabilities are averaged.

    python -m benchmarks.augmented     # a minute

300 of scikit-learn's digits, 500 others for the test, a 64-32-10 net, rotations of ±18° and four copies, SGLD.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import torch

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "augmented.json"


def main() -> None:
    """Run all arms."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    data, began = nv.load("digits").split(300, seed=0), time.process_time()
    train, test = data[0], data[1].subset(range(500))
    net = nv.networks.make("mlp", train.x_shape, 10, width=32, depth=1)
    turns = nv.Affine(eta=torch.tensor([0.1]), only=("rotation",))
    options = {"temperatures": (0.03, 0.1, 0.3), "steps": 600, "batch_size": 100, "seeds": (0, 1)}
    found = nv.study.augmented(nv.SGLD(lr=1e-3, keep=20), net, train, test, turns, **options)
    for name, study in found.items():
        print(name, study.verdict, study.table(), sep="\n")
    told = {name: study.to_dict() for name, study in found.items()}
    write(RESULTS, {"arms": told, "cpu_seconds": time.process_time() - began, "environment": environment()})


if __name__ == "__main__":
    main()
