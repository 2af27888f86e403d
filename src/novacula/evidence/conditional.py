"""Evidence given part of the data: the conditional log marginal likelihood and the prequential score.

The log evidence is a sum of forecasts, ``log p(D) = Σ_b log p(D_b | D_{<b})``. Its early terms ask how well the prior
alone predicts, and can outweigh everything that matters for the trained network: a model may have a low evidence and
generalise best. `Conditional` keeps the last term only, ``log p(D_{≥m} | D_{<m})``; `Prequential` keeps all, with each
forecast made by the network that the training procedure finds, not by an idealised posterior. Both retrain, and both
depend on the order of the data, which is drawn from the seed.

When they mislead: `Conditional` says nothing of the fit to the first m examples, is noisy when few are left, and
favours models that learn fast from m examples over such that need all N. `Prequential` charges for the slow start of
gradient descent on tiny sets, which a Bayesian would not pay.

References:
    Bayesian model selection, the marginal likelihood, and generalization. S. Lotfi, P. Izmailov, G. Benton,
    M. Goldblum, A. G. Wilson, 2022. arXiv:2202.11678.
    Present position and potential developments: the prequential approach. A. P. Dawid, 1984.
    The description length of deep learning models. L. Blier, Y. Ollivier, 2018. arXiv:1802.07044.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.core.params import Params, unstack
from novacula.core.results import Estimate
from novacula.core.rng import derive, generator
from novacula.evidence.common import make_estimate
from novacula.evidence.laplace import BUILD, Structure
from novacula.inference.loop import run
from novacula.inference.map import MAP
from novacula.inference.method import Posterior
from novacula.target import Target


@dataclass(frozen=True)
class Conditional:
    """The conditional log marginal likelihood ``log p(D_{≥m} | D_{<m})`` of the linearised Laplace posterior.

    For each order of the data, weights are trained on the first m examples, a Laplace posterior is fitted to those, and
    the rest is scored jointly, ``log 1/K Σ_k Π_n p(y_n | f̄(w, x_n) + J_n δ_k)`` with δ_k drawn from it. The outputs are
    linearised, since weights drawn from a Laplace posterior of a network predict far worse than the network.

    Args:
        fraction: m/N.
        structure: The structure of the posterior's covariance.
        samples: K.
        orders: Random orders of the data; the standard error is the spread between them.
        epochs: Training epochs on the first m examples.
        batch_size: Examples a step.
        optimiser: Trains the weights.
        temperature: Scales the posterior's covariance.
    """

    fraction: float = 0.8
    structure: Structure = "kron"
    samples: int = 64
    orders: int = 2
    epochs: int = 40
    batch_size: int = 50
    optimiser: MAP = field(default_factory=MAP)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1 or self.orders < 1 or self.samples < 2:
            raise InputError(
                "a fraction inside (0, 1), at least one order and 2 samples",
                f"{self.fraction}, {self.orders}, {self.samples}",
                "use Conditional(fraction=0.8)",
            )

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"Conditional({self.fraction:g}, {self.structure})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Estimate the conditional log marginal likelihood; ``n`` of the result counts the examples scored.

        Args:
            target: The model; its hyperparameters stay as they are.
            data: The training data.
            start: Not used: the weights must not have seen the examples that are scored.
            seed: Seed of order, training, transformations and weights.

        Returns:
            The estimate, in nats.
        """
        m = min(max(2, round(self.fraction * data.n)), data.n - 1)
        values = []
        for o in range(self.orders):
            stream = derive(seed, "order", o)
            order = torch.randperm(data.n, generator=generator(stream))
            seen, rest = data.subset(order[:m]), data.subset(order[m:])
            weights = _train(target, seen, self.optimiser, self.epochs, self.batch_size, stream)
            values.append(self._score(target, weights, seen, rest, stream))
        estimate = make_estimate(
            target,
            data,
            values,
            kind="estimate",
            estimator=self.name,
            assumptions=(
                f"trained on {m} of {data.n} examples, scored on the other {data.n - m}",
                "a linearised Laplace posterior",
            ),
            warnings=() if self.orders > 1 else ("one order of the data: no standard error",),
        )
        return _count(estimate, data.n - m)

    def _score(self, target: Target, weights: Params, seen: Data, rest: Data, stream: int) -> Tensor:
        problem = target.problem(weights, seen, seed=derive(stream, "curvature"))
        with torch.no_grad():
            covariance = BUILD[self.structure](problem).covariance(target.prior.precision(weights))
            draws = covariance.sample(self.samples, generator(stream, "weights"))
            scale = math.sqrt(self.temperature)
            shifts = [{k: scale * v for k, v in d.items()} for d in unstack(draws)]
            total = torch.zeros(self.samples, dtype=torch.float64)
            for xs, y in target.problem(weights, rest, seed=derive(stream, "rest")).batches():
                for k, shift in enumerate(shifts):
                    tangent = {name: shift.get(name, torch.zeros_like(w)) for name, w in weights.items()}

                    def output(w: Params, xs: Tensor = xs) -> Tensor:
                        return target.forward.average(w, xs)

                    f, change = torch.func.jvp(output, (weights,), (tangent,))
                    total[k] += target.likelihood.log_prob(f + change, y).double().sum()
        return total.logsumexp(0) - math.log(self.samples)


