"""What every prior over weights provides."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from novacula.core.params import Params


class Prior(Protocol):
    """``p(w)``, a proper density, independent between weights given its scales.

    Implementations are frozen dataclasses (``eq=False``). Fields that can be learned are tensors and are named in the
    class attribute ``learnable``; `dataclasses.replace` gives a copy with other values.

    Attributes:
        learnable: Names of the fields that can be learned.
    """

    learnable: ClassVar[tuple[str, ...]]

    def bind(self, params: Params) -> Self:
        """The prior for these weights: one scale per tensor where that is asked for. Binding twice changes nothing."""
        ...

    def log_prob(self, params: Params) -> Tensor:
        """Log-density in nats, a scalar; includes the normalising constant."""
        ...

    def precision(self, params: Params) -> Params:
        """``−∂² log p(w)/∂w²`` by tensor, each broadcastable to its parameter and positive.

        For a non-Gaussian prior this is the precision of the Gaussian that touches it from below at ``params``.
        """
        ...

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw ``n`` weights shaped like ``params``; tensors of shape ``(n, *shape)`` that carry no gradient."""
        ...

    def describe(self, params: Params) -> dict[str, float]:
        """The precision of each tensor as a number, for people; a geometric mean where it differs between weights."""
        ...
