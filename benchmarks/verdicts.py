"""Verdicts of `nv.learn` where they are known: cells of a data set and a transformation, planted.

    python -m benchmarks.verdicts                  # every data set; about half an hour on one core
    python -m benchmarks.verdicts --only tilt      # one
    python -m benchmarks.verdicts --truth          # what each transformation is worth on 2,000 other images
    python -m benchmarks.verdicts --summary

Each data set is 600 digits of MNIST at 14 × 14 pixels, changed so that a transformation is *needed* (images were
changed by it at random, and the label does not tell), *harmful* (the label is what it changes, by less than a usual
strength), or has exactly *no effect* (images do not change under it). ``nv.learn`` is called with its defaults and
small ``cnn``. A verdict is right if it is the planted one, wrong if it claims another (``needed``, ``harmful``,
``no effect``), and otherwise undecided. Results lie in ``results/verdicts/<seed>.json``.

What is planted is what was done to the images, which have varied by it already: that training with more of it helps 600
of them is an assumption. ``--truth`` tests it without ``learn``: plain networks, trained on the 600 with a
transformation at its usual strength and without any, three starts each, are compared on 2,000 images made alike (2,800
steps, as ``learn`` takes), each at the temperature that is best for it there, as verdicts are of calibrated losses. The
standard error is that of starts and of images, in pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import novacula as nv
from benchmarks.common import environment, write
from novacula.invariances.perturb import parse, perturb
from novacula.study.learning.each import STRENGTH

RESULTS = Path(__file__).parent / "results" / "verdicts"
N, TEST = 600, 2_000
STARTS, STEPS = 3, 2_800
GEOMETRY = ("rotation", "translation_x", "translation_y", "scale", "stretch", "shear")


def digits(seed: int, test: bool) -> tuple[Tensor, Tensor]:
    """Images ``(600, 1, 14, 14)`` in [0, 1] and their digits; or 2,000 others."""
    with np.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz") as saved:
        rows = np.random.default_rng(seed).permutation(len(saved["labels"]))
        rows = rows[N : N + TEST] if test else rows[:N]
        x = torch.from_numpy(saved["images"][rows]).float()[:, None] / 255
        return torch.nn.functional.avg_pool2d(x, 2), torch.from_numpy(saved["labels"][rows]).long()


def moved(x: Tensor, by: dict[str, Tensor]) -> Tensor:
    """Images moved by an affine generator each, by amounts ``(N,)`` in the units of its extent."""
    invariance = nv.Affine(eta=torch.ones(len(by)), only=tuple(by))  # type: ignore[arg-type]
    return invariance(x, torch.stack(list(by.values()), 1))


def tinted(x: Tensor, hue: Tensor) -> Tensor:
    """Images in a colour of this hue, in turns of the circle."""
    red = torch.cat([x, 0.3 * x, 0.3 * x], 1)
    return nv.Colour(eta=torch.ones(1), only=("hue",))(red, 2 * hue[:, None])


Made = tuple[Tensor, Tensor, dict[str, str]]


def cases(seed: int, *, test: bool = False) -> dict[str, Callable[[], Made]]:
    """The data sets by name: images, labels, and the planted verdicts; or what they are tested on."""
    x, y = digits(seed, test)
    halves = torch.arange(len(x)) % 2
    sides = 2.0 * halves - 1
    seed += 1_000 * test

    def uniform(scale: float) -> Tensor:
        return scale * (2 * torch.rand(len(x), generator=torch.Generator().manual_seed(seed)) - 1)

    mixed = (uniform(1.0) < 0)[:, None, None, None]
    grey, half = x.expand(-1, 3, -1, -1), halves.bool()[:, None, None, None]
    needed, harmful, nothing = "needed", "harmful", "no effect"
    small = torch.nn.functional.pad(torch.nn.functional.avg_pool2d(x, 2), (0, 7, 3, 4))
    return {
        "upright": lambda: (x, y, {"translation_x": needed, "flip": harmful, "flip_vertical": harmful}),
        "rotated-180": lambda: (perturb(x, [parse("rotate=180")], seed=seed), y, {"rotation": needed, "shear": ""}),
        "rotated-90": lambda: (perturb(x, [parse("rotate=90")], seed=seed), y, {"rotation": needed, "stretch": ""}),
        "shifted": lambda: (
            perturb(x, [parse("translate=0.25")], seed=seed),
            y,
            {"translation_x": needed, "translation_y": needed},
        ),
        "scaled": lambda: (moved(x, {"scale": uniform(0.7)}), y, {"scale": needed}),
        "stretched": lambda: (moved(x, {"stretch": uniform(0.7)}), y, {"stretch": needed}),
        "sheared": lambda: (moved(x, {"shear": uniform(0.8)}), y, {"shear": needed}),
        "mirrored": lambda: (torch.where(mixed, x.flip(3), x), y, {"flip": needed, "flip_vertical": ""}),
        "upside-down": lambda: (torch.where(mixed, x.flip(2), x), y, {"flip_vertical": needed}),
        "dimmed": lambda: (x + uniform(0.8)[:, None, None, None], y, {"brightness": needed}),
        "faded": lambda: (x * uniform(1.5).exp()[:, None, None, None], y, {"contrast": needed}),
        "coloured": lambda: (tinted(x, uniform(0.5)), y, {"hue": needed}),
        "grey": lambda: (grey, y, {"saturation": nothing, "hue": nothing}),
        "symmetric": lambda: ((x + x.flip(3)) / 2, y, {"flip": nothing}),
        "symmetric-vertically": lambda: ((x + x.flip(2)) / 2, y, {"flip_vertical": nothing}),
        "is-mirrored": lambda: (torch.where(half, x.flip(3), x), halves, {"flip": harmful}),
        "is-upside-down": lambda: (torch.where(half, x.flip(2), x), halves, {"flip_vertical": harmful}),
        "left-or-right": lambda: (torch.where(half, small.flip(3), small), halves, {"flip": harmful}),
        "top-or-bottom": lambda: (
            torch.where(half, small.mT.flip(2), small.mT),
            halves,
            {"flip_vertical": harmful, "flip": ""},
        ),
        "tilt": lambda: (moved(x, {"rotation": 0.04 * sides}), halves, {"rotation": harmful}),
        "shift": lambda: (moved(x, {"translation_x": 0.07 * sides}), halves, {"translation_x": harmful}),
        "drop": lambda: (moved(x, {"translation_y": 0.07 * sides}), halves, {"translation_y": harmful}),
        "size": lambda: (moved(x, {"scale": 0.07 * sides}), halves, {"scale": harmful}),
        "width": lambda: (moved(x, {"stretch": 0.07 * sides}), halves, {"stretch": harmful}),
        "lean": lambda: (moved(x, {"shear": 0.07 * sides}), halves, {"shear": harmful}),
        "light": lambda: (x + 0.05 * sides[:, None, None, None], halves, {"brightness": harmful}),
        "strength": lambda: (x * (0.06 * sides).exp()[:, None, None, None], halves, {"contrast": harmful}),
        "hue-is-label": lambda: (
            tinted(x, 0.03 * sides),
            halves,
            {"hue": harmful, "saturation": "", "brightness": ""},
        ),
        "digits-in-red": lambda: (tinted(x, torch.zeros(len(x))), y, {"flip": harmful, "translation_y": needed}),
        "rotated-dimmed": lambda: (
            perturb(x, [parse("rotate=90")], seed=seed) + uniform(0.8)[:, None, None, None],
            y,
            {"rotation": needed, "brightness": needed},
        ),
        "shifted-mirror": lambda: (
            perturb(torch.where(half, x.flip(3), x), [parse("translate=0.25")], seed=seed),
            halves,
            {"flip": harmful, "translation_x": needed, "translation_y": needed},
        ),
        "light-rotated": lambda: (
            perturb(x, [parse("rotate=180")], seed=seed) + 0.05 * sides[:, None, None, None],
            halves,
            {"brightness": harmful},
        ),
        "grey-symmetric": lambda: (
            ((grey + grey.flip(3)) / 2),
            y,
            {"hue": nothing, "saturation": nothing, "flip": nothing},
        ),
    }


def offered(names: list[str]) -> nv.invariances.Invariance:
    """An invariance with these transformations, at the extents that it begins with."""
    parts: list[Any] = [
        part(only=tuple(n for n in names if n in known))  # type: ignore[arg-type]
        for part, known in (
            (nv.Affine, GEOMETRY),
            (nv.Flip, ("flip", "flip_vertical")),
            (nv.Colour, ("brightness", "contrast", "saturation", "hue")),
        )
        if any(n in known for n in names)
    ]
    return parts[0] if len(parts) == 1 else nv.Compose(*parts)


def run(x: Tensor, y: Tensor, planted: dict[str, str], seed: int) -> list[dict[str, Any]]:
    """The verdicts of a data set, beside the planted ones; an empty word is offered, and not counted."""
    data = nv.Data(x, y)
    network = nv.networks.make("cnn", data.x_shape, int(y.max()) + 1, seed=seed)
    cpu = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        fit = nv.learn(nv.Target(network, invariance=offered(list(planted))), data, seed=seed)
    cpu = time.process_time() - cpu
    return [
        {"transformation": name, "planted": word, **fit.verdicts[name], "cpu_seconds": cpu}
        for name, word in planted.items()
        if word
    ]


def calibrated(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Losses at the temperature that is best for them, so that what a transformation does is more than to calibrate."""
    logits = probabilities.clamp(min=1e-30).log()
    tried = [-(logits / t).log_softmax(1)[torch.arange(len(labels)), labels] for t in np.geomspace(0.2, 10, 200)]
    return min(tried, key=lambda losses: float(losses.mean()))


