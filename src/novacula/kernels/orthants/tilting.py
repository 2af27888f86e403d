"""Minimax tilting for Gaussian orthants: ``P(z > 0)`` for ``z ~ N(0, K)``, by importance sampling at its best.

With ``K = L Lᵀ`` and ``z = L x``, coordinate k must exceed ``c_k(x) = −Σ_{j<k} L_kj x_j / L_kk``. It is drawn from the
normal distribution with mean μ_k cut off below there, and the draw weighs

    log w = ψ(x, μ) = Σ_k [½ μ_k² − x_k μ_k + log Φ(μ_k − c_k)].

μ is the saddle point of ψ: its least value over μ of the greatest over x. All weights are below ``exp ψ`` at that
point, so no rare draw can hide, and the spread of the weights is an honest error. Variables are taken in the order
of how little room those before leave them.

References:
    The normal law under linear restrictions: simulation and estimation via minimax tilting. Z. I. Botev, 2017.
    arXiv:1603.04166.
    Maximum likelihood estimation of the multinomial probit model. G. J. Gibson, C. A. Glasbey, D. A. Elston, 1994.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from novacula.kernels.orthants.ep import mills

_STEPS = 200
_HALVINGS = 40
_AT_ONCE = 4_096


@dataclass(frozen=True)
class Tilted:
    """What minimax tilting found."""

    value: float  # logarithm of the mean weight
    stderr: float  # its standard error
    bound: float  # log of an upper bound of every weight, and so of the probability
    effective: float  # effective sample size, as a share of the draws
    residual: float  # how far from the saddle point μ is, as a norm of the gradient


def minimax_tilting(k: np.ndarray, draws: int, rng: np.random.Generator) -> Tilted:
    """``log P(z > 0)`` by Botev's importance sampling; k ``(n, n)``, positive definite."""
    low, _ = _ordered(k)
    scaled = np.tril(low / low.diagonal()[:, None], -1)
    x, mu, residual = _saddle(scaled)
    bound = _psi(scaled, x, mu)
    _, logs = _proposed(scaled, mu, draws, rng)
    top = logs.max()
    weights = np.exp(logs - top)
    mean = weights.mean()
    relative = weights.std(ddof=1) / mean / math.sqrt(draws)
    effective = float(mean**2 / (weights**2).mean())
    return Tilted(float(top + math.log(mean)), float(relative), bound, effective, residual)


def truncated(k: np.ndarray, n: int, rng: np.random.Generator, most: int) -> tuple[np.ndarray, int]:
    """Up to n independent draws of ``z ~ N(0, K)`` given ``z > 0``, ``(·, N)``, and how many proposals they took."""
    # A proposal is taken with probability w / exp ψ at the saddle point, which no weight exceeds: draws are exact.
    low, order = _ordered(k)
    scaled = np.tril(low / low.diagonal()[:, None], -1)
    x, mu, _ = _saddle(scaled)
    bound = _psi(scaled, x, mu)
    found: list[np.ndarray] = []
    tried = taken = 0
    while taken < n and tried < most:
        size = min(_AT_ONCE, most - tried)
        drawn, logs = _proposed(scaled, mu, size, rng)
        drawn = drawn[:, np.log1p(-rng.random(size)) < logs - bound]
        found.append((low @ drawn).T)
        tried, taken = tried + size, taken + drawn.shape[1]
    z = np.empty((min(n, taken), len(k)))
    z[:, order] = np.concatenate(found)[:n]
    return z, tried


def _proposed(
    scaled: np.ndarray, mu: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    # x ``(n, draws)`` one coordinate after another, and log w ``(draws,)``.
    logs, drawn = np.zeros(draws), np.zeros((len(mu), draws))
    for i in range(len(mu)):
        c = -(scaled[i, :i] @ drawn[:i]) if i else np.zeros(draws)
        room = log_ndtr(mu[i] - c)
        drawn[i] = mu[i] - ndtri_exp(np.log1p(-rng.random(draws)) + room)
        logs += 0.5 * mu[i] ** 2 - drawn[i] * mu[i] + room
    return drawn, logs


def _ordered(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # The Cholesky factor of the variables in their order, and that order: next is the one that is least likely to be
    # above zero when those before are at their means.
    k = k.copy()
    n = len(k)
    low, y, order = np.zeros((n, n)), np.zeros(n), np.arange(n)
    for j in range(n):
        left = np.maximum(k.diagonal()[j:] - (low[j:, :j] ** 2).sum(1), 1e-300)
        i = j + int(np.argmin(log_ndtr((low[j:, :j] @ y[:j]) / np.sqrt(left))))
        for rows in (k, low, order):
            rows[[i, j]] = rows[[j, i]]
        k[:, [i, j]] = k[:, [j, i]]
        low[j, j] = math.sqrt(max(k[j, j] - (low[j, :j] ** 2).sum(), 1e-300))
        low[j + 1 :, j] = (k[j + 1 :, j] - low[j + 1 :, :j] @ low[j, :j]) / low[j, j]
        y[j] = float(mills(np.asarray(-(low[j, :j] @ y[:j]) / low[j, j])))
    return low, order


def _psi(scaled: np.ndarray, x: np.ndarray, mu: np.ndarray) -> float:
    return float((0.5 * mu**2 - x * mu + log_ndtr(mu + scaled @ x)).sum())


def _saddle(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    # Newton's method on ∇ψ = 0; the last x enters nothing and the last μ is 0.
    n = len(scaled)
    x, mu = np.zeros(n), np.zeros(n)
    gradient, jacobian = _slopes(scaled, x, mu)
    for _ in range(_STEPS):
        size = float(np.linalg.norm(gradient))
        if size < 1e-10 * n:
            break
        step = np.linalg.lstsq(jacobian, -gradient, rcond=None)[0] if n > 1 else np.zeros(0)
        share = 1.0
        for _ in range(_HALVINGS):
            a, b = x.copy(), mu.copy()
            a[:-1] += share * step[: n - 1]
            b[:-1] += share * step[n - 1 :]
            g, j = _slopes(scaled, a, b)
            if np.isfinite(g).all() and np.linalg.norm(g) < size:
                break
            share /= 2
        else:
            break
        x, mu, gradient, jacobian = a, b, g, j
    return x, mu, float(np.linalg.norm(gradient))


def _slopes(scaled: np.ndarray, x: np.ndarray, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # ψ's gradient in (x, μ) without their last entries, and its derivative; scaled is L_kj / L_kk below the diagonal.
    n = len(scaled)
    c = -(scaled @ x) - mu
    h = mills(c)
    dh = h * (h - c)
    in_x = -mu + scaled.T @ h
    in_mu = mu - x + h
    weighted = scaled * dh[:, None]
    xx, mx, mm = -(scaled.T @ weighted), -np.eye(n) - weighted, np.diag(1 - dh)
    keep = slice(0, n - 1)
    jacobian = np.block([[xx[keep, keep], mx.T[keep, keep]], [mx[keep, keep], mm[keep, keep]]])
    return np.concatenate([in_x[keep], in_mu[keep]]), jacobian
