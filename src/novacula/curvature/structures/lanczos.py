"""Conjugate gradients for several right-hand sides, and the quadrature that falls out of them.

The coefficients of conjugate gradients on ``B u = z`` are those of the Lanczos tridiagonal T of B started at z, and

    zᵀ log(B) z ≈ |z|² e₁ᵀ log(T) e₁

is Gauss quadrature: right for polynomials of degree up to twice the number of steps. No basis is stored.

References:
    Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. S. Ubaru, J. Chen, Y. Saad, 2017.
    GPyTorch: blackbox matrix-matrix Gaussian process inference with GPU acceleration. J. Gardner, G. Pleiss, D. Bindel,
    K. Weinberger, A. G. Wilson, 2018. arXiv:1809.11165.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from novacula.core.errors import NonFiniteError

Apply = Callable[[Tensor], Tensor]


def conjugate_gradients(apply: Apply, z: Tensor, iterations: int, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Solve ``B u = z`` for several z, and read ``zᵀ log(B) z`` off the coefficients, ``(n, P)``."""
    u, r, p = torch.zeros_like(z), z.clone(), z.clone()
    norm = r.square().sum(1)
    start = norm.clone()
    active = norm > 0
    alphas, betas, actives = [], [], []
    for _ in range(iterations):
        if not bool(active.any()):
            break
        bp = apply(p)
        curvature = (p * bp).sum(1)
        if not bool(torch.isfinite(curvature).all()):
            raise NonFiniteError(
                "finite products with the curvature", "NaN or infinity", "check the weights and the inputs"
            )
        # A probe that has converged stands still.
        alpha = torch.where(active, norm / curvature.clamp(min=torch.finfo(z.dtype).tiny), torch.zeros_like(norm))
        u = u + alpha.unsqueeze(1) * p
        r = r - alpha.unsqueeze(1) * bp
        new = r.square().sum(1)
        beta = torch.where(active, new / norm.clamp(min=torch.finfo(z.dtype).tiny), torch.zeros_like(norm))
        alphas.append(alpha)
        betas.append(beta)
        actives.append(active)
        p = torch.where(active.unsqueeze(1), r + beta.unsqueeze(1) * p, p)
        norm = torch.where(active, new, norm)
        active = active & (norm > tolerance**2 * start)
    residual = (norm / start.clamp(min=torch.finfo(z.dtype).tiny)).sqrt()
    steps = torch.stack(actives).sum(0) if actives else torch.zeros(len(z), dtype=torch.long)
    logs = [
        start[i] * _log_entry(torch.stack(alphas)[: int(k), i], torch.stack(betas)[: int(k), i]) if k else start[i] * 0
        for i, k in enumerate(steps)
    ]
    return u, torch.stack(logs), residual


def _log_entry(alpha: Tensor, beta: Tensor) -> Tensor:
    # e₁ᵀ log(T) e₁ for the Lanczos tridiagonal T that the coefficients of conjugate gradients stand for.
    diagonal_ = 1 / alpha
    diagonal_[1:] += beta[:-1] / alpha[:-1]
    off = beta[:-1].sqrt() / alpha[:-1]
    values, vectors = torch.linalg.eigh(torch.diag(diagonal_) + torch.diag(off, 1) + torch.diag(off, -1))
    return (vectors[0].square() * values.clamp(min=1).log()).sum()  # B ≥ I
