"""The NTK-subset estimate: Occam's factor from a minibatch, cheap enough to follow while the weights train.

With M of the N examples and one row ``g_m`` of the Fisher factor each,

    log p(D) ≈ N/M Σ_m log p(y_m|f̄_m) + log p(w) + P/2 log 2π − ½ log|Λ| − N/(2M) log |I_M + G Λ⁻¹ Gᵀ|.

Its gradients lead the hyperparameters to the right place; its value is loose, and depends on M and on the seed. Use it to
learn, and score models with `Laplace`.

References:
    Stochastic marginal likelihood gradients using neural tangent kernels. A. Immer, T. van der Ouderaa, M. van der
    Wilk, G. Rätsch, B. Schölkopf, 2023. arXiv:2306.03968.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch

from novacula.core.data import Data
from novacula.core.params import Params, count
from novacula.core.results import Estimate
from novacula.core.rng import derive, generator
from novacula.curvature import ntk_gram
from novacula.evidence.common import (
    invariance_assumptions,
    log_likelihood,
    log_precision_sum,
    make_estimate,
    wants_gradient,
)
from novacula.inference.method import Posterior, weights_of
from novacula.target import Target


@dataclass(frozen=True)
class NTKSubset:
    """The NTK-subset estimate of the log evidence.

    Args:
        subset: M, the examples whose Gram matrix is formed.
        fit: Examples for the log-likelihood term; by default the same M.
        outputs: ``"sampled"`` takes one random row of the Fisher factor for each example, ``"all"`` takes all C.
        copies: Transformed copies S of each input; by default the target's.
    """

    subset: int = 64
    fit: int | None = None
    outputs: Literal["sampled", "all"] = "sampled"
    copies: int | None = None

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"NTKSubset({self.subset}, {self.outputs})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior, *, seed: int) -> Estimate:
        """Estimate the log evidence from one random subset.

        Args:
            target: The model.
            data: The training data.
            start: Weights, or a posterior whose mode is used.
            seed: Seed of the subset, the transformations and the sampled outputs.

        Returns:
            The estimate, in nats; its value carries gradients.
        """
        params = weights_of(start)
        copies = self.copies or target.copies.evidence
        order = torch.randperm(data.n, generator=generator(seed, "subset"))
        m, n_fit = min(self.subset, data.n), min(self.fit or self.subset, data.n)
        problem = target.problem(params, data.subset(order[:m]), seed=derive(seed, "copies"), copies=copies, total=data.n)
        problem = dataclasses.replace(problem, differentiable=wants_gradient(problem))
        if n_fit == m:
            fit_problem = problem
        else:
            fit_data = data.subset(order[:n_fit])
            fit_problem = target.problem(params, fit_data, seed=derive(seed, "fit"), copies=copies, total=data.n)
            fit_problem = dataclasses.replace(fit_problem, differentiable=problem.differentiable)
        precision = target.prior.precision(params)
        gram = ntk_gram(problem, outputs=self.outputs, seed=derive(seed, "outputs"))
        fit, log_prior = log_likelihood(target, fit_problem), target.prior.log_prob(params).double()
        occam = gram.log_det(precision).value / 2
        # log p(w) holds −P/2 log 2π + ½ log|Λ|, which the volume of the posterior takes back but for Occam's factor.
        constant = count(params) / 2 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
        value = fit + log_prior + constant - log_precision_sum(precision, params) / 2 - occam
        return make_estimate(
            target,
            data,
            [value],
            kind="estimate",
            estimator=self.name,
            assumptions=(
                "the subset's Gram matrix stands for that of all examples",
                *invariance_assumptions(target, copies),
            ),
            warnings=("a subset estimate: good for its gradients, not for comparing models",),
            parts={"log_likelihood": float(fit.detach()), "log_prior": float(log_prior.detach()), "occam": float(occam.detach())},
        )
