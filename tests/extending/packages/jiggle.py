"""A method, and a posterior of its own: Gaussian noise of one width around the most probable weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

import novacula as nv
from novacula.inference import MAP
from novacula.posteriors.base import BasePosterior
from novacula.runs.catalogue import MethodRow, Words


@dataclass(frozen=True, eq=False)
class Around(BasePosterior):
    """``N(mode, width²)``."""

    mode: dict[str, torch.Tensor]
    target: nv.Target
    width: float
    warnings: tuple[str, ...] = ()

    def sample(self, n: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        return {k: w + self.width * torch.randn((n, *w.shape), generator=rng) for k, w in self.mode.items()}


@dataclass(frozen=True)
class Jiggle:
    """Train as MAP does, then spread."""

    lr: float = 2e-3
    width: float = 0.01
    batching: str = field(default="mini", init=False, repr=False)

    def init(self, target: Any, data: Any, rng: torch.Generator, start: Any) -> Any:
        return MAP(self.lr).init(target, data, rng, start)

    def step(self, target: Any, state: Any, batch: Any, rng: torch.Generator) -> Any:
        return MAP(self.lr).step(target, state, batch, rng)

    def posterior(self, target: Any, state: Any) -> Around:
        return Around({k: w[0] for k, w in state.params.items()}, target, self.width)


ROW = MethodRow(
    "jiggle",
    Jiggle,
    Words("Jiggle", "run", "noise of one width around the most probable weights"),
    defaults=lambda setting, chains: {"lr": setting.lr},
    help="noise around the point",
)
