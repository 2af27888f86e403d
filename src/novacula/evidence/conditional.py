"""Evidence given part of the data: the conditional log marginal likelihood.

The log evidence is a sum of forecasts, ``log p(D) = Σ_b log p(D_b | D_{<b})``. Its early terms ask how well the prior
alone predicts, and can outweigh everything that matters for the trained network: a model may have a low evidence and
generalise best. `Conditional` keeps the last term only, ``log p(D_{≥m} | D_{<m})``.

When it misleads: it says nothing of the fit to the first m examples, is noisy when few are left, and favours models
that learn fast from m examples over such that need all N. Hyperparameters that were learned from all the data have seen
the examples that are scored.

References:
    Bayesian model selection, the marginal likelihood, and generalization. S. Lotfi, P. Izmailov, G. Benton,
    M. Goldblum, A. G. Wilson, 2022. arXiv:2202.11678.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive, generator
from novacula.curvature import plan
from novacula.curvature.structures.names import Structure, build, check_structure
from novacula.data.data import Data
from novacula.evidence.common import check_counts, collect_warnings, invariance_assumptions, make_estimate
from novacula.evidence.filtering import log_joint
from novacula.evidence.function_space import joint_outputs
from novacula.evidence.start import bound
from novacula.evidence.training import train
from novacula.inference.optimising.map import MAP
from novacula.posteriors.base import Posterior
from novacula.target import Target


@dataclass(frozen=True)
class Conditional:
    """The conditional log marginal likelihood ``log p(D_{≥m} | D_{<m})`` of the linearised Laplace posterior.

    For each order of the data, weights are trained on the first m examples, a Laplace posterior is fitted to those, and
    others are scored jointly under it (see `filtering`). The outputs are linearised, since weights drawn from a
    Laplace posterior of a network predict far worse than the network.

    Args:
        fraction: m/N.
        structure: The structure of the posterior's covariance.
        orders: Random orders of the data; the standard error is the spread between them.
        limit: Score at most this many of the remaining examples; the cost grows with the cube of their outputs.
        epochs: Training epochs on the first m examples.
        batch_size: Examples a step.
        optimiser: Trains the weights.
        temperature: Of the posterior, as a factor of its covariance; by default the target's.

    Raises:
        InputError: If a setting is out of range.
    """

    fraction: float = 0.8
    structure: Structure = "kron"
    orders: int = 2
    limit: int = 200
    epochs: int = 40
    batch_size: int = 50
    optimiser: MAP = field(default_factory=MAP)
    temperature: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        hint = "use nv.evidence.Conditional(fraction=0.8)"
        check_structure(self.structure)
        check_counts(hint, orders=self.orders, limit=self.limit, epochs=self.epochs, batch_size=self.batch_size)
        if not 0 < self.fraction < 1:
            raise InputError("a fraction between 0 and 1", repr(self.fraction), hint)
        if self.temperature is not None and not self.temperature > 0:
            raise InputError("a temperature above zero", repr(self.temperature), hint)

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        settings = [f"{self.fraction:g}", self.structure, f"limit={self.limit}", f"orders={self.orders}"]
        settings += [] if self.temperature is None else [f"temperature={self.temperature:g}"]
        return f"Conditional({', '.join(settings)})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Estimate the conditional log marginal likelihood; ``n`` of the result counts the examples scored."""
        if data.n < 3:
            raise InputError("at least three examples", str(data.n), "use nv.evidence.Laplace")
        target, data = bound(target, data)
        m = min(max(2, round(self.fraction * data.n)), data.n - 1)
        scored = min(self.limit, data.n - m)
        values, doubts = [], []
        for o in range(self.orders):
            stream = derive(seed, "order", o)
            order = torch.randperm(data.n, generator=generator(stream))
            seen, rest = data.subset(order[:m]), data.subset(order[m : m + scored])
            weights = train(target, seen, self.optimiser, self.epochs, self.batch_size, stream)
            with collect_warnings() as found:
                values.append(self.score(target, weights, seen, rest, seed=stream))
            doubts += found
        if self.orders == 1:
            doubts.append("one order of the data: no standard error (use orders=2 or more)")
        copies = target.copies.evidence
        estimate = make_estimate(
            target,
            data,
            values,
            kind="estimate",
            estimator=self.name,
            within=math.nan,
            assumptions=(
                f"trained on {m} of {data.n} examples, scored on {scored} others",
                "a linearised Laplace posterior",
                "hyperparameters count as known: where they were learned from all the data, they have seen the rest",
                *invariance_assumptions(target, copies),
            ),
            warnings=tuple(doubts),
        )
        return dataclasses.replace(estimate, n=scored)

    def score(self, target: Target, weights: Params, seen: Data, rest: Data, *, seed: int) -> Tensor:
        """``log p(rest | seen)`` for weights at a mode of the posterior given the examples seen.

        Args:
            target: The model.
            weights: The mode.
            seen: What the posterior is conditioned on.
            rest: What is scored.
            seed: Seed of the transformations.

        Returns:
            A float64 scalar, in nats.
        """
        target, weights = target.at(weights)
        with torch.no_grad():
            problem = target.problem(weights, seen, seed=derive(seed, "curvature"))
            curvature = build(self.structure, problem, seed=derive(seed, "probes"))
            precision = {k: v.detach() for k, v in target.prior.precision(weights).items() if k in curvature.names}
            covariance = curvature.covariance(precision)
            problem = target.problem(weights, rest, seed=derive(seed, "rest"))
            made = plan(problem, curvature.names, budget=2**25)  # a few copies of two chunks' rows are held at a time
            mean, k, y = joint_outputs(made, covariance)
            temperature = target.temperature if self.temperature is None else self.temperature
            return log_joint(target.likelihood, mean, temperature * k, y, seed=derive(seed, "forecasts"))
