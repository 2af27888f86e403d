"""Weights of ±s, each sign with probability ½: the prior of binary networks.

It has no density, but probabilities of its 2^P points, and nothing that follows a gradient can use it: functions are
drawn from it, and `Splitting` moves by flipping signs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_positive
from novacula.core.params import Params, count
from novacula.priors.base import Prior


@dataclass(frozen=True)
class Signs(Prior):
    """``P(w_i = s) = P(w_i = −s) = ½`` for every weight.

    Args:
        scale: s.
        fan_in: Whether s is divided by the root of the fan-in where a tensor has two axes or more, as in `FanIn`.

    Raises:
        InputError: If the scale is not positive.

    Example:
        >>> sorted(set(Signs(2.0).sample({"w": torch.zeros(3)}, 50, torch.Generator())["w"].flatten().tolist()))
        [-2.0, 2.0]
    """

    scale: float = 1.0
    fan_in: bool = False

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)

    def log_prob(self, params: Params) -> Tensor:
        """``−P log 2`` where all weights are ±s, minus infinity elsewhere."""
        on = torch.stack([(w.abs() == self._size(w)).all() for w in params.values()]).all()
        value = torch.tensor(-count(params) * math.log(2), dtype=torch.float64, device=on.device)
        return torch.where(on, value, -math.inf)

    def precision(self, params: Params) -> Params:
        """``1/s²``, of the Gaussian with the same variance."""
        return {k: self._size(w) ** -2 for k, w in params.items()}

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw signs, ``(n, *shape)``."""
        return {
            k: (2 * torch.randint(2, (n, *w.shape), generator=rng, device=rng.device, dtype=torch.int8) - 1).to(w)
            * self._size(w)
            for k, w in params.items()
        }

    def restrict(self, params: Params, names: Mapping[str, str]) -> Self:
        """The same: every tensor says its own size."""
        return self

    def _size(self, w: Tensor) -> Tensor:
        # As a number of the weights' own type, so that weights that were drawn are ±s exactly.
        fan_in = w.numel() / w.shape[0] if self.fan_in and w.ndim > 1 else 1.0
        return torch.tensor(self.scale / math.sqrt(fan_in), dtype=w.dtype, device=w.device)
