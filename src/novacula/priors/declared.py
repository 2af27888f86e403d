"""Whether a prior that says it is Gaussian is so: what is exact for Gaussian priors is wrong for any other."""

from __future__ import annotations

import torch

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.priors.base import Prior

_WEIGHTS = 10_000  # of how many, about


@torch.no_grad()
def check_gaussian(prior: Prior, params: Params) -> None:
    """Hold a prior that is declared ``gaussian`` against ``−½ Σ λ (w − m)²`` at random weights of smaller tensors."""
    if not prior.gaussian:
        return
    origin: Params = {}
    for k, w in sorted(params.items(), key=lambda item: item[1].numel()):
        if not origin or w.numel() + sum(v.numel() for v in origin.values()) <= _WEIGHTS:
            origin[k] = torch.zeros_like(w, dtype=torch.float64)
    centre = prior.centre(origin)
    origin = origin if centre is None else centre
    precision, rng = prior.precision(origin), generator(0, "gaussian")
    away = {
        k: 3 * torch.randn(w.shape, generator=rng, dtype=w.dtype).to(w) * precision[k].rsqrt()
        for k, w in origin.items()
    }
    square = sum(float((precision[k] * w.square()).sum()) for k, w in away.items())
    away = {k: w + origin[k] for k, w in away.items()}
    peak, value, moved = float(prior.log_prob(origin)), float(prior.log_prob(away)), prior.precision(away)
    # What is not finite is refused elsewhere, by its own name.
    if abs(value - peak + square / 2) > 1e-3 * square + 1e-5 * abs(peak) or not all(
        torch.allclose(moved[k], p, 1e-3, 0, equal_nan=True) for k, p in precision.items()
    ):
        raise InputError(
            "a prior whose log_prob is −½ Σ λ (w − m)² and a constant, with its precision λ and centre m, as it is"
            " declared gaussian",
            f"{type(prior).__name__}, whose log_prob or precision differs from that",
            "take gaussian = True out of the class, or mend log_prob and precision",
        )
