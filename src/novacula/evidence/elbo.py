"""The evidence lower bound of a Gaussian over weights, with the transformations averaged inside the likelihood.

For any density q, ``log p(D) ≥ E_q log p(D | w) − KL(q ‖ p)``. Here q is the Laplace posterior of a curvature structure
(for ``"last_layer"``: over the last layer, given its features). With a log-likelihood that is concave in the outputs
(categorical, Bernoulli, Gaussian), averaging S transformed copies inside it, ``log p(y | 1/S Σ_s f(w, x_s))``, gives a
lower bound in expectation for every S, and a tighter one the larger S is (the multi-sample form).

The expectation of the log-likelihood is that over pairs of weights, ``w ± ε``, which cancels what is odd in ε; the KL
divergence is in closed form. The gradient is the partial derivative at fixed q, which is the whole one where q is at
its optimum.

References:
    Learning invariant weights in neural networks. T. van der Ouderaa, M. van der Wilk, 2022. arXiv:2202.12439.
    Learning invariances using the marginal likelihood. M. van der Wilk, M. Bauer, S. John, J. Hensman, 2018.
    arXiv:1808.05563.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params, unstack
from novacula.core.rng import derive, generator
from novacula.curvature import Curvature
from novacula.curvature.structures.names import build, check_structure
from novacula.data.data import Data
from novacula.evidence import common
from novacula.evidence.start import bound, weights_for
from novacula.posteriors.base import Posterior
from novacula.priors.mean import deviations
from novacula.target import Target

Dense = Literal["last_layer", "exact", "kron", "diag"]


@dataclass(frozen=True)
class ELBO:
    """A lower bound of the log evidence by a Gaussian approximation of the posterior.

    Args:
        structure: The structure of q's covariance.
        samples: Weights drawn from q, in pairs ``w ± ε`` (an odd number is rounded up), each with transformations of
            its own; the standard error is the spread between pairs.
        copies: Transformed copies S of each input inside the likelihood; by default the target's.

    Raises:
        InputError: If the structure is unknown, there are fewer than two pairs, or no copies.
    """

    structure: Dense = "last_layer"
    samples: int = 16
    copies: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_structure(self.structure, get_args(Dense))
        common.check_counts("use nv.evidence.ELBO(structure='last_layer', samples=16)", copies=self.copies)
        if self.samples < 3:
            raise InputError("at least two pairs of samples", f"samples={self.samples}", "use samples=16")

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"ELBO({self.structure})" if self.copies is None else f"ELBO({self.structure}, copies={self.copies})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior, *, seed: int) -> Estimate:
        """Estimate the bound."""
        if not target.prior.gaussian or target.temperature != 1.0:
            raise InputError(
                "a Gaussian prior and temperature 1",
                f"{type(target.prior).__name__}, {target.temperature}",
                "the KL divergence has a closed form only there; use nv.evidence.Laplace",
            )
        target, data = bound(target, data)
        target, params = weights_for(target, start)
        copies = self.copies or target.copies.evidence
        problem = target.problem(params, data, seed=derive(seed, "curvature"), copies=copies)
        with common.collect_warnings() as found, torch.no_grad():
            curvature = build(self.structure, problem, seed=seed)
            mean = {k: params[k].detach() for k in curvature.names}
            fixed = {k: v.detach() for k, v in target.prior.precision(mean).items()}
            pairs = -(-self.samples // 2)
            draws = curvature.covariance(fixed).sample(pairs, generator(seed, "weights"))
        kl = _divergence(target, curvature, mean, fixed)
        graph = common.wants_gradient(target, params, data)
        fits = []
        for s, shift in enumerate(unstack(draws)):
            both = []
            for sign in (1.0, -1.0):
                w = {k: v + sign * shift[k] if k in shift else v for k, v in params.items()}
                stream = derive(seed, "copies", s, int(sign))
                drawn = target.problem(w, data, seed=stream, copies=copies, differentiable=graph)
                both.append(common.log_likelihood(target, drawn))
            fits.append(torch.stack(both).mean())
        concave = target.likelihood.concave
        holds = target.averaged is None or concave
        return common.make_estimate(
            target,
            data,
            [fit - kl for fit in fits],
            kind="lower bound" if holds else "estimate",
            estimator=self.name,
            assumptions=(
                "the bound holds in expectation over the draws; the standard error is their spread",
                *(("the weights below the last layer count as fixed",) if curvature.leverage == "part" else ()),
                *common.invariance_assumptions(target, copies),
            ),
            warnings=(
                *curvature.warnings,
                *found,
                *(
                    ()
                    if holds
                    else (f"{target.likelihood.loss} is not concave in the outputs: no bound for few copies",)
                ),
            ),
            parts=[{"log_likelihood": float(fit.detach()), "kl": float(kl.detach())} for fit in fits],
        )


def _divergence(target: Target, curvature: Curvature, mean: Params, fixed: Params) -> Tensor:
    """``KL(q ‖ p)`` for ``q = N(mean, (H + Λ₀)⁻¹)``, at fixed q, with gradients to the prior's precisions Λ.

        ½ [Σ_t (λ_t/λ₀_t) tr_t(Λ₀ Σ) + dᵀΛd − P + log |H + Λ₀| − log |Λ|],

    where d is the mean of q less that of the prior, and ``tr_t(Λ₀ Σ) = n_t + ∂(log|H + Λ₀| − log|Λ₀|)/∂ log λ₀_t``
    holds for every structure, with t over all numbers λ, each the precision of n_t weights.

    Returns:
        A scalar in float64.
    """
    with torch.enable_grad():
        logs = {k: v.double().log().requires_grad_() for k, v in fixed.items()}
        determinant = curvature.log_det({k: v.exp() for k, v in logs.items()}).value
        slopes = dict(zip(logs, torch.autograd.grad(determinant, list(logs.values())), strict=True))
    terms = [determinant.detach()]
    away = deviations(target.prior, mean)
    for k, precision in target.prior.precision(mean).items():
        moved, size, w = (
            precision.double().log() - logs[k].detach(),
            mean[k].numel() / precision.numel(),
            away[k].double(),
        )
        terms.append((moved.exp() * (size + slopes[k]) - size * (1 + moved)).sum() + (precision.double() * w**2).sum())
    return torch.stack(terms).sum() / 2
