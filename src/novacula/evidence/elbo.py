"""The evidence lower bound of a Gaussian over weights, with the transformations averaged inside the likelihood.

For any density q, ``log p(D) ≥ E_q log p(D | w) − KL(q ‖ p)``. Here q is the Laplace posterior of a curvature structure
(for ``"last_layer"``: over the last layer, given its features). With a log-likelihood that is concave in the outputs
(categorical, Bernoulli, Gaussian), averaging S transformed copies inside it, ``log p(y | 1/S Σ_s f(w, x_s))``, gives a
lower bound in expectation for every S, and a tighter one the larger S is (the multi-sample form).

The gradient is the partial derivative at fixed q, which is the whole one where q is at its optimum.

References:
    Learning invariant weights in neural networks. T. van der Ouderaa, M. van der Wilk, 2022. arXiv:2202.12439.
    Learning invariances using the marginal likelihood. M. van der Wilk, M. Bauer, S. John, J. Hensman, 2018.
    arXiv:1808.05563.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.core.params import Params, dot, unstack
from novacula.core.results import Estimate
from novacula.core.rng import derive, generator
from novacula.evidence.common import invariance_assumptions, log_likelihood, make_estimate, wants_gradient
from novacula.evidence.laplace import BUILD, Structure
from novacula.inference.method import Posterior, weights_of
from novacula.priors import FanIn, Gaussian
from novacula.target import Target


@dataclass(frozen=True)
class ELBO:
    """A lower bound of the log evidence by a Gaussian approximation of the posterior.

    Args:
        structure: The structure of q's covariance.
        samples: Weights drawn from q, each with transformations of its own; the standard error is their spread.
        copies: Transformed copies S of each input inside the likelihood; by default the target's.
    """

    structure: Structure | Literal["last_layer"] = "last_layer"
    samples: int = 16
    copies: int | None = None

    def __post_init__(self) -> None:
        if self.structure not in BUILD or self.samples < 2:
            raise InputError(
                f"a structure among {', '.join(BUILD)} and at least 2 samples",
                f"{self.structure!r}, {self.samples}",
                "use ELBO(structure='last_layer', samples=16)",
            )

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"ELBO({self.structure})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior, *, seed: int) -> Estimate:
        """Estimate the bound.

        Args:
            target: The model; its prior must be Gaussian and its temperature 1.
            data: The training data.
            start: Weights at a mode, or a posterior whose mode is used.
            seed: Seed of weights and transformations.

        Returns:
            An estimate whose expectation is a lower bound, in nats.

        Raises:
            InputError: If the prior is not Gaussian, or the temperature is not 1.
        """
        if not isinstance(target.prior, Gaussian | FanIn) or target.temperature != 1.0:
            raise InputError(
                "a Gaussian prior and temperature 1",
                f"{type(target.prior).__name__}, {target.temperature}",
                "the KL divergence has a closed form only there; use nv.evidence.Laplace",
            )
        params = weights_of(start)
        copies = self.copies or target.copies.evidence
        problem = target.problem(params, data, seed=derive(seed, "curvature"), copies=copies)
        with torch.no_grad():
            curvature = BUILD[self.structure](problem)
            fixed = {k: v for k, v in target.prior.precision(params).items() if k in curvature.names}
            log_det = curvature.log_det(fixed)
            draws = curvature.covariance(fixed).sample(self.samples, generator(seed, "weights"))
        mean = {k: params[k] for k in curvature.names}
        precision = target.prior.precision(mean)
        terms = []
        for s, shift in enumerate(unstack(draws)):
            w = {k: v + shift[k] if k in shift else v for k, v in params.items()}
            drawn = target.problem(w, data, seed=derive(seed, "copies", s), copies=copies)
            drawn = dataclasses.replace(drawn, differentiable=wants_gradient(drawn))
            # E_q of the trace term of the KL divergence, from the same draws: ½ εᵀΛε.
            terms.append(log_likelihood(target, drawn) - _quadratic(precision, shift) / 2)
        # log|Λ| enters as log|H+Λ| − log|Λ|, held fixed in q, plus what the prior itself moves.
        moved = sum(
            (precision[k].double().log().expand(v.shape).sum() - fixed[k].double().log().expand(v.shape).sum())
            for k, v in mean.items()
        )
        size = sum(v.numel() for v in mean.values())
        kl = (_quadratic(precision, mean) - size + log_det.value - moved) / 2
        values = [t - kl for t in terms]
        return make_estimate(
            target,
            data,
            values,
            kind="lower bound",
            estimator=self.name,
            spread=[log_det.stderr / 2] * len(values),
            assumptions=(
                "the bound holds in expectation over the draws; the standard error is their spread",
                *(("the weights below the last layer count as fixed",) if self.structure == "last_layer" else ()),
                *invariance_assumptions(target, copies),
            ),
            warnings=tuple(curvature.warnings),
            parts={"log_likelihood": float(torch.stack([t.detach() for t in terms]).mean()), "kl": float(kl.detach())},
        )


def _quadratic(precision: Params, v: Params) -> Tensor:
    """``vᵀ Λ v`` in float64."""
    return dot({k: precision[k].double() * w.double() for k, w in v.items()}, {k: w.double() for k, w in v.items()})
