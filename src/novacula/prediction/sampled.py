"""Predictives of measurements or counts that are not Gaussian given the outputs: fixed draws stand for them.

Every number is that of the draws' empirical distribution, so its error falls with their number K: quantiles and scores
of 4,096 draws are off by about a hundredth of the distribution's own width. The draws depend on a fixed seed alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.rng import generator
from novacula.likelihoods.base import Likelihood
from novacula.prediction.entropy import Entropy, split

DRAWS = 4096
_OF_EACH = 64  # at least, of each component, where entropies are asked for


def needed(likelihood: Likelihood, f: Tensor) -> bool:
    """Whether labels can be drawn from outputs ``(S, N, C)``, and are not Gaussian given these."""
    return likelihood.normalised and likelihood.task == "regression" and likelihood.gaussians(f) is None


def components(likelihood: Likelihood, f: Tensor, n: int) -> Tensor:
    """``n`` labels in all, as many of each component, ``(n, N, D)``, from outputs ``(S, N, C)``."""
    bound, rng = likelihood.bind(f.shape[2]), generator(0, "labels")
    each = max(1, -(-n // len(f)))
    parts = [bound.sample(part.repeat(each, 1), rng).reshape(each, part.shape[0], -1) for part in f]
    return torch.cat(parts)


def quantile(draws: Tensor, p: float) -> Tensor:
    """The least draw with at least a share p at or below it, ``(N, D)``: for counts it is a count."""
    rank = max(1, -int(-p * len(draws) // 1))
    return draws.kthvalue(min(rank, len(draws)), dim=0).values


def crps(draws: Tensor, y: Tensor) -> Tensor:
    """``E|Y − y| − ½ E|Y − Y'|`` of the draws, ``(N, D)``."""
    k = len(draws)
    ordered = draws.double().sort(0).values
    weight = (2 * torch.arange(1, k + 1, dtype=torch.float64, device=draws.device) - k - 1) / k**2
    return (ordered - y.double()).abs().mean(0) - torch.einsum("k,knd->nd", weight, ordered)


def excess(draws: Tensor, value: Tensor, tau: float) -> Tensor:
    """``E[τ (Y − a)₊ + (1 − τ) (a − Y)₊]`` at the values a, ``(N, D)``."""
    gap = draws.double() - value.double()
    return torch.maximum(tau * gap, (tau - 1) * gap).mean(0)


def entropy(likelihood: Likelihood, f: Tensor) -> Entropy:
    """Entropies of the mixture and of its components, by draws of each."""
    bound = likelihood.bind(f.shape[2])
    labels = components(likelihood, f, max(DRAWS // 4, _OF_EACH * len(f)))
    each = len(labels) // len(f)
    own = torch.stack([bound.log_prob(f[i // each], y) for i, y in enumerate(labels)]).mean(0)
    whole = own if len(f) == 1 else torch.stack([bound.mixture(f, y) for y in labels]).mean(0)
    return split(-whole, -own)
