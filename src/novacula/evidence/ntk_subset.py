"""The NTK-subset estimate: Occam's factor from a minibatch, cheap enough to follow while the weights train.

With M of the N examples and one row ``g_m`` of the Fisher factor each,

    log p(D) ≈ N/M Σ_m log p(y_m|f̄_m) + log p(w) + P/2 log 2π − ½ log|Λ| − N/(2M) log |I_M + G Λ⁻¹ Gᵀ|.

Its gradients lead the hyperparameters to the right place; its value is loose, and depends on M and on the seed. Use it
to learn, and score models with `Laplace`. With all C rows of each example its expectation is below the exact Laplace
value; with sampled rows it is neither bound (see `novacula.curvature.structures.ntk`).

References:
    Stochastic marginal likelihood gradients using neural tangent kernels. A. Immer, T. van der Ouderaa, M. van der
    Wilk, G. Rätsch, B. Schölkopf, 2023. arXiv:2306.03968.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.estimate import Estimate
from novacula.core.params import Params, count
from novacula.core.rng import derive, generator
from novacula.curvature import Problem, ntk_gram
from novacula.curvature.structures.ntk import Outputs
from novacula.data.data import Data
from novacula.evidence import common
from novacula.evidence.start import weights_for
from novacula.evidence.tempering import log_prior_partition
from novacula.posteriors.base import Posterior
from novacula.target import Target


@dataclass(frozen=True)
class NTKSubset:
    """The NTK-subset estimate of the log evidence.

    Args:
        subset: M, the examples whose Gram matrix is formed.
        fit: Examples for the log-likelihood term; by default the same M.
        outputs: ``"sampled"`` takes one random row of the Fisher factor for each example, ``"all"`` takes all C.
        copies: Transformed copies S of each input; by default the target's.
        repeats: Independent subsets; the standard error is the spread between them. A single one does not know its own
            (NaN).

    Raises:
        InputError: If a number is below 1, or ``outputs`` is unknown.
    """

    subset: int = 64
    fit: int | None = None
    outputs: Outputs = "sampled"
    copies: int | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        hint = "use nv.evidence.NTKSubset()"
        common.check_counts(hint, subset=self.subset, fit=self.fit, copies=self.copies, repeats=self.repeats)

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"NTKSubset({self.subset}, {self.outputs})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior, *, seed: int) -> Estimate:
        """Estimate the log evidence from random subsets."""
        target, params = weights_for(target.taking(data.parts), start)
        copies = self.copies or target.copies.evidence
        drawn = [self._once(target, data, params, copies, derive(seed, "ntk", r)) for r in range(self.repeats)]
        return common.make_estimate(
            target,
            data,
            [value for value, _ in drawn],
            kind="estimate",
            estimator=self.name,
            within=math.nan,
            assumptions=(
                "the subset's Gram matrix stands for that of all examples",
                *common.invariance_assumptions(target, copies),
                *common.tempering_assumptions(target),
            ),
            warnings=("a subset estimate: good for its gradients, not for comparing models",),
            parts=[terms for _, terms in drawn],
        )

    def _once(
        self, target: Target, data: Data, params: Params, copies: int, stream: int
    ) -> tuple[Tensor, dict[str, float]]:
        # One subset's value and its terms.
        t = target.temperature
        graph = common.wants_gradient(target, params, data)
        order = torch.randperm(data.n, generator=generator(stream, "subset"))
        m, n_fit = min(self.subset, data.n), min(self.fit or self.subset, data.n)

        def problem(size: int, key: str) -> Problem:
            return target.problem(
                params,
                data.subset(order[:size]),
                seed=derive(stream, key),
                copies=copies,
                total=data.n,
                differentiable=graph,
            )

        part = problem(m, "copies")
        fit = common.log_likelihood(target, part if n_fit == m else problem(n_fit, "fit")) / t
        precision = target.prior.precision(params)
        gram = ntk_gram(part, outputs=self.outputs, seed=derive(stream, "outputs"))
        occam = -gram.log_det(precision).value / 2
        # The terms of log p(w) that the posterior's volume takes back, whatever the temperature.
        volume = (count(params) * math.log(2 * math.pi * t) - common.log_precision_sum(precision, params)) / 2
        log_prior = target.prior.log_prob(params).double() / t + volume - log_prior_partition(target.prior, params, t)
        terms = {"log_likelihood": fit, "log_prior": log_prior, "occam": occam}
        return fit + log_prior + occam, {k: float(v.detach()) for k, v in terms.items()}
