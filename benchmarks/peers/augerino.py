"""Augerino: widths of six affine generators by the training loss less a bonus for wide distributions.

References:
    Learning Invariances in Neural Networks. Benton, Finzi, Izmailov, Wilson, 2020, arXiv:2010.11882.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import shims
from benchmarks.peers.common import Budget, Clock, logits, merged, scores, tensors, versions
from benchmarks.peers.nets import make
from benchmarks.peers.task import Task

# The authors' script for rotated MNIST: Adam, batches of 50, weight decay 1e-4, widths that begin at softplus(-5) but
# for the rotation's, which begins at softplus(1), and a bonus of .1 for the norm of the widths. For the rate, .01 of
# their script for CIFAR-10 (that for rotated MNIST has .1).
PUBLISHED = {"batch": 50, "lr": 0.01, "decay": 1e-4, "bonus": 0.1, "rotation_start": 1.0, "cosine": 0}
SETTINGS = {
    ("digits", "published"): PUBLISHED | {"epochs": 75},
    ("digits", "tuned"): PUBLISHED | {"epochs": 75, "cosine": 1, "lr": 0.02},
    ("mnist10k", "tuned"): PUBLISHED | {"epochs": 12, "cosine": 1},
}


def extents(widths: Tensor, translation_unit: float) -> dict[str, Any]:
    """The learned extents in the report's units; Augerino's noise is uniform in plus and minus half a width."""
    half = (torch.nn.functional.softplus(widths.detach().double()) / 2).tolist()
    return {
        "rotation_degrees": math.degrees(half[2]),
        "translation_x": half[0] * translation_unit / 2,
        "translation_y": half[1] * translation_unit / 2,
        "scale": half[3],
        "stretch": half[4],
        "shear": half[5],
        "raw": widths.detach().tolist(),
    }


def run(task: Task, budget: Budget) -> dict[str, Any]:
    """Train with Augerino's module and loss, in the loop of its script, and report."""
    checkout = budget.folder("learning-invariances")
    shims.first_on_path(checkout)
    shims.package_without_init("augerino", checkout / "augerino")
    shims.package_without_init("augerino.models", checkout / "augerino" / "models")
    from augerino.losses import safe_unif_aug_loss
    from augerino.models.aug_modules import AugAveragedModel
    from augerino.models.uniform_aug import UniformAug

    settings = merged(SETTINGS, task.name, budget)
    x, y, x_test, y_test = tensors(task)
    torch.manual_seed(budget.seed)
    network, clock, history = make(task.name), Clock(), []
    model = AugAveragedModel(network, UniformAug(), ncopies=4)
    start = torch.full((6,), -5.0)
    start[2] = settings["rotation_start"]
    model.aug.set_width(start)
    groups = [
        {"params": network.parameters(), "weight_decay": settings["decay"]},
        {"params": model.aug.parameters(), "weight_decay": 0.0},
    ]
    optimiser = torch.optim.Adam(groups, lr=settings["lr"])
    steps = settings["epochs"] * math.ceil(len(y) / settings["batch"])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-6) if settings["cosine"] else None
    losses = []
    for _ in range(settings["epochs"]):
        clock.begin("train")
        history.append(extents(model.aug.width, model.aug.trans_scale)["rotation_degrees"])
        for index in torch.randperm(len(y)).split(settings["batch"]):
            optimiser.zero_grad()
            loss = safe_unif_aug_loss(model(x[index]), y[index], model, reg=settings["bonus"])
            loss.backward()
            optimiser.step()
            if decay is not None:
                decay.step()
        losses.append(loss.item())
    clock.stop()
    model.eval()
    return {
        "method": "Augerino, UniformAug and safe_unif_aug_loss",
        "settings": settings,
        "seconds": clock.summary(1),
        "invariance": extents(model.aug.width, model.aug.trans_scale),
        "prior": {"structure": "weight decay in Adam", "precision": [settings["decay"] * len(y)]},
        "evidence": None,
        "test": scores(logits(network, x_test, model.aug), y_test),
        "test_own_4_copies": scores(logits(model, x_test, None), y_test),
        "test_untransformed": scores(logits(network, x_test, None), y_test),
        "history": {"rotation_degrees": history, "loss": losses},
        "versions": versions(checkout),
        "state": {name: p.detach() for name, p in network.named_parameters()} | {"width": model.aug.width.detach()},
    }
