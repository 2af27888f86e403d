"""The temperature at which labels are as sure as they should be, by maximum likelihood.

With ``b = 1/T``, the loss ``−Σ_n log p(y_n | f_n)^b`` of densities that are normalised over y is convex in b, as
every exponential family's is. For Gaussian noise its minimum is ``T = mean ((y − f)/σ)²``; for logits it is the root of

    d/db Σ_n −log p(y_n | b f_n),

found to a relative 1e-10. To the loss of logits, whose temperature is likely to be near 1, ``(log T)² / (2 τ²)`` may be
added: without it, few rows that are all predicted rightly ask for none at all, T → 0. With ``g_n`` the first and
``h_n`` the second derivative of an example's loss in b, the error of b is that of the mean of ``g_n`` over the mean of
``h_n`` (the sandwich, which holds for models that are wrong), and that of T is T² times as much.

References:
    On calibration of modern neural networks. C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, 2017. arXiv:1706.04599.
    The behavior of maximum likelihood estimates under nonstandard conditions. P. J. Huber, 1967.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from novacula.diagnostics.crossed_mean import nested
from novacula.likelihoods import Likelihood

LEAST, MOST = 0.05, 20.0
"""Between these temperatures one is sought."""
SPREAD = 0.5
"""How far the logarithm of a temperature is likely to be from 0."""
_NEAR = 1e-3  # of the finite differences in log T


@dataclass(frozen=True)
class Temperature:
    """A temperature of the labels; 1 where the likelihood has none."""

    value: float
    stderr: float  # its standard error; NaN at a bound and where there is none


def fit_temperature(
    likelihood: Likelihood, f: Tensor, y: Tensor, folds: Tensor, *, spread: float | None = None
) -> Temperature:
    """Find the temperature of a likelihood.

    Args:
        likelihood: Says by its ``tempering`` what a temperature changes.
        f: Outputs of networks that have not seen the labels, shape ``(N, C)``, or ``(M, N, C)`` of M networks.
        y: The labels.
        folds: The fold of each example, for the standard error, shape ``(N,)``.
        spread: τ, how far ``log T`` of logits is likely to be from 0; by default the likelihood alone decides.

    Returns:
        The temperature, between 0.05 and 20.
    """
    if likelihood.tempering is None or not likelihood.normalised:
        return Temperature(1.0, math.nan)
    f, spread = f.detach().double(), spread if likelihood.tempering == "outputs" else None
    if spread is not None or (f.ndim == 3 and len(f) > 1):
        return _searched(likelihood, f.reshape(-1, *f.shape[-2:]), y, folds, spread)
    f = f.reshape(f.shape[-2:])
    if likelihood.tempering == "noise":
        sd = likelihood.log_noise(f.shape[1]).detach().double().exp()
        squares, targets = ((y.double() - f) / sd).square().sum(1), f.shape[1]
        t = float(squares.mean()) / targets
        g, h = (squares - targets * t) / 2, torch.tensor(targets * t**2 / 2)
    else:
        t = _root(likelihood, f, y)
        g, h = _slopes(likelihood, f, y, 1 / t)
    if not LEAST < t < MOST:
        return Temperature(min(max(t, LEAST), MOST), math.nan)
    return Temperature(t, t**2 * nested(g, folds).stderr / float(h.mean()))


def log_prob_at(likelihood: Likelihood, f: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Each example's log-density ``(N,)`` under the mixture of M networks, f ``(M, N, C)``, at a label temperature."""
    f = f.detach().double()
    if temperature != 1 and likelihood.tempering == "noise":
        likelihood = likelihood.scaled(math.log(temperature) / 2)
    elif temperature != 1:
        f = f / temperature
    each = torch.stack([likelihood.log_prob(member, y).double() for member in f])
    return each.logsumexp(0) - math.log(len(f))


def _searched(likelihood: Likelihood, f: Tensor, y: Tensor, folds: Tensor, spread: float | None) -> Temperature:
    weight = 0.0 if spread is None else 1 / (spread**2 * f.shape[1])  # of ½ (log T)², beside the mean loss

    def losses(log_t: float) -> Tensor:
        return weight * log_t**2 / 2 - log_prob_at(likelihood, f, y, math.exp(log_t))

    low, high = math.log(LEAST), math.log(MOST)
    found = minimize_scalar(
        lambda s: float(losses(s).mean()), bounds=(low, high), method="bounded", options={"xatol": 1e-8}
    )
    at = float(found.x)  # type: ignore[attr-defined]
    if not low + 1e-6 < at < high - 1e-6:
        return Temperature(math.exp(at), math.nan)
    behind, here, ahead = (losses(at + h) for h in (-_NEAR, 0.0, _NEAR))
    slope, bend = (ahead - behind) / (2 * _NEAR), float((ahead - 2 * here + behind).mean()) / _NEAR**2
    return Temperature(math.exp(at), math.exp(at) * nested(slope, folds).stderr / bend if bend > 0 else math.nan)


def _root(likelihood: Likelihood, f: Tensor, y: Tensor) -> float:
    def slope(b: float) -> float:
        return float(_slopes(likelihood, f, y, b)[0].mean())

    if slope(1 / MOST) >= 0:
        return MOST
    if slope(1 / LEAST) <= 0:
        return LEAST
    return 1 / float(brentq(slope, 1 / MOST, 1 / LEAST, xtol=1e-12, rtol=1e-10))  # type: ignore[arg-type]


def _slopes(likelihood: Likelihood, f: Tensor, y: Tensor, b: float) -> tuple[Tensor, Tensor]:
    # First and second derivatives of each example's loss in b: g and h, each (N,).
    with torch.enable_grad():
        each = torch.full((len(f), 1), b, dtype=f.dtype, device=f.device, requires_grad=True)
        (g,) = torch.autograd.grad(-likelihood.log_prob(f * each, y).sum(), each, create_graph=True)
        (h,) = torch.autograd.grad(g.sum(), each)
    return g.detach()[:, 0], h[:, 0]
