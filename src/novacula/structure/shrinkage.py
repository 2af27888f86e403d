"""A Gaussian prior with a precision for each weight, and precisions of groups by the evidence.

With a diagonal curvature h and trained weights w, the log evidence is, but for what does not depend on the precisions,

    log p(y | w) + Σ_i [½ log λ_i − ½ λ_i w_i² − ½ log(h_i + λ_i)].

A weight that is taken away has λ → ∞ and adds nothing. Precisions that groups g share are at the maximum where
``λ_g Σ w² = γ_g = Σ h/(h + λ_g)`` (MacKay): the iteration λ ← γ/Σw² climbs there.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992.
    Shaving weights with Occam's razor: Bayesian sparsification for neural networks using the marginal likelihood.
        R. Dhahri, A. Immer, B. Charpentier, S. Günnemann, V. Fortuin, 2024. arXiv:2402.15978.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.priors.base import Prior
from novacula.structure.groups import spread, sums

_ROUNDS, _LEAST, _MOST = 30, 1e-4, 1e8


@dataclass(frozen=True, eq=False)
class Shrinkage(Prior):
    """``w_i ~ N(0, 1/λ_i)``.

    Args:
        precisions: λ by tensor, each broadcastable to its weights.
    """

    precisions: Params

    gaussian: ClassVar[bool] = True

    def log_prob(self, params: Params) -> Tensor:
        """``Σ_i ½ (log λ_i − log 2π) − ½ λ_i w_i²``."""
        terms = []
        for k, w in params.items():
            p = self.precisions[k].to(w).expand(w.shape)
            terms.append(0.5 * (p.log().sum() - w.numel() * math.log(2 * math.pi) - (p * w.square()).sum()))
        return torch.stack(terms).sum()

    def precision(self, params: Params) -> Params:
        """λ by tensor."""
        return {k: self.precisions[k].to(w) for k, w in params.items()}

    @torch.no_grad()
    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        """Draw weights, ``(n, *shape)``."""
        return {
            k: torch.randn(n, *w.shape, generator=rng, dtype=w.dtype) / self.precisions[k].to(w).sqrt()
            for k, w in params.items()
        }


def tuned(weights: Params, curvature: Params, precisions: Params, groups: Params, kept: Params) -> Params:
    """Precisions of groups at the maximum of the evidence, at fixed weights and curvature.

    No precision falls below ``.1/Σw²`` of its group or rises beyond what a weight of no size would ask for.

    Args:
        weights: w by tensor.
        curvature: h by tensor, of the likelihood alone.
        precisions: λ at the start; it stays for weights in no group.
        groups: Which weights share a precision.
        kept: 1 where a weight is left, 0 where it has been taken away.

    Returns:
        λ by tensor.
    """
    count = sums(kept, groups)
    squares = sums({k: w.detach().double().square() * kept[k] for k, w in weights.items()}, groups)
    found = precisions
    for _ in range(_ROUNDS):
        shares = {k: kept[k] * h / (h + found[k].to(h)) for k, h in curvature.items()}
        gamma = sums(shares, groups)
        new = torch.maximum(gamma, torch.full_like(gamma, 0.1)) / squares.clamp(min=1e-12)
        old = sums({k: kept[k] * found[k].to(kept[k]).expand(kept[k].shape) for k in found}, groups) / count.clamp(
            min=1
        )
        found = spread(torch.where(count > 0, new, old).clamp(_LEAST, _MOST), groups, found)
    return found


def log_evidence(fit: float, weights: Params, curvature: Params, precisions: Params, kept: Params) -> float:
    """The log evidence of the weights that are left, in nats; ``fit`` is their log-likelihood."""
    total = fit
    for k, h in curvature.items():
        p = precisions[k].to(h).expand(h.shape)
        each = p.log() - p * weights[k].detach().to(h).square() - (h + p).log()
        total += 0.5 * float((each * kept[k]).sum())
    return total
