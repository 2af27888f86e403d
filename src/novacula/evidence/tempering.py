"""Tempered priors. At temperature T the posterior is ``∝ [p(D|w) p(w)]^(1/T)``, and its prior part has a normaliser.

The number that plays the part of the evidence is the ratio of the two partition functions,

    Z_T = ∫ [p(D|w) p(w)]^(1/T) dw / ∫ p(w)^(1/T) dw,

the mean of ``p(D|w)^(1/T)`` under the tempered prior. Without the denominator it would grow without limit in the
prior's precision for every T < 1 (each weight adds ``½ (1/T − 1) log λ``), and could not choose a prior. At T = 1 the
denominator is one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.priors.base import Prior


def log_prior_partition(prior: Prior, params: Params, temperature: float) -> Tensor:
    """``log ∫ p(w)^(1/T) dw``."""
    return torch.zeros((), dtype=torch.float64) if temperature == 1.0 else prior.log_partition(params, temperature)
