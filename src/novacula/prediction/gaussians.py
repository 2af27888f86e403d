"""Mixtures of independent Gaussians with equal weights, one mixture for each input and target.

All functions take means and standard deviations ``μ_s, σ_s`` of shape ``(S, N, D)``. With ``φ`` and ``Φ`` the standard
normal density and distribution function, everything but the quantile has a closed form:

- partial expectation, ``E(y − a)₊ = 1/S Σ_s σ_s [φ(z_s) + z_s Φ(z_s)]`` with ``z_s = (μ_s − a) / σ_s``;
- continuous ranked probability score, ``CRPS = ∫ (F(t) − [t ≥ y])² dt = E|X − y| − ½ E|X − X'|``, where both terms are
  averages of ``E|N(m, v)| = m (2 Φ(m/√v) − 1) + 2 √v φ(m/√v)``.

References:
    Strictly proper scoring rules, prediction, and estimation. T. Gneiting, A. E. Raftery, 2007.
    The continuous ranked probability score for circular variables and its application to mesoscale forecast ensemble
    verification. E. P. Grimit, T. Gneiting, V. J. Berrocal, N. A. Johnson, 2006 (mixtures of Gaussians).
    The exponentially convergent trapezoidal rule. L. N. Trefethen, J. A. C. Weideman, 2014.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from novacula.core.checks.numbers import shown
from novacula.core.errors import InputError

# The trapezoidal rule's error on F(1 − F) is about exp(−(2π/h)²/4) for a step of h standard deviations: 1e-12 here, as
# are the tails that are left out.
_STEP = 0.6
_TAIL = 7.5


def log_density(y: Tensor, mu: Tensor, sd: Tensor) -> Tensor:
    """The log-density of all targets of an input together, whose components they share, ``(N,)``."""
    logs = (-0.5 * ((y - mu) / sd).square() - sd.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
    return logs.logsumexp(0) - math.log(len(mu))


def quantile(mu: Tensor, sd: Tensor, p: float) -> Tensor:
    """The p-quantile, by bisection between the components' own: mu ``(S, N, D)`` to ``(N, D)``."""
    each = mu + sd * torch.special.ndtri(torch.tensor(p, dtype=torch.float64)).to(mu)
    low, high = each.amin(0), each.amax(0)
    if len(mu) == 1:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        below = torch.special.ndtr((middle - mu) / sd).mean(0) < p
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def expected_excess(a: Tensor, mu: Tensor, sd: Tensor) -> Tensor:
    """``E(y − a)₊``: how far the target exceeds ``a`` on average, not exceeding it counting as 0, ``(N, D)``."""
    z = (mu - a) / sd
    return (sd * (_pdf(z) + z * torch.special.ndtr(z))).mean(0)


def crps(y: Tensor, mu: Tensor, sd: Tensor) -> Tensor:
    """The continuous ranked probability score of each target, in float64, ``(N, D)``."""
    y, mu, sd = y.double(), mu.double(), sd.double()
    return _absolute(y - mu, sd).mean(0) - half_spread(mu, sd)


def half_spread(mu: Tensor, sd: Tensor) -> Tensor:
    """``½ E|X − X'| = ∫ F (1 − F)`` of two independent draws of a mixture.

    It costs an evaluation for every pair of components. Where there are many components that are not much narrower
    than the whole, the trapezoidal rule has fewer points, and the same digits: its error falls exponentially.

    Returns:
        Shape ``(N, D)``.
    """
    s = len(mu)
    low, high = (mu - _TAIL * sd).amin(0), (mu + _TAIL * sd).amax(0)
    points = float(((high - low) / (_STEP * sd.amin(0))).max()) + 2
    if points < s / 2:
        return _by_points(mu, sd, low, high, math.ceil(points))
    total = torch.zeros_like(mu[0])
    for i in range(s):  # pairs (i, j > i) count twice, (i, i) once
        total += 0.5 * _absolute(torch.zeros_like(mu[i]), math.sqrt(2) * sd[i])
        total += _absolute(mu[i] - mu[i + 1 :], (sd[i].square() + sd[i + 1 :].square()).sqrt()).sum(0)
    return total / s**2


def _by_points(mu: Tensor, sd: Tensor, low: Tensor, high: Tensor, points: int) -> Tensor:
    # The ends' values are 0 to rounding, so that all points weigh the same.
    step = (high - low) / (points - 1)
    total = torch.zeros_like(low)
    for i in range(points):
        below = torch.special.ndtr((low + i * step - mu) / sd).mean(0)
        total += below * (1 - below)
    return total * step


def _absolute(mean: Tensor, sd: Tensor) -> Tensor:
    # E|N(mean, sd²)|, elementwise.
    z = mean / sd
    return mean * torch.erf(z / math.sqrt(2)) + 2 * sd * _pdf(z)


def _pdf(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)


def probabilities(p: object) -> Tensor:
    """Probabilities between 0 and 1, one or ``(Q,)``, as float64."""
    try:
        wanted = torch.as_tensor(p, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        wanted = torch.empty(0)
    if wanted.ndim > 1 or wanted.numel() == 0 or not bool(((wanted > 0) & (wanted < 1)).all()):
        raise InputError("probabilities between 0 and 1", shown(p), "use 0.5 for the median")
    return wanted
