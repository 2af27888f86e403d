"""Joint distribution of a linearised network's outputs at several examples: mean ``f̄(w)``, covariance ``J Σ Jᵀ``."""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.curvature import Covariance
from novacula.curvature.gradients.jacobian import Plan, jacobian


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
            applied = covariance.apply(jacobian(made, xs).flatten(0, 1)).double()
            for j in range(i + 1):
                block = applied @ jacobian(made, batches[j][0]).flatten(0, 1).double().T
                k[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] = block
                k[ends[j] : ends[j + 1], ends[i] : ends[i + 1]] = block.T
    return mean, (k + k.T) / 2, torch.cat([y for _, y in batches])
