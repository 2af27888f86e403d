"""Learned augmentation of CIFAR-10 beside none, crop and flip, and a TrivialAugment-like policy.

    python -m benchmarks.cifar --arm learn --seed 0
    python -m benchmarks.cifar --all --seeds 3             # two hours a seed on one core
    python -m benchmarks.cifar --all --seeds 3 --net cnn   # a quarter of an hour a seed
    python -m benchmarks.cifar --summary

Each run trains the built-in ``resnet``, or ``cnn``. ``crop-flip`` shifts each image by up to 4 pixels (mirrored at the
border) and flips it half of the time; ``trivial`` is `nv.Trivial`. ``learn`` starts `Affine`, `Flip` and `Colour` from
their small defaults and is told nothing; its folds are included. The other arms are plain trainings of as many steps as
its last. One JSON file a run lies in ``results/cifar``; runs that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.mnist import RATE, described
from novacula.inference.loop import default_batch_size
from novacula.study.learning.plan import ROUNDS

RESULTS = Path(__file__).parent / "results" / "cifar"
ARMS = ("none", "crop-flip", "trivial", "learn")
_PAD = 4


@dataclass(frozen=True, eq=False)
class CropFlip:
    """Whole-pixel shifts of up to 4 pixels, mirrored at the border, and a flip half of the time; nothing to learn."""

    eta: Tensor = field(default_factory=lambda: torch.zeros(0))
    names: tuple[str, ...] = ()
    learnable: ClassVar[tuple[str, ...]] = ()
    averages_predictions: ClassVar[bool] = False

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


def run(net: str, arm: str, seed: int, train: int, threads: int) -> dict[str, object]:
    """One run of one arm."""
    torch.set_num_threads(threads)
    data, test = load(train, seed)
    learned = nv.Compose(nv.Affine(padding="reflection"), nv.Flip(), nv.Colour())
    invariance = {"none": None, "crop-flip": CropFlip(), "trivial": nv.Trivial(), "learn": learned}[arm]
    network = nv.networks.make(net, data.x_shape, 10, seed=seed)
    target, cpu, said = nv.Target(network, invariance=invariance), time.process_time(), dict[str, object]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        if arm == "learn":
            fit = nv.learn(target, data, seed=seed)
            posterior, said = fit.posterior, described(fit)
        else:
            steps = ROUNDS * nv.study.default_method(data.n).first
            batch = default_batch_size(data.n)
            posterior = nv.infer(nv.MAP(lr=RATE), target, data, steps=steps, batch_size=batch, seed=seed)
    cpu = time.process_time() - cpu
    scores = nv.prediction.evaluate(nv.predict(posterior, test.x), test.y)
    return {
        "arm": arm,
        "net": net,
        "seed": seed,
        "train": data.n,
        "test": test.n,
        "accuracy": scores["accuracy"],
        "nll": scores["nll"],
        "cpu_seconds": cpu,
        "environment": environment(),
        **said,
    }


def summary() -> str:
    """The table of results, in Markdown."""
    found = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))]
    lines = [
        "| net | images | seed | arm | accuracy | NLL | CPU-s |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    order = sorted(found, key=lambda r: (r["net"], r["train"], r["seed"], ARMS.index(r["arm"])))
    return "\n".join(
        [
            *lines,
            *(
                f"| {r['net']} | {r['train']} | {r['seed']} | {r['arm']} | {r['accuracy']:.4f} | {r['nll']:.3f} "
                f"| {r['cpu_seconds']:.0f} |"
                for r in order
            ),
        ]
    )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", choices=ARMS, default="learn")
    parser.add_argument("--net", choices=("resnet", "cnn"), default="resnet")
    parser.add_argument("--train", type=int, default=4000, help="training images, of 10,000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    jobs = [(a, s) for s in range(options.seeds) for a in ARMS] if options.all else [(options.arm, options.seed)]
    for arm, seed in [] if options.summary else jobs:
        path = RESULTS / f"{options.net}-{options.train}-{arm}-{seed}.json"
        if not path.exists():
            write(path, run(options.net, arm, seed, options.train, options.threads))
    print(summary())


if __name__ == "__main__":
    main()