def truth(name: str, seed: int) -> dict[str, dict[str, float]]:
    """What each transformation of a data set gains over none on other images, nats an example, and its error."""
    (x, y, planted), (images, labels, _) = cases(seed)[name](), cases(seed, test=True)[name]()
    data = nv.Data(x, y)
    network = nv.networks.make("cnn", data.x_shape, int(y.max()) + 1, seed=seed)

    def losses(transformation: str | None) -> Tensor:  # (STARTS, TEST)
        invariance = None if transformation is None else offered([transformation])
        if invariance is not None:
            invariance = dataclasses.replace(invariance, eta=torch.tensor([STRENGTH[transformation]]))  # type: ignore
        target = nv.Target(network, invariance=invariance)
        options = {"epochs": -(-STEPS * 25 // N), "batch_size": 25}
        each = [nv.infer(nv.MAP(lr=4e-3), target, data, seed=start, **options) for start in range(STARTS)]
        return torch.stack([calibrated(nv.predict(p, images).mean().detach().double(), labels) for p in each])

    without, found = losses(None), {}
    for transformation in (k for k, word in planted.items() if word):
        gains = without - losses(transformation)
        error = math.hypot(float(gains.mean(1).std()) / STARTS**0.5, float(gains.mean(0).std()) / TEST**0.5)
        found[transformation] = {"gain": float(gains.mean()), "stderr": error}
    return found


def summary(seed: int) -> str:
    """The cells, and how many are right, undecided and wrong."""
    cells = json.loads((RESULTS / f"{seed}.json").read_text())["cells"]
    marks = [
        "right" if c["verdict"] == c["planted"] else "undecided" if c["verdict"] == "undecided" else "WRONG"
        for c in cells
    ]
    lines = ["| data | transformation | planted | verdict | extent | gain | on test images |"]
    lines += ["| --- | --- | --- | --- | ---: | ---: | ---: |"]
    lines += [
        f"| {c['data']} | {c['transformation']} | {c['planted']} | {c['verdict']}{' (wrong)' if m == 'WRONG' else ''} "
        f"| {c['extent']:.2f} | {c['gain']:+.4f} ± {c['stderr']:.4f} | {worth(c)} |"
        for c, m in zip(cells, marks, strict=True)
    ]
    return "\n".join([*lines, "", f"{len(cells)} cells: {dict(Counter(marks))}"])


def worth(cell: dict[str, Any]) -> str:
    """What a transformation gains on test images, in words."""
    found = cell.get("truth")
    return "–" if found is None else f"{found['gain']:+.3f} ± {found['stderr']:.3f}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"{options.seed}.json"
    cells = json.loads(path.read_text())["cells"] if path.exists() else []
    wanted = [] if not options.truth else [c["data"] for c in cells if options.only in ("", c["data"])]
    for name in dict.fromkeys(wanted):
        if not all("truth" in c for c in cells if c["data"] == name) or options.only:
            found = truth(name, options.seed)
            cells = [{**c, "truth": found[c["transformation"]]} if c["data"] == name else c for c in cells]
            write(path, {"cells": cells, "environment": environment()})
            print(name, found, flush=True)
    for name, make in {} if options.summary or options.truth else cases(options.seed).items():
        if (options.only and name != options.only) or (not options.only and any(c["data"] == name for c in cells)):
            continue
        x, y, planted = make()
        found = [{"data": name, **cell} for cell in run(x, y, planted, options.seed)]
        cells = [c for c in cells if c["data"] != name] + found
        write(path, {"cells": cells, "environment": environment()})
        for c in found:
            print(name, c["transformation"], c["planted"], c["verdict"], f"{c['cpu_seconds']:.0f} s", flush=True)
    print(summary(options.seed))


if __name__ == "__main__":
    main()
