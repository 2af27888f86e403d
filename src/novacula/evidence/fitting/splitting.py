"""The probability that a random network fits all labels, by multilevel splitting.

This is the evidence of the likelihood that is 1 for networks without an error on the data and 0 for all others: how
much of the prior over functions fits. Brute force finds it down to one in some millions; `Splitting` goes on from
there. See `novacula.inference.particles.splitting.method` for how.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch

from novacula.core.checks.numbers import check_fields, check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.evidence.fitting.estimate import fit_estimate
from novacula.evidence.start import bound
from novacula.inference.infer import infer
from novacula.inference.particles.smc import log_mean
from novacula.inference.particles.splitting.method import Splitting as Method
from novacula.posteriors.base import Posterior
from novacula.posteriors.draws import Draws
from novacula.target import Target

DISAGREE = 0.5 * math.log(10)
"""Standard deviation of populations, in nats, above which they are said to disagree."""


@dataclass(frozen=True)
class Splitting:
    """``log 1/M Σ_m P̂_m`` over independent populations of networks that are driven to fit all labels.

    First the effort is chosen: pilot populations run, and while they differ by more than ``tolerance``, the networks of
    each are doubled, which halves the variance, while more moves only bring it down to what independent networks
    would have. Then populations that start anew at that effort are reported, whatever their spread: a spread that
    decided which populations count would be too small, and it is the error. Where they differ much, or no network that
    fits was found, the value says so: it carries a warning, and ``parts["converged"]`` is 0.

    Args:
        particles: Networks of each population, at the least effort.
        populations: M, at least 4: their spread is the error.
        moves: Moves of each network at each level.
        keep: The share of networks above the next level.
        tolerance: The standard deviation between pilot populations, in nats, that ends the search for the effort.
        attempts: How many efforts there are to choose from, each twice the one before. With 1 nothing is chosen and no
            pilot runs; a case on which the first pilot agrees costs twice as much as that.
        steps: The most levels; each takes about ``log 1/keep`` nats.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> Splitting(particles=200).populations
        4
    """

    particles: int = 500
    populations: int = 4
    moves: int = 8
    keep: float = 0.5
    tolerance: float = 0.35
    attempts: int = 3
    steps: int = 500

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("tolerance", self.tolerance)
        if self.populations < 4:
            raise InputError("four or more populations", str(self.populations), "their spread is the error: use 4")
        check_whole("attempts", self.attempts)
        Method(self.particles, self.moves, self.keep)

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"Splitting({self.particles} particles × {self.populations})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Estimate the log-probability of a fit."""
        return self.fit(target, data, seed=seed)[0]

    def fit(self, target: Target, data: Data, *, seed: int) -> tuple[Estimate, Draws]:
        """Estimate the log-probability of a fit, and keep the networks that fit.

        Args:
            target: The network and its prior; of the likelihood, only what the labels are is used.
            data: The examples, of classes.
            seed: Of everything random.

        Returns:
            The estimate in nats, and the networks at the end: draws of the prior restricted to those that fit. Of a
            search that found none, the value is an upper bound, and the networks are as near as it came.

        Raises:
            InputError: If the labels are not classes, or contradict each other.
        """
        target, data = bound(target, data)
        spent, attempt = 0.0, 0
        while attempt < self.attempts - 1:  # the greatest effort needs no pilot
            pilot = self._run(target, data, attempt, derive(seed, "pilot", attempt))
            spent += float(pilot.stats["evaluations"].sum())
            if self._agree(pilot):
                break
            attempt += 1
        post = self._run(target, data, attempt, derive(seed, "fresh"))
        return self._estimate(target, data, post, spent + float(post.stats["evaluations"].sum()), attempt), post

    def _run(self, target: Target, data: Data, attempt: int, seed: int) -> Draws:
        method = Method(self.particles * 2**attempt, self.moves, self.keep)
        found = infer(method, target, data, steps=self.steps, chains=self.populations, seed=seed)
        return cast("Draws", found)  # as the method says

    def _agree(self, post: Draws) -> bool:
        return bool((post.stats["fits"] == 1).all()) and float(post.stats["log_evidence"].std()) <= self.tolerance

    def _estimate(self, target: Target, data: Data, post: Draws, spent: float, attempt: int) -> Estimate:
        logs = post.stats["log_evidence"]
        value, stderr = log_mean(logs)
        reached = bool((post.stats["fits"] == 1).all())
        spread = float(logs.std())
        warnings = []
        if not reached:
            warnings.append(
                f"no network that fits was found within {self.steps} levels: the value is a bound, the probability of "
                "coming as near as was come. Perhaps no network of this kind fits"
            )
        if spread > DISAGREE:
            warnings.append(
                f"populations disagree by {spread:.2g} nats: the value is not to be trusted, and its error is larger "
                "than it says. Take more particles or moves"
            )
        return fit_estimate(
            target,
            data,
            torch.tensor(value, dtype=torch.float64),
            kind="estimate" if reached else "upper bound",
            estimator=self.name,
            stderr=stderr,
            assumptions=("populations find every part of the networks that fit; the error is their spread",),
            warnings=tuple(warnings),
            parts={
                "spread": spread,
                "converged": float(reached and spread <= DISAGREE),
                "evaluations": spent,
                "attempts": attempt + 1.0,
                "particles": float(self.particles * 2**attempt),
            },
        )
