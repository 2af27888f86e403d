"""What a stranger would write: single classes, each derived from a protocol of the house."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.likelihoods import Likelihood
from novacula.priors import Prior


@dataclass(frozen=True, eq=False)
class Poisson(Likelihood):
    """Counts with ``E[y] = exp f``."""

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        y = y.to(f)
        return (y * f - f.exp() - torch.lgamma(y + 1)).sum(-1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed((f / 2).exp())

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        return torch.poisson(f.exp(), generator=rng)

    def mean(self, f: Tensor) -> Tensor:
        return f.exp()


@dataclass(frozen=True, eq=False)
class Fading(Prior):
    """``w_i ~ N(0, 1/λ_i)`` with ``λ_i = (1 + i)² exp θ`` for the i-th entry of a row: later inputs count for less."""

    theta: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    learnable: ClassVar[tuple[str, ...]] = ("theta",)
    gaussian: ClassVar[bool] = True

    def log_prob(self, params: Params) -> Tensor:
        found = self.precision(params)
        normals = {k: torch.distributions.Normal(0.0, found[k].expand(w.shape).rsqrt()) for k, w in params.items()}
        return torch.stack([normals[k].log_prob(w).sum() for k, w in params.items()]).sum()

    def precision(self, params: Params) -> Params:
        places = {k: torch.arange(w.shape[-1] if w.ndim else 1).reshape(w.shape[-1:]) for k, w in params.items()}
        return {k: ((1 + places[k]) ** 2 * self.theta.exp()).to(w) for k, w in params.items()}

    @torch.no_grad()
    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        found = self.precision(params)
        return {k: torch.randn(n, *w.shape, generator=rng).to(w) * found[k].rsqrt() for k, w in params.items()}
