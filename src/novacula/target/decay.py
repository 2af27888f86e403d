"""Priors whose gradient is a decay of the weights: Gaussians around zero.

What autograd makes of a prior is a dozen small operations for each tensor of weights, which for a small network take as
long as the network itself. Where the prior is Gaussian, ``log p(w) = log p(0) − ½ Σ λ w²``, its gradient is ``−λ w``.
Whether it is one is found by asking it, so that any prior can be.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.params import Params, flatten
from novacula.priors.base import Prior

_SCALES = (1.0, 40.0)
"""Where the prior is asked, in its own standard deviations: near its centre and far out."""


def decays(prior: Prior, like: Params) -> bool:
    """Whether a prior's gradient is ``−λ w`` with the λ that it states, the same everywhere."""
    rng = torch.Generator().manual_seed(0)
    flat = flat_precision(prior, like)
    for scale in _SCALES:
        noise = {k: torch.randn(w.shape, generator=rng, dtype=torch.float64).to(w) for k, w in like.items()}
        with torch.no_grad():
            points = {k: scale * noise[k] / p.sqrt() for k, p in prior.precision(like).items()}
        leaves = {k: points[k].requires_grad_() for k in like}
        with torch.enable_grad():
            found = torch.autograd.grad(
                prior.log_prob(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True
            )
        point, slope = flatten(leaves).detach(), flatten(dict(zip(leaves, found, strict=True)))
        tolerance = torch.finfo(point.dtype).eps ** 0.75
        same = torch.equal(flat_precision(prior, leaves), flat)
        if not same or not torch.allclose(slope, -flat * point, rtol=tolerance, atol=0):
            return False
    return True


@torch.no_grad()
def flat_precision(prior: Prior, like: Params) -> Tensor:
    """λ of every weight, ``(P,)``."""
    found = prior.precision(like)
    return flatten({k: found[k].to(w.dtype).expand(w.shape) for k, w in like.items()})
