"""A prior: weights with the logistic density, whose tails are wider than a Gaussian's."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from novacula.priors import Prior
from novacula.runs.catalogue import PriorRow

Params = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Logistic(Prior):
    """``p(w) = 1 / (4 s cosh²(w / 2s))``, with the standard deviation ``π s / √3``."""

    s: float = 0.5

    def log_prob(self, params: Params) -> torch.Tensor:
        parts = [torch.nn.functional.logsigmoid(torch.stack([w, -w]) / self.s).sum() for w in params.values()]
        return torch.stack(parts).sum() - sum(w.numel() for w in params.values()) * torch.tensor(self.s).log()

    def precision(self, params: Params) -> Params:
        # The Gaussian that touches from below: log p is convex in w², so its tangent there is a bound.
        z = {k: w.abs().clamp_min(1e-4 * self.s) for k, w in params.items()}
        return {k: (w / (2 * self.s)).tanh() / (self.s * w) for k, w in z.items()}

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        u = {k: torch.rand((n, *w.shape), generator=rng, dtype=w.dtype) for k, w in params.items()}
        return {k: self.s * torch.logit(v, eps=1e-7) for k, v in u.items()}


ROW = PriorRow("logistic", Logistic, help="wide tails")
