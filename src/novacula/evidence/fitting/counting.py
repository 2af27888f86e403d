"""The probability that a random network fits all labels, by counting: unbiased, and the reference above 1e-6."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from novacula.core.checks.numbers import check_fields, check_whole
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.many import chunk_of
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.evidence.fitting.estimate import fit_estimate
from novacula.evidence.start import bound
from novacula.posteriors.base import Posterior
from novacula.target import Target
from novacula.target.margins import FITS, check_fittable, closeness_of


@dataclass(frozen=True)
class Counting:
    """The share of networks drawn from the prior that fit.

    Args:
        draws: How many networks. With k fits the relative error is ``1/√k``.

    Raises:
        InputError: If ``draws`` is below 1.

    Example:
        >>> Counting(1000).name
        'Counting(1000 draws)'
    """

    draws: int = 1_000_000

    def __post_init__(self) -> None:
        check_fields(self)
        check_whole("draws", self.draws)

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"Counting({self.draws} draws)"

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Count, and give the log-probability in nats; without a fit, the upper bound ``log(3/draws)`` of 95 %."""
        target, data = bound(target, data)
        if target.temperature != 1.0:
            raise InputError("temperature=1 for counting", f"{target.temperature:g}", "the prior itself is drawn from")
        check_fittable(target, data)
        like, rng = target.params(), generator(seed, "counting")
        at_once = chunk_of({k: w.expand(self.draws, *w.shape) for k, w in like.items()}, data.n)
        hits = 0
        for first in range(0, self.draws, at_once):
            weights = target.prior.sample(like, min(at_once, self.draws - first), rng)
            hits += int((closeness_of(target, weights, data, seed=seed) == FITS).sum())
        value = math.log(hits / self.draws) if hits else math.log(3 / self.draws)
        few = () if hits else (f"none of {self.draws:,} networks fit: the value is a bound at 95 %",)
        return fit_estimate(
            target,
            data,
            torch.tensor(value, dtype=torch.float64),
            kind="estimate" if hits else "upper bound",
            estimator=self.name,
            stderr=math.sqrt((1 - hits / self.draws) / hits) if hits else 0.0,
            warnings=few,
            parts={"fits": float(hits), "evaluations": float(self.draws)},
        )
