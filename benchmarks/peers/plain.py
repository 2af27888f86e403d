"""No augmentation: the posterior mode under a fixed Gaussian prior. And the ordinary training that the grid repeats."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.common import Budget, Clock, logits, merged, scores, tensors, versions
from benchmarks.peers.nets import make
from benchmarks.peers.task import Task

SETTINGS = {
    ("digits", "tuned"): {"epochs": 75, "batch": 50, "lr": 0.02, "decay": 1e-4},
    ("mnist10k", "tuned"): {"epochs": 12, "batch": 125, "lr": 0.005, "decay": 1e-4},
}


@dataclass(frozen=True)
class Augmentation:
    """Fixed extents: uniform in ±``degrees``, ±``translation`` (fraction of the width), log factor in ±``scale``."""

    degrees: float
    translation: float = 0.0
    scale: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """One random copy of each image."""
        noise = torch.rand(len(x), 4) * 2 - 1
        angle, factor = noise[:, 0] * math.radians(self.degrees), (noise[:, 1] * self.scale).exp()
        matrix = torch.zeros(len(x), 2, 3)
        matrix[:, 0, 0] = matrix[:, 1, 1] = factor * angle.cos()
        matrix[:, 1, 0] = factor * angle.sin()
        matrix[:, 0, 1] = -matrix[:, 1, 0]
        matrix[:, :, 2] = noise[:, 2:] * 2 * self.translation
        grid = nn.functional.affine_grid(matrix, list(x.shape), align_corners=True)
        return nn.functional.grid_sample(x, grid, align_corners=True)


def train(
    task: str, x: Tensor, y: Tensor, settings: dict[str, Any], augment: Callable[[Tensor], Tensor] | None, clock: Clock
) -> nn.Sequential:
    """Adam with a cosine decay on the mean loss plus the prior; one random copy of each image a step."""
    network = make(task)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings["lr"])
    steps = settings["epochs"] * math.ceil(len(y) / settings["batch"])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-6)
    for _ in range(settings["epochs"]):
        clock.begin("train")
        for index in torch.randperm(len(y)).split(settings["batch"]):
            inputs = x[index] if augment is None else augment(x[index])
            optimiser.zero_grad()
            norm = sum(p.square().sum() for p in network.parameters())
            loss = nn.functional.cross_entropy(network(inputs), y[index]) + settings["decay"] * norm / 2
            loss.backward()
            optimiser.step()
            decay.step()
        clock.begin("between")
    return network


def run(task: Task, budget: Budget) -> dict[str, Any]:
    """Train once without augmentation and report."""
    settings = merged(SETTINGS, task.name, budget)
    x, y, x_test, y_test = tensors(task)
    torch.manual_seed(budget.seed)
    clock = Clock()
    network = train(task.name, x, y, settings, None, clock)
    clock.stop()
    return {
        "method": "no augmentation, fixed Gaussian prior",
        "settings": settings,
        "seconds": clock.summary(1),
        "invariance": None,
        "prior": {"structure": "fixed", "precision": [settings["decay"] * len(y)]},
        "evidence": None,
        "test": scores(logits(network, x_test, None), y_test),
        "versions": versions(),
        "state": {name: p.detach() for name, p in network.named_parameters()},
    }
