"""What `nv.augment` says where the answer is known: planted cases on MNIST and CIFAR-10.

    python -m benchmarks.augment --case upright --seconds 480

| case | images | truth |
| --- | --- | --- |
| upright | 800 digits | small rotations, shifts and deformations help; mirror images harm |
| six-nine | 400 sixes and nines | turning by any angle harms |
| mirrored | 400 digits, half of them mirrored, which is the label | mirror images harm |
| photos | 1,000 images of CIFAR-10 | mirror images help or are undecided; upside down harms or is undecided |
| tint | 400 images of CIFAR-10 with a red or a green cast, which is the label | hue harms or is undecided |
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

import novacula as nv
from benchmarks.common import environment, write

RESULTS = Path(__file__).parent / "results" / "augment"
CASES: dict[str, tuple[str, ...]] = {
    "upright": (),
    "six-nine": ("rotation",),
    "mirrored": ("flip", "flip_vertical"),
    "photos": ("flip", "flip_vertical", "hue"),
    "tint": ("hue",),
}
EXPECTED: dict[str, dict[str, tuple[str, ...]]] = {
    "upright": {
        "rotation": ("needed", "undecided"),
        "translation_x": ("needed", "undecided"),
        "translation_y": ("needed", "undecided"),
        "scale": ("needed", "undecided"),
        "deformation": ("needed", "undecided"),
        "flip": ("harmful",),
        "flip_vertical": ("harmful",),
    },
    "six-nine": {"rotation=1": ("harmful",)},
    "mirrored": {"flip": ("harmful",)},
    "photos": {"flip": ("needed", "undecided"), "flip_vertical": ("harmful", "undecided", "no effect")},
    "tint": {"hue": ("harmful", "undecided")},
}
"""What may be said of a transformation, or of one extent of it."""


def data_of(case: str) -> nv.Data:
    """The images of a case."""
    folder = Path(os.environ["NOVACULA_DATA"])
    if case in {"photos", "tint"}:
        with np.load(folder / "cifar10-small.npz") as saved:
            rows = np.random.default_rng(0).permutation(len(saved["train_labels"]))
            if case == "photos":
                rows = rows[:1000]
                return nv.Data(saved["train_images"][rows], saved["train_labels"][rows], name=case)
            x = nv.Data(saved["train_images"][rows[:400]], np.arange(400) % 2, name=case)
        cast = torch.tensor([[1.0, 0.6, 0.6], [0.6, 1.0, 0.6]])[x.y]
        return x.with_values(x.x * cast[:, :, None, None], x.y)
    with np.load(folder / "mnist10k.npz") as saved:
        images, labels = saved["images"], saved["labels"]
    rows = np.random.default_rng(0).permutation(len(labels))
    if case == "six-nine":
        rows = rows[np.isin(labels[rows], (6, 9))]
    rows = rows[: 800 if case == "upright" else 400]
    images, labels = images[rows], labels[rows]
    if case == "mirrored":
        labels = np.arange(len(rows)) % 2
        images = np.where(labels[:, None, None] == 1, images[:, :, ::-1], images)
    return nv.Data(images, labels, name=case)


def summary(case: str, record: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a record: verdicts, scores, and whether they are what they may be."""
    said = {name: line["verdict"] for name, line in record["verdicts"].items()}
    for name, line in record["verdicts"].items():
        said |= {f"{name}={s['extent']:.6g}": s["verdict"] for s in line["strengths"]}
    wrong = [name for name, allowed in EXPECTED[case].items() if said.get(name, "not tried") not in allowed]
    kept = ("verdicts", "comparison", "recommended", "against", "converged", "plan", "seconds", "seed", "data")
    return {"case": case, "unexpected": wrong, **{k: record[k] for k in kept}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=[*CASES, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for case in CASES if options.case == "all" else [options.case]:
        advice = nv.augment(data_of(case), only=CASES[case], seconds=options.seconds, seed=options.seed)
        found = summary(case, advice.record())
        write(RESULTS / f"{case}.json", {**found, "environment": environment()})
        print(case, {k: v["verdict"] for k, v in found["verdicts"].items()}, "unexpected:", found["unexpected"])


if __name__ == "__main__":
    main()
