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

from novacula.core.checks.numbers import shown
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.posteriors.base import Posterior
from novacula.target import Density
from novacula.target.batch import Batch

Batching: TypeAlias = Literal["mini", "full"]
Others: TypeAlias = Literal["auto", "fresh", "near"]


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
        statistics: Values of buffers that the members bring along, shape ``(M, *shape)`` each; others are as the
            network has them.
        others: Where members that the method makes itself start: near these weights, or at fresh draws.
        trained: Whether these weights were trained before, and the run goes on from them; or, of a training in parts,
            the steps behind them, and those of all parts.
    """

    params: Params
    steps: int
    statistics: Params = field(default_factory=dict)
    others: Others = "auto"
    trained: bool | tuple[int, int] = False

    @classmethod
    def of(
        cls,
        target: Density,
        points: Params,
        steps: int,
        others: Others = "auto",
        *,
        trained: bool | tuple[int, int] = False,
    ) -> Start:
        """Where members start that hold these weights, and perhaps values of buffers, ``(M, *shape)`` each."""
        own = target.params()
        held = {k: v for k, v in points.items() if k not in own}
        return cls({k: points[k] for k in own}, steps, held, others, trained)

    @property
    def members(self) -> int:
        """M."""
        return next(iter(self.params.values())).shape[0]


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


def check_method(method: Any) -> None:
    """Refuse what is no method: a class, a name, or anything else that cannot be run."""
    parts = ("init", "step", "posterior")
    if isinstance(method, type) or not all(callable(getattr(method, name, None)) for name in parts):
        got = f"the class {method.__name__}" if isinstance(method, type) else shown(method)
        hint = f"{method.__name__}()" if isinstance(method, type) else "nv.MAP(), nv.SWAG(), nv.NUTS() …"
        raise InputError("a method of inference", got, hint)
