"""Expectation propagation for Gaussian orthants: ``P(z > 0)`` for ``z ~ N(0, K)``, fast and deterministic.

The indicator of each ``z_i > 0`` is replaced by a Gaussian site ``exp(ν_i z_i − ½ τ_i z_i²)``, which matches mean and
variance of the truncated Gaussian that it meets. With ``S = diag(τ)^½``, ``B = I + S K S`` and cavity moments
``μ_-i, σ²_-i``,

    log Z = Σ_i log Φ(μ_-i/σ_-i) − ½ log|B| + ½ Σ_i log(1 + τ_i σ²_-i) + (terms quadratic in ν and μ_-i).

The value is no bound, and says nothing of its own error: hold it against `tilting`.

References:
    Gaussian probabilities and expectation propagation. J. P. Cunningham, P. Hennig, S. Lacoste-Julien, 2011.
    arXiv:1111.6832.
    Gaussian processes for machine learning. C. E. Rasmussen, C. K. I. Williams, 2006, section 3.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, solve_triangular
from scipy.special import log_ndtr

_LEAST = 1e-12  # precision below which a site or cavity counts as none


@dataclass(frozen=True)
class Sites:
    """What expectation propagation ended at."""

    value: float  # log Z
    sweeps: int  # how many it took
    converged: bool  # whether the value had come to rest


def mills(c: np.ndarray) -> np.ndarray:
    """``φ(c)/Φ(−c)``, the hazard of a normal variable at c, also far in its tail."""
    return np.exp(-0.5 * c * c - 0.5 * math.log(2 * math.pi) - log_ndtr(-c))


def expectation_propagation(k: np.ndarray, *, sweeps: int = 200, tolerance: float = 1e-8) -> Sites:
    """``log P(z > 0)`` by expectation propagation; k ``(n, n)``, positive definite."""
    n = len(k)
    nu, tau = np.zeros(n), np.zeros(n)
    sigma, mu = k.copy(), np.zeros(n)
    before = math.inf
    for sweep in range(1, sweeps + 1):
        for i in range(n):
            tau_i, nu_i = _site(sigma[i, i], mu[i], tau[i], nu[i])
            change = tau_i - tau[i]
            column = sigma[:, i].copy()
            gain = 1 / (1 + change * column[i])
            # Of Σ⁻¹μ, only entry i moves: first Σ by rank one, then μ along its own column.
            mu = mu + column * (gain * ((nu_i - nu[i]) - change * mu[i]))
            sigma -= np.outer(column * (change * gain), column)
            tau[i], nu[i] = tau_i, nu_i
        sigma, mu, value = _recomputed(k, tau, nu)
        if abs(value - before) < tolerance:
            return Sites(value, sweep, True)
        before = value
    return Sites(before, sweeps, False)


def _site(variance: float, mean: float, tau: float, nu: float) -> tuple[float, float]:
    # The site that makes the marginal match the moments of the cavity cut off at zero.
    cavity = max(1 / variance - tau, _LEAST)
    m, v = (mean / variance - nu) / cavity, 1 / cavity
    c = -m / math.sqrt(v)
    hazard = float(mills(np.asarray(c)))
    cut_mean, cut_variance = m + math.sqrt(v) * hazard, v * max(1 - hazard * (hazard - c), _LEAST)
    new = max(1 / cut_variance - cavity, 0.0)
    return new, cut_mean * (new + cavity) - m * cavity


def _recomputed(k: np.ndarray, tau: np.ndarray, nu: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    root = np.sqrt(tau)
    low = np.linalg.cholesky(np.eye(len(k)) + root[:, None] * k * root)
    half = solve_triangular(low, root[:, None] * k, lower=True)
    sigma = k - half.T @ half
    mu = sigma @ nu
    variance = sigma.diagonal()
    cavity = np.maximum(1 / variance - tau, _LEAST)
    m, v = (mu / variance - nu) / cavity, 1 / cavity
    log_hat = log_ndtr(m / np.sqrt(v)).sum()
    # Z = ∫ N(z; 0, K) Π Z_i t_i(z_i), with Z_i such that each site has the mass of its cut cavity.
    own = 0.5 * np.log1p(tau * v) - 0.5 * (((m * cavity + nu) ** 2) / (cavity + tau) - m * m * cavity)
    value = log_hat - np.log(low.diagonal()).sum() + 0.5 * float(nu @ mu) + own.sum()
    return sigma, mu, float(value)


def check_definite(k: np.ndarray) -> bool:
    """Whether a Cholesky factor of k exists."""
    try:
        cho_factor(k, lower=True)
    except np.linalg.LinAlgError:
        return False
    return True
