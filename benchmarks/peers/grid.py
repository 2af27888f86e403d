"""A grid over fixed augmentations: cross-validate each, choose the best validation loss, train once more."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from benchmarks.peers.common import Budget, Clock, logits, merged, scores, tensors, versions
from benchmarks.peers.plain import SETTINGS as PLAIN
from benchmarks.peers.plain import Augmentation, train
from benchmarks.peers.task import Task

# A person who does not know which transformation matters tries rotations, shifts and scalings together ("full");
# one who already knows that it is the rotation tries only that ("rotation").
FULL = {"degrees": "0,45,90,135,180", "translations": "0,0.1", "scales": "0,0.2", "folds": 5}
ROTATION = FULL | {"translations": "0", "scales": "0"}
SETTINGS = {
    ("digits", "tuned"): PLAIN["digits", "tuned"] | FULL,
    ("digits", "rotation"): PLAIN["digits", "tuned"] | ROTATION,
    ("mnist10k", "tuned"): PLAIN["mnist10k", "tuned"] | ROTATION | {"degrees": "0,45,90,180", "folds": 3},
}


def run(task: Task, budget: Budget) -> dict[str, Any]:
    """Search the grid and report the choice, its scores and the total time."""
    settings = merged(SETTINGS, task.name, budget)
    x, y, x_test, y_test = tensors(task)
    torch.manual_seed(budget.seed)
    axes = [[float(v) for v in settings[name].split(",")] for name in ("degrees", "translations", "scales")]
    folds = torch.randperm(len(y)) % settings["folds"]
    clock, rows = Clock(), []
    for extents in itertools.product(*axes):
        augment = Augmentation(*extents) if any(extents) else None
        losses = []
        for fold in range(settings["folds"]):
            kept, held = folds != fold, folds == fold
            network = train(task.name, x[kept], y[kept], settings, augment, clock)
            losses.append(scores(logits(network, x[held], augment), y[held])["nll"])
        rows.append({"extents": extents, "nll": float(np.mean(losses))})
    search_cpu, search_wall = clock.total()
    best = min(rows, key=lambda row: row["nll"])["extents"]
    augment = Augmentation(*best) if any(best) else None
    clock.phases.clear()
    network = train(task.name, x, y, settings, augment, clock)
    clock.stop()
    seconds = clock.summary(1)
    return {
        "method": "grid over fixed augmentations, cross-validated",
        "settings": settings,
        "trainings": len(rows) * settings["folds"] + 1,
        "seconds": seconds | {"search_cpu": search_cpu, "search_wall": search_wall},
        "invariance": {
            "rotation_degrees": best[0],
            "translation_x": best[1],
            "translation_y": best[1],
            "scale": best[2],
        },
        "prior": {"structure": "fixed", "precision": [settings["decay"] * len(y)]},
        "evidence": None,
        "test": scores(logits(network, x_test, augment), y_test),
        "test_untransformed": scores(logits(network, x_test, None), y_test),
        "grid": rows,
        "versions": versions(),
        "state": {name: p.detach() for name, p in network.named_parameters()} | {"extents": np.array(best)},
    }
