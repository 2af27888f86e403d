"""The `Method` protocol: what the one loop needs from an inference method.

A method is a frozen dataclass of plain numbers. Its state is a frozen dataclass of tensors, numbers and dictionaries of
tensors, so that the loop can save and restore it without knowing what it means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.params import Params
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class Batch:
    """A minibatch and where the run stands.

    Args:
        x: Inputs, shape ``(B, …)``.
        y: Labels, shape ``(B, …)``.
        total: N, the size of the data set the batch stands for.
        step: Steps taken before this one.
        steps: Steps of the whole run.
    """

    x: Tensor
    y: Tensor
    total: int
    step: int
    steps: int

    @property
    def progress(self) -> float:
        """The fraction of the run that is done, in [0, 1)."""
        return self.step / self.steps


@dataclass(frozen=True)
class Info:
    """What a step reports.

    Args:
        loss: The mean negative log-likelihood of the batch, in nats per example.
        metrics: Further numbers for the history, by name.
    """

    loss: float
    metrics: dict[str, float] = field(default_factory=dict)


class Posterior(Protocol):
    """A distribution over the weights of a target's network."""

    @property
    def target(self) -> Target:
        """The target whose posterior it is: predictions need its network, likelihood and invariance."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reservations a reader must know."""
        ...

    @property
    def mode(self) -> Params:
        """A representative point: the weights a point estimate would use."""
        ...

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw ``n`` weights; tensors of shape ``(n, *shape)``."""
        ...


class Method(Protocol):
    """An inference method: frozen, its hyperparameters are its fields."""

    def init(self, target: Target, data: Data, rng: torch.Generator) -> Any:
        """The first state."""
        ...

    def step(self, target: Target, state: Any, batch: Batch, rng: torch.Generator) -> tuple[Any, Info]:
        """One step on one minibatch."""
        ...

    def posterior(self, target: Target, state: Any) -> Posterior:
        """What the state says about the weights."""
        ...


@dataclass(frozen=True, eq=False)
class Point:
    """A posterior that is one point.

    Args:
        mode: The weights.
        target: The target they were trained for.
        warnings: Reservations a reader must know.
    """

    mode: Params
    target: Target
    warnings: tuple[str, ...] = ()

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Repeat the point.

        Args:
            n: The number of samples.
            rng: Not used.

        Returns:
            Tensors of shape ``(n, *shape)``.
        """
        return {k: w.expand(n, *w.shape) for k, w in self.mode.items()}


def weights_of(start: Params | Posterior) -> Params:
    """The point that a start value names.

    Args:
        start: Weights, or a posterior.

    Returns:
        The weights, or the posterior's mode.
    """
    return start if isinstance(start, dict) else start.mode
