"""Calibration without rows set aside: `nv.calibrate` beside a plain training and one that gave up a fifth of the rows.

    python -m benchmarks.calibrate --all            # all cells, five seeds; goes on from what is there
    python -m benchmarks.calibrate --cell digits-cnn --seeds 1

A person trains a network by a plain loop of PyTorch (`train`, below: AdamW under one cycle, a fixed number of epochs).
Arms:

- ``plain``: the network of all rows, as it is. Of a regression, the noise is that of the training residuals.
- ``hold-out``: a network of four fifths of the rows; temperature or noise, and split conformal sets, from the others.
- ``calibrate``: `nv.calibrate` of the plain network, which is told nothing of how it was trained.
- ``train``: the same with ``train=``, the person's own function.

Of each: test log loss in nats (and that at the best temperature for the test rows, ``oracle``), expected calibration
error, share of test labels inside sets of 90 %, their mean size or width, CPU seconds. ``copies`` are the CV+ sets of
the three copies, ``network`` those of the full network alone. Temperatures of all arms are fitted in the same way (see
`novacula.study.cross_fit.temperature`, with a spread of .5): without it, a fifth of which all rows are right asks for
no temperature at all. Seeds from 10 on were used to try things; nothing was tuned on the seeds 0 to 4 that are
reported.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import derive
from novacula.networks.make import seeded
from novacula.prediction.conformal.calibrate import calibrate as split_conformal
from novacula.study.calibrating.calibrate import calibrate
from novacula.study.cross_fit.temperature import SPREAD, fit_temperature

RESULTS = Path(__file__).parent / "results" / "calibrate"
ALPHA, HELD_OUT = 0.1, 0.2
Arms = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A data set and a network."""

    data: str
    rows: int
    net: str
    epochs: int
    test: int = 2_000


CELLS = {
    "digits-mlp": Cell("digits", 600, "mlp", 40),
    "digits-cnn": Cell("digits", 600, "cnn", 30),
    "mnist800-mlp": Cell("mnist10k", 800, "mlp", 30),
    "mnist800-cnn": Cell("mnist10k", 800, "cnn", 15),
    "mnist3000-mlp": Cell("mnist10k", 3_000, "mlp", 20),
    "mnist3000-cnn": Cell("mnist10k", 3_000, "cnn", 6),
    "cifar-cnn": Cell("cifar10-small", 1_000, "cnn", 15),
    "cancer-mlp": Cell("breast_cancer", 300, "mlp", 60),
    "wine-mlp": Cell("wine", 90, "mlp", 60),
    "energy-mlp": Cell("uci-energy", 500, "mlp", 120),
    "concrete-mlp": Cell("uci-concrete", 700, "mlp", 120),
    "kin8nm-mlp": Cell("uci-kin8nm", 1_500, "mlp", 60),
    "power-plant-mlp": Cell("uci-power-plant", 1_500, "mlp", 40),
    "diabetes-mlp": Cell("diabetes", 300, "mlp", 60),
}


def load(cell: Cell, seed: int) -> tuple[nv.Data, nv.Data]:
    """Training and test rows, drawn at random; tables in the standard units of the training rows."""
    if cell.data == "digits":
        whole = nv.load("digits")
    elif cell.data in {"breast_cancer", "wine", "diabetes"}:
        found: Any = getattr(datasets, f"load_{cell.data}")()
        task = "regression" if cell.data == "diabetes" else "classification"
        whole = nv.Data(found.data, found.target, name=cell.data, task=task)
    else:
        with np.load(Path(os.environ["NOVACULA_DATA"]) / f"{cell.data}.npz") as stored:
            images = "y" not in stored
            pool = "train_" if "train_images" in stored else ""
            x, y = (stored[k] for k in ((f"{pool}images", f"{pool}labels") if images else ("x", "y")))
        if images:
            x = np.moveaxis(x, -1, 1) if x.ndim == 4 and x.shape[-1] == 3 else x.reshape(len(x), -1, *x.shape[-2:])
            whole = nv.Data(x.astype("float32") / 255, y.astype("int64"), name=cell.data, task="classification")
        else:
            whole = nv.Data(x, y, name=cell.data, task="regression")
    rows, rest = whole.split(cell.rows, seed=derive(seed, "calibrate"))
    scale = nv.Standardiser.fit(rows)
    return scale.apply(rows), scale.apply(rest.subset(range(min(cell.test, rest.n))))


def network(cell: Cell, data: nv.Data) -> nn.Module:
    """The person's network, with fresh weights."""
    outputs = data.y.shape[1] if data.task == "regression" else int(data.y.max()) + 1
    if cell.net == "mlp":
        features = int(np.prod(data.x_shape))
        return nn.Sequential(
            nn.Flatten(), nn.Linear(features, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, outputs)
        )
    channels, side = data.x_shape[0], data.x_shape[1] // 4
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * side * side, 64), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(64, outputs),
    )  # fmt: skip


