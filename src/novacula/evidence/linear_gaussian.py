"""The exact evidence of a linear-Gaussian model.

With outputs affine in the weights, ``f(w, x) = f(0, x) + J w``, noise ``N(0, σ²)`` and prior ``N(0, Λ⁻¹)``, the data
are jointly Gaussian. With the whitened residual ``z = (y − f(0))/σ`` and rows ``G = J/σ``,

    log p(D) = −½ [ND log 2π + 2N Σ log σ + log |I + G Λ⁻¹ Gᵀ| + zᵀ (I + G Λ⁻¹ Gᵀ)⁻¹ z],

computed on the smaller side of G. Differentiable in precisions, noise, and whatever the inputs depend on. At a
temperature T all but the determinant is divided by T (see `tempering`).

References:
    Gaussian processes for machine learning. C. E. Rasmussen, C. K. I. Williams, 2006, section 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.curvature import Problem, plan, rows
from novacula.curvature.precision import precision_vector
from novacula.data.data import Data
from novacula.evidence import common
from novacula.evidence.linearity import is_linear_gaussian
from novacula.evidence.start import bound, weights_for
from novacula.likelihoods.base import Likelihood
from novacula.posteriors.base import Posterior
from novacula.target import Target


@dataclass(frozen=True)
class LinearGaussian:
    """The closed form of the log evidence, where there is one.

    Args:
        copies: Transformed copies S of each input; by default the target's.

    Raises:
        InputError: If ``copies`` is below 1.
    """

    copies: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        common.check_counts("use nv.evidence.LinearGaussian()", copies=self.copies)

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return "LinearGaussian"

    def __call__(self, target: Target, data: Data, start: Params | Posterior, *, seed: int) -> Estimate:
        """Compute the log evidence."""
        target, data = bound(target, data)
        target, params = weights_for(target, start)
        likelihood, t = target.likelihood, target.temperature
        if not is_linear_gaussian(target, params, data, seed=seed):
            raise InputError(
                "outputs affine in the weights, a Normal likelihood and a Gaussian prior",
                f"{type(target.forward.module).__name__}, {type(likelihood).__name__}, {type(target.prior).__name__}",
                "use nv.evidence.Laplace for other models",
            )
        copies = self.copies or target.copies.evidence
        origin = target.prior.centre(params) or {k: torch.zeros_like(w) for k, w in params.items()}
        graph = common.wants_gradient(target, params, data)
        problem = target.problem(origin, data, seed=derive(seed, "copies"), copies=copies, differentiable=graph)
        g, z, log_noise = _whitened(problem, likelihood)
        scaled = g * precision_vector(target.prior.precision(params), params, tuple(params)).rsqrt()
        n, p = g.shape
        gram = scaled @ scaled.T if n <= p else scaled.T @ scaled
        root = torch.linalg.cholesky(torch.eye(len(gram), dtype=g.dtype, device=g.device) + gram)
        if n <= p:
            distance = torch.linalg.solve_triangular(root, z.unsqueeze(1), upper=False).square().sum()
        else:
            # ‖z − G̃u‖² + ‖u‖² at its minimum, rather than ‖z‖² less a nearly equal number.
            u = torch.cholesky_solve((scaled.T @ z).unsqueeze(1), root).squeeze(1)
            distance = (z - scaled @ u).square().sum() + u.square().sum()
        fit = -(n * math.log(2 * math.pi) + 2 * log_noise + distance) / (2 * t)
        occam = -root.diagonal().log().sum()
        random = target.averaged is not None
        return common.make_estimate(
            target,
            data,
            [fit + occam],
            kind="estimate" if random else "exact",
            estimator=self.name,
            within=math.nan if random else 0.0,
            assumptions=(*common.invariance_assumptions(target, copies), *common.tempering_assumptions(target)),
            warnings=("one draw of the transformations: no standard error",) if random else (),
            parts=[{"fit": float(fit.detach()), "occam": float(occam.detach())}],
        )


def _whitened(problem: Problem, likelihood: Likelihood) -> tuple[Tensor, Tensor, Tensor]:
    # Rows ``G (ND, P)``, residuals ``z (ND,)`` and ``Σ log σ``, in float64.
    made = plan(problem)

    def chunk(xs: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The model is linear, so the rows do not depend on the point: the prior's mean serves.
        f = problem.forward.average(problem.params, xs)
        log_sigma = likelihood.log_noise(y.shape[1]).double().to(y.device).expand_as(y)
        z = (y - f).double() * (-log_sigma).exp()
        return rows(made, xs, y).flatten(0, 1).double(), z.flatten(), log_sigma.flatten()

    g, z, log_sigma = made.reduce(chunk, "cat")
    return g, z, log_sigma.sum()
