"""What every likelihood provides: a log-density per example, and its Fisher information in output space."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor


class Likelihood(Protocol):
    """``p(y | f)`` for network outputs ``f (N, C)``.

    Implementations are frozen dataclasses (``eq=False``). Fields that can be learned are tensors and are named in the
    class attribute ``learnable``; `dataclasses.replace` gives a copy with other values.

    Attributes:
        task: What ``y`` is.
        normalised: Whether ``exp(log_prob)`` integrates to one over ``y`` (false for Gibbs likelihoods).
        loss: The loss's name; evidences of different losses are never compared.
    """

    learnable: tuple[str, ...]
    task: Literal["classification", "multilabel", "regression", "other"]
    normalised: bool
    loss: str

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """Log-density of each example, shape ``(N,)``, in nats."""
        ...

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``L (N, C, K)`` with ``L Lᵀ`` the Fisher information of ``f`` (GGN block); differentiable in ``f``."""
        ...

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Draw ``y (N, …) ~ p(y | f)``."""
        ...

    def mean(self, f: Tensor) -> Tensor:
        """``E[y | f]``: probabilities ``(N, C)``, or means ``(N, D)``."""
        ...

    def outputs(self, y: Tensor) -> int:
        """How many network outputs C the labels need; raises `InputError` for labels that do not fit."""
        ...

    def validate(self, y: Tensor, outputs: int) -> Tensor:
        """Labels in the dtype and shape that `log_prob` takes, or an `InputError` that names the first bad row."""
        ...
