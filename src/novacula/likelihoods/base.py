"""What every likelihood provides: a log-density per example, and its Fisher information in output space."""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol, Self, TypeAlias

import torch
from torch import Tensor

Task: TypeAlias = Literal["classification", "multilabel", "regression", "other"]


class Likelihood(Protocol):
    """``p(y | f)`` for network outputs ``f (N, C)``.

    Implementations are frozen dataclasses (``eq=False``). Fields that can be learned are tensors and are named in the
    class attribute ``learnable``; `dataclasses.replace` gives a copy with other values.

    Attributes:
        learnable: Names of the fields that can be learned.
        normalised: Whether ``exp(log_prob)`` integrates to one over ``y`` (false for Gibbs likelihoods).
        task: What ``y`` is.
        loss: The loss's name; evidences of different losses are never compared.
    """

    learnable: ClassVar[tuple[str, ...]]
    normalised: ClassVar[bool]

    @property
    def task(self) -> Task: ...  # noqa: D102
    @property
    def loss(self) -> str: ...  # noqa: D102

    def bind(self, outputs: int) -> Self:
        """The likelihood for this many outputs: one scale per output where asked. Binding twice changes nothing."""
        ...

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """Log-density of each example, shape ``(N,)``, in nats."""
        ...

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``L (N, C, K)`` with ``L Lᵀ`` the Fisher information of ``f`` (GGN block); differentiable in ``f``."""
        ...

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Draw ``y (N, …) ~ p(y | f)``; carries no gradient."""
        ...

    def mean(self, f: Tensor) -> Tensor:
        """``E[y | f]``: probabilities ``(N, C)``, or means ``(N, D)``."""
        ...

    def outputs(self, y: Tensor) -> int:
        """How many network outputs C the labels need; raises `InputError` for labels that do not fit."""
        ...

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Labels in the dtype and shape that `log_prob` takes, or an `InputError` that names the first bad row.

        ``training=False`` waives what only a training set must have: at least two rows, at least two classes.
        """
        ...
