"""The ascent by which a process learns: Adam's steps along the gradient of a log evidence, or of a bound."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from novacula.core.errors import NonFiniteError


def ascend(
    objective: Callable[[dict[str, Tensor], int], Tensor],
    start: dict[str, Tensor],
    *,
    steps: int,
    lr: float,
    noisy: bool = False,
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    """Raise a function of tensors and a step: its best values (of a noisy one, later ones' means), and all heights."""
    free = {k: v.detach().double().clone().requires_grad_() for k, v in start.items()}
    optimiser = torch.optim.Adam([*free.values()], lr=lr) if free else None
    heights: list[float] = []
    best, kept = -math.inf, {k: v.detach().clone() for k, v in free.items()}
    for step in range(steps + (not noisy)):
        value = objective(free, step)
        if not bool(torch.isfinite(value)) and step == 0:
            raise NonFiniteError("a finite log evidence at the start", str(float(value.detach())), "raise the noise")
        heights.append(float(value.detach()))
        if noisy and step >= steps // 2:
            share = 1 / (step - steps // 2 + 1)
            kept = {k: kept[k].lerp(v.detach(), share) for k, v in free.items()}
        elif not noisy and heights[-1] > best:
            best, kept = heights[-1], {k: v.detach().clone() for k, v in free.items()}
        if step < steps and optimiser is not None:
            optimiser.zero_grad()
            (-value).backward()
            optimiser.step()
    return kept, tuple(heights)
