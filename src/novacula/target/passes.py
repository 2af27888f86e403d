"""Passes over the data under transformations that only a seed decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from novacula.core.rng import generator
from novacula.data.data import Data


class Scores(Protocol):
    """What makes transformed copies of inputs: a `Target`."""

    def scored(self, x: Tensor, copies: int, rng: torch.Generator) -> Tensor:
        """Copies of inputs, ``(N, S, …)``."""
        ...


@dataclass(frozen=True, eq=False)
class Passes:
    """Passes over the data, the same each time; no closure, so that a posterior that needs them can be pickled."""

    target: Scores
    data: Data
    copies: int
    seed: int
    size: int

    def __call__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of inputs with their copies, ``(B, S, …)``, and labels."""
        x, y = self.data.x, self.data.y
        for start in range(0, self.data.n, self.size):
            rng = generator(self.seed, "warp", start)
            stop = start + self.size
            yield self.target.scored(x[start:stop], self.copies, rng), y[start:stop]
