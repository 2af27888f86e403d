"""Learned augmentation of CIFAR-10 beside none and beside the usual hand-picked one, with a small residual network.

    python -m benchmarks.cifar --arm learn --seed 0
    python -m benchmarks.cifar --all --seeds 3
    python -m benchmarks.cifar --summary

``crop-flip`` shifts each image by up to 4 pixels (mirrored at the border) and flips it half of the time. ``learn``
starts `Affine`, `Flip` and `Colour` from their small defaults and is told nothing. Both average the network over as
many copies in training and in prediction; accuracies on the plain test images, as is usual for hand-picked
augmentation, stand beside those. Prior precisions are learned in every arm. One JSON file a run in ``results/cifar``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

import novacula as nv
from benchmarks.common import environment, write
from novacula.evidence import Laplace, NTKSubset
from novacula.posteriors.base import Point

RESULTS = Path(__file__).parent / "results" / "cifar"
ARMS = ("none", "crop-flip", "learn")
_PAD = 4
BATCH = 50
# Small, and five times an epoch: gradients of the evidence are most of the cost here.
ESTIMATOR, HYPER_STEPS = NTKSubset(subset=24, copies=8), 5


@dataclass(frozen=True, eq=False)
class CropFlip:
    """Whole-pixel shifts of up to 4 pixels, mirrored at the border, and a flip half of the time; nothing to learn."""

    eta: Tensor = field(default_factory=lambda: torch.zeros(0))
    names: tuple[str, ...] = ()
    learnable: ClassVar[tuple[str, ...]] = ()

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        return torch.rand(n, 3, generator=rng)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Crop and flip each image."""
        side = 2 * _PAD + 1
        top, left = (noise[:, :2] * side).long().unbind(1)
        columns = torch.arange(x.shape[3]).expand(len(x), -1)
        columns = torch.where(noise[:, 2:] < 0.5, columns.flip(1), columns) + left[:, None]
        rows = top[:, None] + torch.arange(x.shape[2])
        padded = torch.nn.functional.pad(x, (_PAD,) * 4, mode="reflect")
        i, c = torch.arange(len(x))[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None]
        return padded[i, c, rows[:, None, :, None], columns[:, None, None, :]]

    def project(self, eta: Tensor) -> Tensor:
        return eta

    def magnitude(self, eta: Tensor) -> Tensor:
        return eta

    def describe(self) -> dict[str, float]:
        return {"crop_pixels": float(_PAD), "flip_probability": 0.5}


def load(train: int, seed: int) -> tuple[nv.Data, nv.Data]:
    """Training images (a random subset) and the test images, in [0, 1], channels first."""
    folder = Path(os.environ["NOVACULA_DATA"])
    with np.load(folder / "cifar10-small.npz") as stored:
        found = []
        for part in ("train", "test"):
            x = torch.from_numpy(stored[f"{part}_images"]).permute(0, 3, 1, 2).float() / 255
            found.append(nv.Data(x, torch.from_numpy(stored[f"{part}_labels"]).long(), name="cifar10-small"))
    return (found[0] if train >= found[0].n else found[0].split(train, seed=seed)[0]), found[1]


def run(arm: str, seed: int, epochs: int, train: int, test_limit: int, copies: int, threads: int) -> dict[str, object]:
    """One run of one arm."""
    torch.set_num_threads(threads)
    data, test = load(train, seed)
    test = test.subset(slice(test_limit))
    learned = nv.Compose(nv.Affine(padding="reflection"), nv.Flip(), nv.Colour())
    invariance = {"none": None, "crop-flip": CropFlip(), "learn": learned}[arm]
    network = nv.networks.make("resnet", data.x_shape, 10, seed=seed)
    target = nv.Target(network, invariance=invariance, copies=nv.Copies(train=copies, evidence=4, predict=16))
    method = nv.study.default_method(data.n, BATCH)
    method = dataclasses.replace(method, estimator=ESTIMATOR, moves=HYPER_STEPS * epochs)
    score = Laplace("kron", subset=100, copies=2, repeats=1)
    # Points predict: this compares augmentations, and other structures take long.
    fit = nv.learn(
        target,
        data,
        epochs=epochs,
        batch_size=BATCH,
        seed=seed,
        method=method,
        evidence=score,
        folds=0,
        structures=("last_layer",),
        progress=lambda done, _, record: print(arm, seed, done, f"{record['loss']:.3f}", flush=True),
    )
    plain = Point(fit.params, dataclasses.replace(fit.target, invariance=None))
    tests = {"averaged": nv.predict(fit.point, test.x), "plain_image": nv.predict(plain, test.x)}
    scores = {k: nv.prediction.evaluate(p, test.y) for k, p in tests.items()}
    return {
        "arm": arm,
        "seed": seed,
        "epochs": epochs,
        "copies": copies,
        "method": fit.settings["method"],
        "n_train": data.n,
        "n_test": test.n,
        "accuracy": scores["averaged"]["accuracy"],
        "nll": scores["averaged"]["nll"],
        "test": scores,
        "extents": None if fit.target.invariance is None else fit.target.invariance.describe(),
        "extents_by_epoch": [{k: v for k, v in r.items() if k.startswith("extent/")} for r in fit.history],
        "evidence_per_example": fit.evidence.per_example,
        "seconds": fit.seconds,
        "warnings": list(fit.warnings),
        "environment": environment(),
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", choices=ARMS, default="learn")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--train", type=int, default=4000, help="training images, of 10,000")
    parser.add_argument("--test", type=int, default=2000, help="test images, of 2,000")
    parser.add_argument("--copies", type=int, default=2, help="transformed copies in a training step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    jobs = [(a, s) for s in range(options.seeds) for a in ARMS] if options.all else [(options.arm, options.seed)]
    for arm, seed in [] if options.summary else jobs:
        result = run(arm, seed, options.epochs, options.train, options.test, options.copies, options.threads)
        write(RESULTS / f"{arm}-{seed}.json", result)
    for r in (json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))):
        plain = r["test"]["plain_image"]["accuracy"]
        print(f"{r['arm']:10} {r['seed']}  {r['accuracy']:.4f} (plain {plain:.4f})  {r['seconds']['total']:.0f} s")


if __name__ == "__main__":
    main()
