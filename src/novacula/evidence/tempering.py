"""Tempered priors. At temperature T the posterior is ``∝ [p(D|w) p(w)]^(1/T)``, and its prior part has a normaliser.

The number that plays the part of the evidence is the ratio of the two partition functions,

    Z_T = ∫ [p(D|w) p(w)]^(1/T) dw / ∫ p(w)^(1/T) dw,

the mean of ``p(D|w)^(1/T)`` under the tempered prior. Without the denominator it would grow without limit in the
prior's precision for every T < 1 (each weight adds ``½ (1/T − 1) log λ``), and could not choose a prior. At T = 1 the
denominator is one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors import FanIn, Gaussian, Laplace, StudentT, scales
from novacula.priors.base import Prior


def log_prior_partition(prior: Prior, params: Params, temperature: float) -> Tensor:
    """``log ∫ p(w)^(1/T) dw``."""
    t = temperature
    if t == 1.0:
        return torch.zeros((), dtype=torch.float64)
    match prior:
        case Gaussian() | FanIn():
            # Of one weight: (λ/2π)^(1/2T) (2πT/λ)^(1/2).
            log = {k: p.double().log() for k, p in prior.precision(params).items()}
            each = {k: ((v - math.log(2 * math.pi)) / t + math.log(2 * math.pi * t) - v) / 2 for k, v in log.items()}
        case Laplace():
            log = _logs(prior, params)
            each = {k: math.log(2 * t) + v - (math.log(2.0) + v) / t for k, v in log.items()}
        case StudentT():
            df = (prior.df + 1) / t - 1
            if df <= 0:
                raise InputError(
                    f"a temperature below {prior.df + 1:g}: above it this density to the power 1/T has no integral",
                    f"{t:g}",
                    "use a lower temperature or a larger df",
                )
            log = _logs(prior, params)
            constant = (_log_t_constant(prior.df) - math.log(prior.df) / 2) / t
            constant -= _log_t_constant(df) - math.log(prior.df) / 2
            each = {k: constant + v * (1 - 1 / t) for k, v in log.items()}
        case _:
            raise InputError(
                "a Gaussian, FanIn, Laplace or StudentT prior at temperatures other than 1",
                type(prior).__name__,
                "use temperature=1.0",
            )
    return torch.stack([w.numel() * each[k] for k, w in params.items()]).sum()


def _logs(prior: Laplace | StudentT, params: Params) -> Params:
    return {k: v.double() for k, v in scales.by_tensor(prior.log_scale, prior.names, params).items()}


def _log_t_constant(df: float) -> float:
    # log of Γ((ν+1)/2) / (Γ(ν/2) √π): the constant of a t-density but for its scale.
    return math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(math.pi) / 2
