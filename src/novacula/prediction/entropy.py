"""How unsure a predictive is, and how much of that more data could mend: entropies in nats.

For a mixture over weights, ``H[y] = E_w H[y | w] + I[y; w]``: total = aleatoric + epistemic.

References:
    Bayesian active learning for classification and preference learning. N. Houlsby, F. Huszár, Z. Ghahramani,
    M. Lengyel, 2011. arXiv:1112.5745 (the mutual information of label and weights).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from novacula.posteriors.linearised import normal_draws
from novacula.prediction.gaussians import log_density

_NOISE_DRAWS = 64


class Entropy(NamedTuple):
    """Entropies in nats, each of shape ``(N,)``.

    ``total`` is that of the predictive; ``aleatoric`` the average over the weights of each one's own, what would remain
    were the weights known; ``epistemic`` the difference, the information that the label would give about the weights.
    The last two are None where the predictive is not made of samples.
    """

    total: Tensor
    aleatoric: Tensor | None
    epistemic: Tensor | None


def split(total: Tensor, aleatoric: Tensor) -> Entropy:
    """All three from two."""
    return Entropy(total, aleatoric, (total - aleatoric).clamp(min=0))


def of_probabilities(p: Tensor, *, exclusive: bool) -> Entropy:
    """Entropies of a mixture of classes, or of labels that count as independent, whose entropies add."""

    def each(p: Tensor) -> Tensor:
        own = torch.special.entr(p)
        return (own if exclusive else own + torch.special.entr(1 - p)).sum(-1)

    total = each(p.mean(0))
    return Entropy(total, None, None) if len(p) == 1 else split(total, each(p).mean(0))


def of_gaussian(total: Tensor, noise: Tensor) -> Entropy:
    """Entropies of one Gaussian that is the sum of two; total ``(N, D, D)``."""
    constant = 0.5 * total.shape[1] * math.log(2 * math.pi * math.e)
    return split(*(constant + 0.5 * torch.linalg.slogdet(m).logabsdet for m in (total, noise)))


def of_mixture(mu: Tensor, sd: Tensor) -> Entropy:
    """Entropies of a mixture of independent Gaussians; the total is an average over fixed draws of the noise."""
    d = mu.shape[2]
    aleatoric = 0.5 * d * math.log(2 * math.pi * math.e) + sd.log().sum(-1).mean(0)
    if len(mu) == 1:
        return split(aleatoric, aleatoric)
    z = normal_draws(_NOISE_DRAWS, d, 1, mu)
    logs = [torch.stack([log_density(m + s * e, mu, sd) for e in z]).mean(0) for m, s in zip(mu, sd, strict=True)]
    return split(-torch.stack(logs).mean(0), aleatoric)
