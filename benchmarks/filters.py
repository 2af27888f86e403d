"""Extents learned by transforming filters, beside those of transformed inputs, of a shallow net on perturbed MNIST.

    python -m benchmarks.filters --case rotate180 --arm filters --seed 0     # a minute
    python -m benchmarks.filters --all --seeds 2
    NOVACULA_PICTURES=DIR python -m benchmarks.filters --summary             # the table, and results/filters.png

A 784-64-10 net with GELU is trained on 2,000 images of ``mnist10k.npz`` and tested on 2,000 others, perturbed alike.
``fixed`` transforms nothing; ``filters`` has a bank of eight copies in the first layer; ``inputs`` averages over eight
transformed inputs. Both learn the same six extents by the gradient of the same evidence, without folds.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import novacula as nv
from benchmarks.common import environment, runs
from benchmarks.mnist import CASES
from novacula.invariances.affine import AFFINE_NAMES
from novacula.invariances.perturb import parse, perturb
from novacula.structure.filters import Transformed

ARMS = ("fixed", "filters", "inputs")
RESULTS = Path(__file__).parent / "results" / "filters"
PICTURES = Path(os.environ.get("NOVACULA_PICTURES", RESULTS / "pictures"))  # a folder for filters, if it is there
SHOWN = 4  # units in the picture


def run(case: str, arm: str, seed: int) -> dict[str, Any]:
    """One run."""
    torch.set_num_threads(1)
    text = CASES[case][0]
    data = nv.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
    x = perturb(data.x, [parse(text)], seed=seed) if text else data.x
    train, test = data.with_values(x, data.y).split(8000, seed=seed)
    train = train.subset(range(2_000))
    net = nv.networks.make("mlp", train.x_shape, 10, width=64, seed=seed)
    if arm == "filters":
        net = nv.structure.FilterBank(samples=8)(net, {"1": "2"}, train.x[:2])
    invariance = nv.Affine() if arm == "inputs" else None
    target = nv.Target(net, invariance=invariance, copies=nv.Copies(train=8, evidence=8, predict=8))
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        fit = nv.learn(target, train, folds=0, seed=seed)
    seconds = time.process_time() - began
    learned = fit.target.learnable()
    eta = learned.get("network.1.eta", learned.get("invariance.eta"))
    prediction = nv.predict(fit.posterior, test.x)
    if PICTURES.is_dir() and seed == 0 and arm == "filters":
        layer = fit.target.forward.module.get_submodule("1")
        assert isinstance(layer, Transformed)
        with torch.no_grad():
            layer.layer.weight.copy_(fit.params["1.layer.weight"])
            layer.noise.copy_(fit.params["1.noise"])
            each = layer.filters().detach()
        strong = fit.params["3.weight"].norm(dim=0).argsort(descending=True)[:SHOWN]
        np.save(PICTURES / f"{case}.npy", each[:, strong].reshape(8, SHOWN, 28, 28).numpy().astype(np.float16))
    return {
        "case": case,
        "arm": arm,
        "seed": seed,
        "extents": None if eta is None else dict(zip(AFFINE_NAMES, eta.abs().clamp(max=1).tolist(), strict=True)),
        "accuracy": float((prediction.mean().argmax(1) == test.y).double().mean()),
        "nll": -float(prediction.log_prob(test.y).double().mean()),
        "converged": fit.converged,
        "steps": fit.settings["steps"],
        "cpu_seconds": seconds,
        "environment": environment(),
    }


def summary() -> str:
    """The table of results, in Markdown; and the picture, if there are filters."""
    if PICTURES.is_dir():
        draw()
    lines = ["| case | seed | accuracy, NLL: " + " | ".join(ARMS) + " | extents: filters | inputs | CPU-s |"]
    lines += ["| --- | ---: | " + " | ".join(["---"] * 6) + " |"]
    found = [json.loads(p.read_text()) for p in sorted(RESULTS.glob("*.json"))]
    for case in CASES:
        for seed in sorted({r["seed"] for r in found}):
            of = {r["arm"]: r for r in found if (r["case"], r["seed"]) == (case, seed)}
            if set(of) != set(ARMS):
                continue
            cells = [f"{of[a]['accuracy']:.4f}, {of[a]['nll']:.3f}" for a in ARMS]
            cells += [_extents(of[a]["extents"]) for a in ARMS[1:]]
            cells += [", ".join(f"{of[a]['cpu_seconds']:.0f}" for a in ARMS)]
            lines.append(f"| {case} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _extents(found: dict[str, float]) -> str:
    turn, right, down, *others = (found[name] for name in AFFINE_NAMES)  # files are sorted by other names
    return f"±{180 * turn:.0f}°, {right / 2:.2f}/{down / 2:.2f}, " + "/".join(f"{v:.2f}" for v in others)


def draw() -> None:
    """Units of each case, and their copies, in one picture."""
    import matplotlib.pyplot as plt  # slow to import

    known = [case for case in CASES if (PICTURES / f"{case}.npy").exists()]
    fig, axes = plt.subplots(len(known), 1, figsize=(9, 0.85 * len(known)), constrained_layout=True)
    for case, ax in zip(known, np.atleast_1d(axes), strict=True):
        each = np.load(PICTURES / f"{case}.npy").astype(float)[:, :2]
        tiles = np.concatenate([np.pad(v, 1) for pair in each.transpose(1, 0, 2, 3) for v in pair], 1)
        top = np.abs(tiles).max()
        ax.imshow(tiles, cmap="RdBu_r", vmin=-top, vmax=top)
        ax.set_title(f"{case}: two units, eight copies each", fontsize=8, loc="left")
        ax.set_axis_off()
    fig.savefig(RESULTS.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    runs(RESULTS, list(CASES), ARMS, run, summary)