@dataclass(frozen=True)
class Prequential:
    """The prequential log score ``Σ_b log p(D_b | weights trained on D_{<b})`` over blocks that double in size.

    Minus this number is the length, in nats, of a code for the labels that a receiver with the inputs can decode: a
    description length of the data by this network and training procedure.

    Args:
        blocks: How many forecasts; the last block is half of the data.
        epochs: Training epochs before each forecast.
        batch_size: Examples a step.
        optimiser: Trains the weights.
        orders: Random orders of the data; the standard error is the spread between them.
    """

    blocks: int = 5
    epochs: int = 40
    batch_size: int = 50
    optimiser: MAP = field(default_factory=MAP)
    orders: int = 1

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.orders < 1:
            raise InputError("at least one block and one order", f"{self.blocks}, {self.orders}", "use Prequential()")

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"Prequential({self.blocks})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Compute the prequential score; ``n`` of the result counts the examples forecast (the first block is given).

        Args:
            target: The model; its hyperparameters stay as they are.
            data: The training data.
            start: Not used.
            seed: Seed of order, training and transformations.

        Returns:
            The score, in nats.

        Raises:
            InputError: If the first block would have fewer than two examples.
        """
        cuts = [round(data.n / 2**b) for b in range(self.blocks, -1, -1)]
        if cuts[0] < 2:
            raise InputError(
                f"at least {2 ** (self.blocks + 1)} examples for {self.blocks} blocks", str(data.n), "use fewer blocks"
            )
        values = []
        for o in range(self.orders):
            stream = derive(seed, "order", o)
            order = torch.randperm(data.n, generator=generator(stream))
            total = torch.zeros((), dtype=torch.float64)
            for b, (first, last) in enumerate(zip(cuts[:-1], cuts[1:], strict=True)):
                seen, block = data.subset(order[:first]), data.subset(order[first:last])
                weights = _train(target, seen, self.optimiser, self.epochs, self.batch_size, derive(stream, b))
                with torch.no_grad():
                    for xs, y in target.problem(
                        weights, block, seed=derive(stream, "block", b), copies=target.copies.predict
                    ).batches():
                        f = target.forward.average(weights, xs)
                        total = total + target.likelihood.log_prob(f, y).double().sum()
            values.append(total)
        estimate = make_estimate(
            target,
            data,
            values,
            kind="estimate",
            estimator=self.name,
            assumptions=(
                f"the first {cuts[0]} examples are given",
                "it scores the forecasts of this training procedure, not those of a Bayes posterior",
            ),
            warnings=() if self.orders > 1 else ("one order of the data: no standard error",),
        )
        return _count(estimate, data.n - cuts[0])


def _train(target: Target, data: Data, optimiser: MAP, epochs: int, batch_size: int, seed: int) -> Params:
    """Weights trained from the network's own start."""
    return run(optimiser, target, data, epochs=epochs, batch_size=batch_size, seed=seed).state.params


def _count(estimate: Estimate, n: int) -> Estimate:
    """The same estimate, said of ``n`` examples."""
    return dataclasses.replace(estimate, n=n)
