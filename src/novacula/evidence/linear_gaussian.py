"""The exact evidence of a linear-Gaussian model.

With outputs affine in the weights, ``f(w, x) = f(0, x) + J w``, noise ``N(0, σ²)`` and prior ``N(0, Λ⁻¹)``, the data are
jointly Gaussian. With the whitened residual ``z = (y − f(0))/σ`` and rows ``G = J/σ``,

    log p(D) = −½ [ND log 2πσ² + log |I + G Λ⁻¹ Gᵀ| + zᵀ (I + G Λ⁻¹ Gᵀ)⁻¹ z],

computed on the smaller side of G. Differentiable in precisions, noise, and whatever the inputs depend on.

References:
    Gaussian processes for machine learning. C. E. Rasmussen, C. K. I. Williams, 2006, section 2.1.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.core.params import Params, flatten
from novacula.core.results import Estimate
from novacula.core.rng import derive
from novacula.curvature import Problem, rows
from novacula.evidence.common import invariance_assumptions, make_estimate, wants_gradient
from novacula.evidence.linearity import is_linear_gaussian
from novacula.inference.method import Posterior, weights_of
from novacula.likelihoods import Normal
from novacula.target import Target


@dataclass(frozen=True)
class LinearGaussian:
    """The closed form of the log evidence, where there is one.

    Args:
        copies: Transformed copies S of each input; by default the target's.
    """

    copies: int | None = None

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return "LinearGaussian"

    def __call__(self, target: Target, data: Data, start: Params | Posterior, *, seed: int) -> Estimate:
        """Compute the log evidence.

        Args:
            target: The model.
            data: The training data.
            start: Weights; the result does not depend on their values.
            seed: Seed of the transformations and of the test for linearity.

        Returns:
            An exact value, in nats.

        Raises:
            InputError: If outputs are not affine in the weights, or likelihood or prior are not Gaussian.
        """
        params = weights_of(start)
        likelihood = target.likelihood
        if not is_linear_gaussian(target, params, data, seed=seed) or not isinstance(likelihood, Normal):
            raise InputError(
                "outputs affine in the weights, a Normal likelihood and a Gaussian prior",
                f"{type(target.forward.module).__name__}, {type(likelihood).__name__}, {type(target.prior).__name__}",
                "use nv.evidence.Laplace for other models",
            )
        copies = self.copies or target.copies.evidence
        origin = {k: torch.zeros_like(w) for k, w in params.items()}
        problem = target.problem(origin, data, seed=derive(seed, "copies"), copies=copies)
        problem = dataclasses.replace(problem, differentiable=wants_gradient(problem))
        g, z, log_noise = _whitened(problem, likelihood)
        precision = target.prior.precision(params)
        diagonal = flatten({k: precision[k].double().expand(w.shape) for k, w in params.items()})
        n, p = g.shape
        scaled = g / diagonal.sqrt()
        if n <= p:
            root = torch.linalg.cholesky(torch.eye(n, dtype=g.dtype) + scaled @ scaled.T)
            distance = torch.linalg.solve_triangular(root, z[:, None], upper=False).square().sum()
        else:
            root = torch.linalg.cholesky(torch.eye(p, dtype=g.dtype) + scaled.T @ scaled)
            part = torch.linalg.solve_triangular(root, (scaled.T @ z)[:, None], upper=False)
            distance = z.square().sum() - part.square().sum()
        value = -(n * math.log(2 * math.pi) + 2 * log_noise + 2 * root.diagonal().log().sum() + distance) / 2
        return make_estimate(
            target,
            data,
            [value],
            kind="exact",
            estimator=self.name,
            assumptions=invariance_assumptions(target, copies),
        )


def _whitened(problem: Problem, likelihood: Normal) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``G (ND, P)``, residuals ``z (ND,)`` and ``Σ log σ``, in float64."""
    parts, residuals, logs = [], [], []
    for xs, y in problem.batches():
        # The model is linear, so the rows do not depend on the point: the origin serves.
        parts.append(rows(problem, xs, y).flatten(0, 1).double())
        f = problem.forward.average(problem.params, xs)
        sigma = likelihood.log_sigma.exp().expand_as(y)
        residuals.append(((y - f) / sigma).flatten().double())
        logs.append(likelihood.log_sigma.double().expand_as(y).sum())
    return torch.cat(parts), torch.cat(residuals), torch.stack(logs).sum()
