"""What a stranger would write: one class, derived from a protocol of the house."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.likelihoods import Likelihood


@dataclass(frozen=True, eq=False)
class Poisson(Likelihood):
    """Counts with ``E[y] = exp f``."""

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        return (y * f - f.exp() - torch.lgamma(y + 1)).sum(-1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed((f / 2).exp())

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        return torch.poisson(f.exp(), generator=rng)

    def mean(self, f: Tensor) -> Tensor:
        return f.exp()
