"""The `Method` protocol: what the one loop needs from an inference method.

A method is a frozen dataclass of plain numbers. Its state is a frozen dataclass of tensors, numbers and dictionaries of
tensors, so that the loop can save and restore it without knowing what it means.

A method runs M *members* side by side: the chains of a sampler, or the networks of an ensemble. All tensors of weights
in a state have a leading axis M, also where M = 1. Members share minibatches and differ in where they start and in the
noise that the method draws.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.target import Density, Target

Batching: TypeAlias = Literal["mini", "full"]


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
        loss: The mean negative log-likelihood of the batch, in nats per example, averaged over the members.
        metrics: Further numbers for the history, by name.
        done: Whether the method needs no further step.
    """

    loss: float
    metrics: dict[str, float] = field(default_factory=dict)
    done: bool = False


@dataclass(frozen=True, eq=False)
class Start:
    """Where a run starts, and how long it is.

    Args:
        params: The members' first weights, shape ``(M, *shape)`` each.
        steps: Steps of the whole run.
    """

    params: Params
    steps: int

    @property
    def members(self) -> int:
        """M."""
        return next(iter(self.params.values())).shape[0]


class Posterior(Protocol):
    """A distribution over the weights of a target's network."""

    @property
    def target(self) -> Density:
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

    @property
    def batching(self) -> Batching:
        """``"mini"`` if a step sees a minibatch, ``"full"`` if each sees all data."""
        ...

    def init(self, target: Any, data: Any, rng: torch.Generator, start: Start) -> Any:
        """The first state; ``target`` is a `Target`, or for samplers any `Density`, of which there are no ``data``."""
        ...

    def step(self, target: Any, state: Any, batch: Batch, rng: torch.Generator) -> tuple[Any, Info]:
        """One step on one minibatch."""
        ...

    def posterior(self, target: Any, state: Any) -> Posterior:
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
    target: Density
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


def network_target(target: Density, what: str) -> Target:
    """Insist on a network.

    Args:
        target: A target of any kind.
        what: What needs the network, for the message.

    Returns:
        The target.

    Raises:
        InputError: If it is a plain log-density.
    """
    if not isinstance(target, Target):
        raise InputError(f"a network's Target for {what}", "a plain log-density", "use a sampler, such as NUTS")
    return target


def weights_of(start: Params | Posterior) -> Params:
    """The point that a start value names.

    Args:
        start: Weights, or a posterior.

    Returns:
        The weights, or the posterior's mode.
    """
    return start if isinstance(start, dict) else start.mode
