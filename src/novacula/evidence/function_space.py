"""Joint distribution of a linearised network's outputs at several examples: mean ``f̄(w)``, covariance ``J Σ Jᵀ``."""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.params import flatten, unflatten
from novacula.curvature import Covariance, DiagonalCovariance, ExactCovariance, LastLayerCovariance
from novacula.curvature.gradients.jacobian import Plan, jacobian
from novacula.curvature.structures.kron_covariance import KronCovariance


def joint_outputs(made: Plan, covariance: Covariance) -> tuple[Tensor, Tensor, Tensor]:
    """Means and joint covariance of the outputs at all of a problem's examples.

    The rows of two batches are in memory at a time, and are computed again for each pair of batches.

    Returns:
        Means ``(n, C)``, ``K (n·C, n·C)`` in float64, and the labels.
    """
    problem = made.problem
    with torch.no_grad():
        batches = list(made.chunks())
        mean = torch.cat([problem.forward.average(problem.params, xs) for xs, _ in batches])
        ends = torch.tensor([0, *(len(xs) * made.outputs for xs, _ in batches)]).cumsum(0).tolist()
        k = torch.zeros(ends[-1], ends[-1], dtype=torch.float64, device=mean.device)
        for i, (xs, _) in enumerate(batches):
            applied = apply(covariance, jacobian(made, xs).flatten(0, 1), made).double()
            for j in range(i + 1):
                block = applied @ jacobian(made, batches[j][0]).flatten(0, 1).double().T
                k[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] = block
                k[ends[j] : ends[j + 1], ends[i] : ends[i + 1]] = block.T
    return mean, (k + k.T) / 2, torch.cat([y for _, y in batches])


def apply(covariance: Covariance, rows: Tensor, made: Plan) -> Tensor:
    """Multiply several vectors by a covariance: rows ``(R, P)`` to ``(R, P)``."""
    match covariance:
        case ExactCovariance():
            return covariance.apply(rows.double())
        case LastLayerCovariance():
            return covariance.exact.apply(rows.double())
        case DiagonalCovariance():
            return rows.double() * covariance.values
    like = {name: made.problem.params[name] for name in made.names}

    def one(row: Tensor) -> Tensor:
        found = covariance.solve(unflatten(row, like))
        return flatten({name: found[name] for name in like})

    if isinstance(covariance, KronCovariance):
        return torch.func.vmap(one)(rows)
    return torch.stack([one(row) for row in rows])
