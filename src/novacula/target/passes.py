"""Passes over the data under transformations that only a seed decides, and how many copies each takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_whole
from novacula.core.rng import generator
from novacula.data.data import Data


@dataclass(frozen=True)
class Copies:
    """How many transformed copies S of an input are averaged.

    Args:
        train: In a training step, and in the fixed density that samplers and what is built on them take.
        evidence: When the evidence or a curvature is computed; half of it where precisions and noise are solved for.
            Steps of extents take as many as their estimator says.
        predict: When predicting; in prequential scores, which are predictions, too.
    """

    train: int = 1
    evidence: int = 8
    predict: int = 32

    def __post_init__(self) -> None:
        for name in ("train", "evidence", "predict"):
            check_whole(name, getattr(self, name))


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
