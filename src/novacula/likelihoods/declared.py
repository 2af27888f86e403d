"""Whether a likelihood and a network are what they are taken for.

What is exact for Gaussian noise is wrong for any other, and a softmax of probabilities is a far too unsure one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.modules.outputs import squashed
from novacula.likelihoods.base import Likelihood


@torch.no_grad()
def check_quadratic(likelihood: Likelihood, y: Tensor) -> None:
    """Hold a likelihood that is declared ``quadratic`` against ``N(y; f, σ²)`` around a few labels, ``(N, C)``."""
    if not likelihood.quadratic:
        return
    y = y[:4].double().clamp(-1e6, 1e6)  # next to larger ones a step of σ is lost in rounding
    noise = likelihood.log_noise(y.shape[1]).to(y).expand_as(y)
    step = torch.linspace(-3.0, 2.5, y.numel(), dtype=y.dtype, device=y.device).reshape(y.shape)
    f = y + step * noise.exp()
    want = (-step.square() / 2 - noise - math.log(2 * math.pi) / 2).sum(1)
    found, factor = likelihood.log_prob(f, y).to(want), likelihood.factor(f, y).to(want)
    if torch.isfinite(want).all() and not (
        torch.allclose(found, want, 1e-3, 1e-3)
        and torch.allclose(factor @ factor.mT, torch.diag_embed((-2 * noise).exp()), 1e-3)
    ):
        raise InputError(
            "a likelihood that is N(y; f, σ²) with the σ of its log_noise, as it is declared quadratic",
            f"{type(likelihood).__name__}, whose log_prob or factor differs from that",
            "take quadratic = True out of the class, or mend log_prob, factor and log_noise",
        )


@torch.no_grad()
def check_logits(likelihood: Likelihood, outputs: Callable[[], Tensor]) -> None:
    """Refuse probabilities where a likelihood of classes or labels makes such of its outputs ``(N, C)`` itself."""
    if likelihood.task == "regression":
        return
    f = outputs()
    kind = squashed(f)
    if kind and not torch.allclose(likelihood.mean(f).to(f), f):
        got = f"outputs that are probabilities already, by a {kind} at the network's end"
        raise InputError("logits", got, f"leave out the {kind} at the network's end")