def trainer(cell: Cell) -> Callable[[nn.Module, nv.Data], None]:
    """The person's way of training."""

    def train(net: nn.Module, data: nv.Data) -> None:
        loss = mse_loss if data.task == "regression" else cross_entropy
        optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
        total = cell.epochs * -(-data.n // 50)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=total)
        net.train()
        for _ in range(cell.epochs):
            for rows in torch.randperm(data.n).split(50):
                if len(rows) > 1:
                    optimiser.zero_grad()
                    loss(net(data.x[rows]), data.y[rows]).backward()
                    optimiser.step()
                schedule.step()
        net.eval()

    return train


def trained(cell: Cell, data: nv.Data, seed: int) -> nn.Module:
    """The person's network, trained."""
    with seeded(derive(seed, "person")):
        net = network(cell, data)
        trainer(cell)(net, data)
    return net


def measure(name: str, seed: int) -> dict[str, Any]:
    """All arms of a cell."""
    cell = CELLS[name]
    data, test = load(cell, seed)
    began = time.process_time()
    net = trained(cell, data, seed)
    seconds = {"plain": time.process_time() - began}
    arms: Arms = {"plain": scored(plain(net, data, test), test)}
    began = time.process_time()
    arms["hold-out"] = held_out(cell, data, test, seed)
    seconds["hold-out"] = time.process_time() - began
    for arm, own in (("calibrate", None), ("train", trainer(cell))):
        began = time.process_time()
        cal = calibrate(net, data, train=own, seed=seed)
        seconds[arm] = time.process_time() - began
        arms[arm] = {**scored(cal.predict(test.x), test), "temperature": cal.temperature, "said": list(cal.warnings)}
        for by in ("copies", "network"):
            sets = cal.conformal(ALPHA, by=by)(test.x)
            arms[arm][f"coverage_{by}"], arms[arm][f"size_{by}"] = covered(sets, test)
    if data.task == "classification":
        f = outputs(net, test.x)
        best = fit_temperature(nv.Categorical(), f, test.y, torch.zeros(test.n, dtype=torch.long)).value
        arms["oracle"] = {**scored(classes(f / best), test), "temperature": best}
    return {"cell": name, "seed": seed, "n": data.n, "arms": arms, "seconds": seconds, "environment": environment()}


def plain(net: nn.Module, data: nv.Data, test: nv.Data) -> nv.prediction.Predictive:
    """A network as it is."""
    if data.task == "classification":
        return classes(outputs(net, test.x))
    return measurements(outputs(net, test.x), (outputs(net, data.x) - data.y).square().mean(0).sqrt(), test)


def held_out(cell: Cell, data: nv.Data, test: nv.Data, seed: int) -> dict[str, Any]:
    """A network of four fifths, calibrated on the others."""
    seen, rest = data.split(1 - HELD_OUT, seed=seed, stratify=data.task == "classification")
    net = trained(cell, seen, seed)
    f, new, extra = outputs(net, rest.x), outputs(net, test.x), {}
    if data.task == "classification":
        alone = torch.zeros(rest.n, dtype=torch.long)
        t = fit_temperature(nv.Categorical(), f, rest.y, alone, spread=SPREAD).value
        own, predictive, extra = classes(f / t), classes(new / t), {"temperature": t}
    else:
        sd = (f - rest.y).square().mean(0).sqrt()
        own, predictive = measurements(f, sd, rest), measurements(new, sd, test)
    y = rest.y if rest.scaling is None or not rest.scaling.y_sd.numel() else rest.scaling.restore_y(rest.y)
    coverage, size = covered(split_conformal(own, y, alpha=ALPHA)(predictive), test)
    return {**scored(predictive, test), **extra, "coverage_network": coverage, "size_network": size}


def outputs(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Outputs of a network in eval mode."""
    with torch.no_grad():
        return torch.cat([net.eval()(part) for part in x.split(500)])


def classes(f: torch.Tensor) -> nv.prediction.Predictive:
    """Probabilities of logits."""
    return nv.prediction.Predictive(nv.Categorical(), f.unsqueeze(0), "plug-in")


def measurements(f: torch.Tensor, sd: torch.Tensor, data: nv.Data) -> nv.prediction.Predictive:
    """Gaussians of one width."""
    found = nv.prediction.Predictive(nv.Normal(log_sigma=sd.clamp(min=1e-6).log()), f.unsqueeze(0), "plug-in")
    return found.in_units(data.scaling)


def scored(predictive: nv.prediction.Predictive, test: nv.Data) -> dict[str, float]:
    """Test scores, in the data's own units."""
    y = test.y if test.scaling is None else test.scaling.restore_y(test.y) if test.task == "regression" else test.y
    kept = {"nll", "ece", "accuracy", "rmse", "crps", "coverage_90"}
    return {k: v for k, v in nv.prediction.evaluate(predictive, y).items() if k in kept}


def covered(sets: Any, test: nv.Data) -> tuple[float, float]:
    """Share of labels inside sets, and the sets' mean size or width."""
    y = test.scaling.restore_y(test.y) if test.task == "regression" and test.scaling is not None else test.y
    size = sets.width if test.task == "regression" else sets.size
    return sets.coverage(y), float(size.double().mean())


def summary() -> dict[str, Any]:
    """Means over seeds of each cell, and over cells of the differences that are asked about."""
    found: dict[str, Any] = {}
    for name in CELLS:
        records = [json.loads(p.read_text()) for p in sorted(RESULTS.glob(f"{name}-*.json"))]
        if not records:
            continue
        arms = {
            arm: {
                k: float(np.mean([r["arms"][arm][k] for r in records]))
                for k, v in content.items()
                if isinstance(v, float)
            }
            for arm, content in records[0]["arms"].items()
        }
        seconds = {k: float(np.mean([r["seconds"][k] for r in records])) for k in records[0]["seconds"]}
        found[name] = {"seeds": len(records), "n": records[0]["n"], "arms": arms, "seconds": seconds}
    return {"cells": found, "over_cells": over(found)}


def over(cells: dict[str, Any]) -> dict[str, Any]:
    """What is asked for, over the cells: differences of log loss and calibration error, and coverage."""
    found: dict[str, Any] = {}
    for arm in ("calibrate", "train"):
        for other in ("hold-out", "plain"):
            for score in ("nll", "ece"):
                each = {
                    k: c["arms"][arm][score] - c["arms"][other][score]
                    for k, c in cells.items()
                    if score in c["arms"][arm]
                }
                worst = max(each, key=lambda k: each[k])
                found[f"{arm} − {other}, {score}"] = {
                    "mean": float(np.mean(list(each.values()))),
                    "median": float(np.median(list(each.values()))),
                    "worst": each[worst],
                    "where": worst,
                }
        for by in ("copies", "network"):
            each = [c["arms"][arm][f"coverage_{by}"] for c in cells.values()]
            found[f"{arm}, coverage by {by}"] = {"mean": float(np.mean(each)), "least": min(each), "most": max(each)}
    return found


def table(cells: dict[str, Any]) -> str:
    """The summary as a table in Markdown."""
    lines = [
        "| cell | n | seeds | log loss: plain, hold-out, calibrate, train= | calibration error | inside sets of 90 %: "
        "hold-out, copies, network | CPU-s: plain, hold-out, calibrate, train= |",
        "| --- | ---: | ---: | --- | --- | --- | --- |",
    ]
    for name, found in cells.items():
        arms = found["arms"]
        order = [arms[k] for k in ("plain", "hold-out", "calibrate", "train")]
        nll = ", ".join(f"{a['nll']:.3f}" for a in order)
        ece = ", ".join(f"{a['ece']:.3f}" for a in order) if "ece" in order[0] else "–"
        sets = [arms["hold-out"]["coverage_network"]]
        sets += [arms["calibrate"]["coverage_copies"], arms["calibrate"]["coverage_network"]]
        seconds = ", ".join(f"{found['seconds'][k]:.1f}" for k in ("plain", "hold-out", "calibrate", "train"))
        inside = ", ".join(f"{s:.3f}" for s in sets)
        lines.append(f"| {name} | {found['n']:,} | {found['seeds']} | {nll} | {ece} | {inside} | {seconds} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, and summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all cells")
    parser.add_argument("--cell", choices=list(CELLS), action="append", default=[])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed; others than 0 to 4 are for trying things")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.first, options.first + options.seeds):
        for name in list(CELLS) if options.all else options.cell:
            path = RESULTS / f"{name}-{seed}.json"
            if path.is_file():
                continue
            record = measure(name, seed)
            write(path, record)
            shown = {arm: round(content["nll"], 4) for arm, content in record["arms"].items()}
            print(name, seed, shown, {k: round(v, 1) for k, v in record["seconds"].items()}, flush=True)
            write(RESULTS / "summary.json", summary())
    whole = summary()
    write(RESULTS / "summary.json", whole)
    print(table(whole["cells"]))
    for name, value in whole["over_cells"].items():
        print(name, {k: round(v, 4) if isinstance(v, float) else v for k, v in value.items()})


if __name__ == "__main__":
    main()
