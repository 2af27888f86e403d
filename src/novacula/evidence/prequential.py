"""The prequential score: forecasts of each part of the data by the network trained on what came before.

It is the log evidence's sum of forecasts, ``Σ_b log p(D_b | D_{<b})``, with each made by the network that the training
procedure finds, not by an idealised posterior. Minus this number is the length, in nats, of a code for the labels that
a receiver with the inputs can decode.

When it misleads: it depends on the order of the data and on the training procedure, and charges for the slow start of
gradient descent on tiny sets, which a Bayesian would not pay. The first block is given, so that models which differ in
what they expect before any data do not differ here.

References:
    Present position and potential developments: the prequential approach. A. P. Dawid, 1984.
    The description length of deep learning models. L. Blier, Y. Ollivier, 2018. arXiv:1802.07044.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.evidence.common import check_counts, log_likelihood, make_estimate
from novacula.evidence.start import bound
from novacula.evidence.training import train
from novacula.inference.optimising.map import MAP
from novacula.posteriors.base import Posterior
from novacula.target import Target


@dataclass(frozen=True)
class Prequential:
    """The prequential log score ``Σ_b log p(D_b | weights trained on D_{<b})`` over blocks that double in size.

    Args:
        blocks: How many forecasts; the last block is half of the data.
        epochs: Training epochs before each forecast.
        batch_size: Examples a step.
        optimiser: Trains the weights.
        orders: Random orders of the data; the standard error is the spread between them.

    Raises:
        InputError: If a setting is below 1.
    """

    blocks: int = 5
    epochs: int = 40
    batch_size: int = 50
    optimiser: MAP = field(default_factory=MAP)
    orders: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        counts = {"blocks": self.blocks, "epochs": self.epochs, "batch_size": self.batch_size, "orders": self.orders}
        check_counts("use nv.evidence.Prequential()", **counts)

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"Prequential({self.blocks})"

    def cuts(self, n: int) -> list[int]:
        """Where the blocks begin and end.

        Args:
            n: The number of examples.

        Returns:
            The size of the part that is given, and the ends of the blocks.

        Raises:
            InputError: If fewer than two examples would be given.

        Example:
            >>> Prequential(blocks=3).cuts(100)
            [12, 25, 50, 100]
        """
        found = [n >> b for b in range(self.blocks, -1, -1)]
        if found[0] < 2:
            raise InputError(
                f"at least {2 ** (self.blocks + 1)} examples for {self.blocks} blocks", str(n), "use fewer"
            )
        return found

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """The prequential score, in nats and without a gradient; ``n`` leaves out the first block, which is given."""
        target, data = bound(target, data)
        cuts = self.cuts(data.n)
        values = []
        for o in range(self.orders):
            stream = derive(seed, "order", o)
            order = torch.randperm(data.n, generator=generator(stream))
            scores = [
                self.forecast(
                    target, data.subset(order[:first]), data.subset(order[first:last]), seed=derive(stream, b)
                )
                for b, (first, last) in enumerate(pairwise(cuts))
            ]
            values.append(torch.stack(scores).sum())
        estimate = make_estimate(
            target,
            data,
            values,
            kind="estimate",
            estimator=self.name,
            within=math.nan,
            assumptions=(
                f"the first {cuts[0]} examples are given",
                "it scores the forecasts of this training procedure, not those of a Bayes posterior",
            ),
            warnings=() if self.orders > 1 else ("one order of the data: no standard error (use orders=2 or more)",),
        )
        return dataclasses.replace(estimate, n=data.n - cuts[0])

    def forecast(self, target: Target, seen: Data, block: Data, *, seed: int) -> Tensor:
        """Train on what was seen and score the next block.

        Args:
            target: The model.
            seen: What came before.
            block: What is forecast.
            seed: Seed of training and transformations.

        Returns:
            ``log p(block | weights)``, a float64 scalar in nats.
        """
        weights = train(target, seen, self.optimiser, self.epochs, self.batch_size, seed)
        return log_likelihood(
            target, target.problem(weights, block, seed=derive(seed, "block"), copies=target.copies.predict)
        )
