"""Double descent with label noise: test error against width, for a point estimate and for MultiSWAG.

``python -m benchmarks.double_descent --width 8 --seed 0`` trains a small CNN of that width on 4,000 images of
``mnist10k`` with 20 % of the labels drawn at random, without weight decay to speak of, and scores 2,000 others; the
result is added to ``results/double_descent.json``. ``--figure`` draws what is there.

References:
    Deep double descent. P. Nakkiran et al., 2019. arXiv:1912.02292.
    Bayesian deep learning and a probabilistic perspective of generalization. A. G. Wilson, P. Izmailov, 2020.
    arXiv:2002.08791 (that MultiSWAG removes it).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import novacula as nv
from benchmarks.common import environment, write

PATH = Path(__file__).parent / "results" / "double_descent.json"
WIDTHS = (1, 2, 4, 8, 16, 32, 64)
TRAIN, TEST, NOISE = 4_000, 2_000, 0.2
MEMBERS = 5


def problem(seed: int) -> tuple[nv.Data, torch.Tensor, torch.Tensor]:
    """Training data with noisy labels, clean test data."""
    source = np.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz")
    rng = np.random.default_rng(seed)
    order = rng.permutation(10_000)
    x = torch.tensor(source["images"][order], dtype=torch.float32).unsqueeze(1) / 255
    # Half the resolution: the phenomenon is the same, and a width takes seconds.
    x = nn.functional.avg_pool2d(x, 2)
    y = source["labels"][order].astype(np.int64)
    noisy = y[:TRAIN].copy()
    wrong = rng.random(TRAIN) < NOISE
    noisy[wrong] = (noisy[wrong] + rng.integers(1, 10, int(wrong.sum()))) % 10
    return nv.Data(x[:TRAIN], torch.tensor(noisy)), x[TRAIN : TRAIN + TEST], torch.tensor(y[TRAIN : TRAIN + TEST])


def network(width: int) -> nn.Module:
    """Two convolutions of stride 2 and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 16, 10),
    )


def run(width: int, seed: int, epochs: int) -> dict[str, Any]:
    """One width: a MultiSWAG ensemble, its first member's point estimate and SWAG, and the ensemble of points."""
    data, x_test, y_test = problem(seed)
    torch.manual_seed(seed)
    target = nv.Target(network(width), prior=nv.Gaussian(1.0))
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nv.NovaculaWarning)
        point = nv.infer(nv.Ensemble(nv.MAP(lr=5e-3), MEMBERS), target, data, epochs=epochs, batch_size=100, seed=seed)
        swag = nv.infer(nv.Ensemble(nv.SWAG(), MEMBERS), target, data, epochs=epochs, batch_size=100, seed=seed)
        posteriors = {
            "point": point.components[0],
            "ensemble": point,
            "swag": swag.components[0],
            "multiswag": swag,
        }
        scores = {k: nv.prediction.evaluate(nv.predict(p, x_test), y_test) for k, p in posteriors.items()}
        fit = nv.prediction.evaluate(nv.predict(point.components[0], data.x), data.y)
    return {
        "width": width,
        "seed": seed,
        "weights": nv.core.params.count(target.params()),
        "train_accuracy": fit["accuracy"],
        "scores": {k: {m: s[m] for m in ("accuracy", "nll", "ece")} for k, s in scores.items()},
        "cpu_seconds": time.process_time() - began,
    }


def figure(runs: list[dict[str, Any]], path: Path) -> None:
    """Test error and log loss against width: means over seeds with 95 % intervals of the mean."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = {"point": "point estimate", "ensemble": "ensemble of 5", "swag": "SWAG", "multiswag": "MultiSWAG of 5"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, metric, label in zip(axes, ("accuracy", "nll"), ("test error", "test log loss (nats)"), strict=True):
        for i, ((key, name), marker) in enumerate(zip(names.items(), "osD^", strict=True)):
            widths, means, halves = curve(runs, key, metric)
            means = 1 - means if metric == "accuracy" else means
            apart = widths * 2.0 ** (0.06 * (i - 1.5))  # or the bars would hide one another
            axis.errorbar(apart, means, halves, marker=marker, markersize=4, capsize=2, linewidth=1.2, label=name)
        # Of one unit a network may die, which would leave no room for the others.
        axis.set_ylim(*((0.03, 0.26) if metric == "accuracy" else (0.33, 0.92)))
        axis.set_xscale("log", base=2)
        axis.set_xticks(WIDTHS, [str(w) for w in WIDTHS])
        axis.set_xlabel("width of the first convolution")
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def curve(runs: list[dict[str, Any]], key: str, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Widths, means over seeds, and halves of 95 % intervals of the means."""
    from scipy.stats import t

    widths = np.array(sorted({r["width"] for r in runs}))
    values = [np.array([r["scores"][key][metric] for r in runs if r["width"] == w]) for w in widths]
    halves = [t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / math.sqrt(len(v)) if len(v) > 1 else math.nan for v in values]
    return widths, np.array([v.mean() for v in values]), np.array(halves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--figure", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = json.loads(PATH.read_text())["runs"] if PATH.exists() else []
    if options.figure:
        figure(runs, PATH.with_suffix(".png"))
        return
    for seed in options.seed:
        for width in options.width:
            if any(r["width"] == width and r["seed"] == seed for r in runs):
                continue
            runs = [*runs, run(width, seed, options.epochs)]
            latest = runs[-1]
            print(
                width,
                seed,
                round(latest["train_accuracy"], 3),
                latest["scores"],
                round(latest["cpu_seconds"]),
                flush=True,
            )
            write(PATH, {"environment": environment(), "epochs": options.epochs, "runs": runs})


if __name__ == "__main__":
    main()
