"""The joint score of examples whose outputs are Gaussian: ``log ∫ Π_n p(y_n | f_n) N(f; m, K) df``.

Under the Laplace posterior of a linearised network the outputs at several examples are jointly Gaussian. Drawing
weights and averaging ``Π p(y_n | f_n)`` fails for more than a handful of examples: the average is dominated by draws
that are never made. Here the score is taken as a sum of forecasts,

    Σ_n log ∫ p(y_n | f_n) N(f_n; m_n, V_n) df_n,

each after the outputs' distribution has been updated by the labels before: its first two moments are kept (assumed
density filtering). With a Gaussian likelihood that is Kalman's filter, and exact. Otherwise the integrals over the C
outputs of one example are by importance sampling around their mode; what is left is the error of calling the updated
distribution Gaussian, and a slight dependence on the order.

References:
    A family of algorithms for approximate Bayesian inference. T. P. Minka, 2001. PhD thesis, MIT, section 3.
    Gaussian processes for machine learning. C. E. Rasmussen, C. K. I. Williams, 2006, section 3.6.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from novacula.core.errors import NovaculaWarning
from novacula.likelihoods.base import Likelihood
from novacula.posteriors.linearised import normal_draws


def log_joint(likelihood: Likelihood, mean: Tensor, k: Tensor, y: Tensor, *, seed: int = 0) -> Tensor:
    """``log ∫ Π_n p(y_n | f_n) N(f; m, K) df``, by filtering.

    Warns:
        NovaculaWarning: If fewer than a fiftieth of the draws count for an example.

    Returns:
        A float64 scalar, in nats.
    """
    with torch.no_grad():
        c = mean.shape[1]
        m, k = mean.double().flatten(), k.double().clone()
        draws = _white(c, seed, m)
        scores, poorest = [], 1.0
        for n in range(len(mean)):
            values, vectors = torch.linalg.eigh(k[:c, :c])
            kept = values > 1e-12 * values[-1].clamp(min=torch.finfo(values.dtype).tiny)
            sd, axes = values[kept].sqrt(), vectors[:, kept]
            score, shift, spread, share = _update(likelihood, m[:c], axes * sd, y[n : n + 1], draws[:, kept])
            scores.append(score)
            poorest = min(poorest, share)
            # The rest of the outputs, regressed on the whitened coordinates z of these.
            cross = k[c:, :c] @ (axes / sd)
            m = m[c:] + cross @ shift
            k = k[c:, c:]
            k.addmm_(cross @ (spread - torch.eye(len(shift), dtype=k.dtype, device=k.device)), cross.T)
    if poorest < 0.02:
        warnings.warn(
            f"a forecast rests on {100 * poorest:.1g} % of its draws: its label is far from what is expected",
            NovaculaWarning,
            stacklevel=2,
        )
    return torch.stack(scores).sum()


def _update(
    likelihood: Likelihood, m: Tensor, root: Tensor, y: Tensor, draws: Tensor
) -> tuple[Tensor, Tensor, Tensor, float]:
    # One example, f = m + R z with z ~ N(0, I): log p(y), mean and covariance of z given y, and the share of draws that
    # count. Draws are from two Gaussians around the mode, one as wide as the prior and one as the curvature says.
    z, b = _mode(likelihood, m, root, y)
    size = len(z)
    factor = torch.linalg.cholesky(b)
    half_det = factor.diagonal().log().sum()
    if likelihood.quadratic:
        score = likelihood.log_prob((m + root @ z).unsqueeze(0), y)[0] - z.square().sum() / 2 - half_det
        return score, z, torch.cholesky_inverse(factor), 1.0
    narrow = torch.linalg.solve_triangular(factor.T, draws.T, upper=True).T
    e = torch.cat([draws, narrow])
    widths = torch.stack([e.square().sum(1) / 2, ((e @ b) * e).sum(1) / 2 - half_det])
    log_proposal = (-widths).logsumexp(0) - math.log(2.0)
    points = z + e
    f = m + points @ root.T
    log_weights = likelihood.log_prob(f, y.expand(len(f), *y.shape[1:])) - points.square().sum(1) / 2 - log_proposal
    score = log_weights.logsumexp(0) - math.log(len(f))
    w = log_weights.softmax(0)
    mean = w @ points
    centred = points - mean
    share = float(1 / (w.square().sum() * len(w))) if size else 1.0
    return score, mean, centred.T @ (w.unsqueeze(1) * centred), share


def _mode(likelihood: Likelihood, m: Tensor, root: Tensor, y: Tensor, iterations: int = 30) -> tuple[Tensor, Tensor]:
    # The maximum of log p(y | m + R z) − ½ |z|² by damped Newton steps, and minus the second derivative there.
    eye = torch.eye(root.shape[1], dtype=root.dtype, device=root.device)

    def psi(z: Tensor) -> Tensor:
        return likelihood.log_prob((m + root @ z).unsqueeze(0), y)[0] - z.square().sum() / 2

    def curvature(z: Tensor) -> Tensor:
        half = root.T @ likelihood.factor((m + root @ z).unsqueeze(0), y)[0]
        return eye + half @ half.T

    z = torch.zeros(root.shape[1], dtype=root.dtype, device=root.device)
    value, b = psi(z), curvature(z)
    for _ in range(iterations):
        leaf = z.requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(psi(leaf), leaf)
        z = z.detach()
        direction = torch.linalg.solve(b, slope)
        step, gain = 1.0, float(slope @ direction)
        if not gain > 1e-9:
            break
        new = psi(z + direction)
        while not new >= value + 1e-4 * step * gain and step > 1e-6:
            step /= 2
            new = psi(z + step * direction)
        z, value = z + step * direction, new
        b = curvature(z)
    return z, b


def _white(size: int, seed: int, like: Tensor) -> Tensor:
    # Draws in mirrored pairs with a covariance of exactly one: a label that says nothing then changes nothing.
    half = normal_draws(2 ** max(8, size.bit_length() + 1), size, seed, like)
    draws = torch.cat([half, -half])
    factor = torch.linalg.cholesky(draws.T @ draws / len(draws))
    return torch.linalg.solve_triangular(factor, draws.T, upper=False).T
