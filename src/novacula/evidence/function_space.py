"""The joint score of examples whose outputs are Gaussian: ``log ∫ Π_n p(y_n | f_n) N(f; m, K) df``.

Under a Laplace posterior of the linearised network the outputs ``f`` at R = n·C places are jointly Gaussian, with mean
``m = f̄(w)`` and covariance ``K = J Σ Jᵀ``. Drawing weights and averaging ``Π p(y_n | f_n)`` fails for more than a
handful of examples: the average is dominated by draws that are never made. Laplace's method in function space does not,

    max_f ψ(f) − ½ log |I + Lᵀ K L|,    ψ(f) = Σ log p(y_n | f_n) − ½ (f − m)ᵀ K⁻¹ (f − m),   L Lᵀ = −E ∂² log p/∂f²,

and is exact for a Gaussian likelihood. With ``f = m + K a`` no inverse of K is needed, which may be singular.

References:
    Gaussian processes for machine learning. C. E. Rasmussen, C. K. I. Williams, 2006, section 3.4.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from novacula.core.errors import NovaculaWarning
from novacula.core.params import flatten, unflatten
from novacula.curvature import Covariance, DiagonalCovariance, ExactCovariance, LastLayerCovariance
from novacula.curvature.jacobian import Plan, jacobian
from novacula.curvature.kron_covariance import KronCovariance
from novacula.likelihoods.base import Likelihood


def joint_outputs(made: Plan, covariance: Covariance) -> tuple[Tensor, Tensor, Tensor]:
    """Means and joint covariance of the outputs at all of a problem's examples.

    The rows of two batches are in memory at a time, and are computed again for each pair of batches.

    Args:
        made: How Jacobians are computed, for the parameters that the covariance covers.
        covariance: Σ.

    Returns:
        Means ``(n, C)``, ``J Σ Jᵀ (n·C, n·C)`` in float64, and the labels.
    """
    problem = made.problem
    with torch.no_grad():
        batches = list(made.chunks())
        mean = torch.cat([problem.forward.average(problem.params, xs) for xs, _ in batches])
        blocks: list[list[Tensor]] = [[] for _ in batches]
        for i, (xs, _) in enumerate(batches):
            applied = apply(covariance, jacobian(made, xs).flatten(0, 1), made)
            for j in range(i + 1):
                rows = jacobian(made, batches[j][0]).flatten(0, 1)
                blocks[i].append(applied.double() @ rows.double().T)
        lower = [
            torch.cat([*row, *(blocks[j][i].T for j in range(i + 1, len(blocks)))], 1) for i, row in enumerate(blocks)
        ]
        k = torch.cat(lower)
    return mean, (k + k.T) / 2, torch.cat([y for _, y in batches])


def apply(covariance: Covariance, rows: Tensor, made: Plan) -> Tensor:
    """Multiply several vectors by a covariance.

    Args:
        covariance: Σ.
        rows: Shape ``(R, P)``.
        made: Names the parameters, in the rows' order.

    Returns:
        Shape ``(R, P)``.
    """
    match covariance:
        case ExactCovariance():
            return covariance.apply(rows.double())
        case LastLayerCovariance():
            return covariance.exact.apply(rows.double())
    like = {name: made.problem.params[name] for name in made.names}

    def one(row: Tensor) -> Tensor:
        found = covariance.solve(unflatten(row, like))
        return flatten({name: found[name] for name in like})

    if isinstance(covariance, KronCovariance | DiagonalCovariance):
        return torch.func.vmap(one)(rows)
    return torch.stack([one(row) for row in rows])


def log_joint(likelihood: Likelihood, mean: Tensor, k: Tensor, y: Tensor, *, iterations: int = 100) -> Tensor:
    """``log ∫ Π_n p(y_n | f_n) N(f; m, K) df``, by Laplace's method.

    Args:
        likelihood: Its Fisher information serves as the curvature, which is the Hessian's for Categorical, Bernoulli
            and Normal; Newton's method is damped.
        mean: ``m``, shape ``(n, C)``.
        k: ``K``, shape ``(n·C, n·C)``, float64.
        y: Labels.
        iterations: At most so many.

    Returns:
        A float64 scalar, in nats.

    Warns:
        NovaculaWarning: If the maximum is not found.
    """
    n, c = mean.shape
    m, blocks = mean.double(), k.unflatten(0, (n, c)).unflatten(2, (n, c))

    def psi(a: Tensor) -> tuple[Tensor, Tensor]:
        shift = (k @ a).view(n, c)
        return likelihood.log_prob(m + shift, y).sum() - (a.view(n, c) * shift).sum() / 2, m + shift

    with torch.no_grad():
        a = torch.zeros(n * c, dtype=torch.float64, device=k.device)
        value, f = psi(a)
        converged = False
        for _ in range(iterations):
            ell, root = _system(likelihood, blocks, f, y)
            b = torch.einsum("nck,ndk,nd->nc", ell, ell, f - m) + _slope(likelihood, f, y)
            pulled = torch.einsum("nck,nc->nk", ell, (k @ b.flatten()).view(n, c)).reshape(-1, 1)
            solved = torch.cholesky_solve(pulled, root).view(n, -1)
            direction = (b - torch.einsum("nck,nk->nc", ell, solved)).flatten() - a
            step = 1.0
            new, moved = psi(a + direction)
            while not new >= value and step > 1e-6:
                step /= 2
                new, moved = psi(a + step * direction)
            if not new >= value:  # rounding: nothing is left to gain
                converged = True
                break
            converged = bool(new - value <= 1e-10 * (1 + value.abs()))
            a, value, f = a + step * direction, new, moved
            if converged:
                break
        if not converged:
            warnings.warn(
                f"the joint score's maximum was not found in {iterations} steps", NovaculaWarning, stacklevel=2
            )
        return value - _system(likelihood, blocks, f, y)[1].diagonal().log().sum()


def _system(likelihood: Likelihood, blocks: Tensor, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    # L (n, C, r) and the Cholesky factor of I + Lᵀ K L.
    ell = likelihood.factor(f, y)
    right = torch.einsum("ncmd,mdl->ncml", blocks, ell)
    b = torch.einsum("nck,ncml->nkml", ell, right).flatten(2).flatten(0, 1)
    return ell, torch.linalg.cholesky(torch.eye(len(b), dtype=b.dtype, device=b.device) + b)


def _slope(likelihood: Likelihood, f: Tensor, y: Tensor) -> Tensor:
    leaf = f.detach().requires_grad_()
    with torch.enable_grad():
        total = likelihood.log_prob(leaf, y).sum()
    return torch.autograd.grad(total, leaf)[0]
