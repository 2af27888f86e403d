"""Predictions where the outputs are Gaussian, ``f ~ N(m, V)``, as those of a network linearised in its weights are.

The predictive is ``p(y) = ∫ p(y | f) N(f; m, V) df``. There are four ways to it:

- ``"analytic"``: exact where the likelihood is Gaussian with a known noise, ``N(y; m, V + σ²)``.
- ``"monte_carlo"``: draws ``f_s = m + V^½ z_s``, and the average of ``p(y | f_s)``. The z are one fixed quasi-random
  set, the same for every input, so that a prediction depends on its input alone.
- ``"probit"``: no draws, one closed form. For a sigmoid, MacKay's ``σ(m / √(1 + π V / 8))``. For a softmax, the same
  for every pair of classes, ``p_c ∝ 1 / Σ_k exp(−(m_c − m_k) / √(1 + π Var(f_c − f_k) / 8))``, which is MacKay's for
  two classes, and does not change when all outputs move together, as the softmax does not.
- ``"probit_diagonal"``: MacKay's factor for each output by itself, ``softmax(m_c / √(1 + π V_cc / 8))``, as other
  libraries have it. It takes a variance that all outputs share, which the softmax ignores, for doubt, and is then far
  too unsure; it is here for comparisons.

Each of them is the mixture with equal weights of ``p(y | f)`` at a few outputs f (one for probit), and is given as
such.

References:
    The evidence framework applied to classification networks. D. J. C. MacKay, 1992.
    Mean-field approximation to Gaussian-softmax integral with application to uncertainty estimation. Z. Lu, E. Ie,
    F. Sha, 2020. arXiv:2006.07584.
    Improving predictions of Bayesian neural nets via local linearization. A. Immer, M. Korzepa, M. Bauer, 2021.
    arXiv:2008.08711.
"""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.likelihoods.base import Likelihood, Rule

RULES: tuple[Rule, ...] = get_args(Rule)


def default_rule(likelihood: Likelihood) -> Rule:
    """The most accurate rule that a likelihood allows at little cost."""
    return likelihood.rules[0]


def check_rule(rule: Rule, likelihood: Likelihood) -> Rule:
    """Refuse a rule that does not fit the likelihood."""
    if rule not in RULES:
        raise InputError(f"a rule among {', '.join(RULES)}", repr(rule), "leave it out for the default")
    if rule not in likelihood.rules:
        raise InputError(
            f"a rule for {type(likelihood).__name__}", repr(rule), f"use {default_rule(likelihood)!r}, or leave it out"
        )
    return rule


def normal_draws(n: int, size: int, seed: int, like: Tensor) -> Tensor:
    """Quasi-random standard normal vectors: a scrambled Sobol sequence through the normal quantile function."""
    if size > torch.quasirandom.SobolEngine.MAXDIM:
        rng = torch.Generator().manual_seed(seed)
        return torch.randn(n, size, generator=rng, dtype=torch.float64).to(like)
    # The engine draws its scrambling from a stream of its own, so the global generator is left alone.
    u = torch.quasirandom.SobolEngine(size, scramble=True, seed=seed % 2**31).draw(n, dtype=torch.float64)
    return torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)).to(like)


def spread(mean: Tensor, variance: Tensor, draws: Tensor) -> Tensor:
    """``m + V^½ z`` for fixed z: mean ``(N, C)``, variance ``(N, C, C)``, draws ``(S, C)`` to ``(S, N, C)``."""
    return mean + torch.einsum("ncd,sd->snc", _root(variance), draws.to(mean))


def effective_outputs(
    rule: Rule, mean: Tensor, variance: Tensor, draws: Tensor | None, likelihood: Likelihood
) -> Tensor:
    """Outputs at which the likelihood's equal-weight mixture is the predictive, ``(S, N, C)``."""
    if rule == "monte_carlo" and draws is not None:
        return spread(mean, variance, draws)
    v = variance.diagonal(dim1=1, dim2=2)
    if rule == "probit_diagonal" or (rule == "probit" and likelihood.task == "multilabel"):
        return (mean / (1 + math.pi / 8 * v).sqrt()).unsqueeze(0)
    if rule == "probit":
        gap = mean.unsqueeze(1) - mean.unsqueeze(2)  # [n, c, k] = m_k − m_c
        of_gap = (v.unsqueeze(1) + v.unsqueeze(2) - 2 * variance).clamp(min=0)
        return -(gap / (1 + math.pi / 8 * of_gap).sqrt()).logsumexp(2).unsqueeze(0)
    raise InputError("a rule that is a mixture, and its draws", repr(rule), "use log_predictive for 'analytic'")


def gaussian_log_prob(mean: Tensor, covariance: Tensor, y: Tensor) -> Tensor:
    """``log N(y; m, S)``: mean ``(N, D)``, covariance ``(N, D, D)``, y ``(N, D)`` to ``(N,)``."""
    factor = torch.linalg.cholesky(covariance)
    z = torch.linalg.solve_triangular(factor, (y.to(mean) - mean).unsqueeze(-1), upper=False)[..., 0]
    log_det = factor.diagonal(dim1=1, dim2=2).log().sum(-1)
    return -0.5 * z.square().sum(-1) - log_det - 0.5 * mean.shape[-1] * math.log(2 * math.pi)


def add_noise(variance: Tensor, likelihood: Likelihood) -> Tensor:
    """``V + diag(σ²)``: variance ``(N, D, D)`` to ``(N, D, D)``."""
    d = variance.shape[-1]
    noise = (2 * likelihood.log_noise(d).detach()).exp().to(variance).expand(d)
    return variance + torch.diag_embed(noise)


def log_predictive(
    rule: Rule, likelihood: Likelihood, mean: Tensor, variance: Tensor, y: Tensor, draws: Tensor | None = None
) -> Tensor:
    """``log ∫ p(y | f) N(f; m, V) df`` of each example: mean ``(N, C)``, variance ``(N, C, C)`` to ``(N,)``."""
    if rule == "analytic":
        return gaussian_log_prob(mean, add_noise(variance, likelihood), y)
    return likelihood.mixture(effective_outputs(rule, mean, variance, draws, likelihood), y)


def _root(variance: Tensor) -> Tensor:
    # A Cholesky factor is unique, so the draws of one input do not depend on the others; where V is singular, the
    # symmetric root is taken, which is unique too.
    v = variance.double()
    scale = v.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
    v = v + torch.diag_embed((1e-10 * scale).expand(v.shape[:2]))
    factor, info = torch.linalg.cholesky_ex(v)
    bad = (info > 0) | ~torch.isfinite(factor).all((1, 2))
    if bad.any():
        values, vectors = torch.linalg.eigh(v[bad])
        factor[bad] = (vectors * values.clamp(min=0).sqrt().unsqueeze(1)) @ vectors.mT
    return factor.to(variance)
