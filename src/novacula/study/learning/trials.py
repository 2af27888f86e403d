"""Trials of other extents: networks that are blind to a fold go on under them, beside some that go on as they were."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.data.data import Data
from novacula.invariances.base import Invariance
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning.plan import Plan
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class Trials:
    """How networks go on: all from the same weights, with the same minibatches."""

    plan: Plan
    target: Target  # under which they were trained
    best: CrossFit  # whose folds these are
    networks: Sequence[Params]  # of all folds, or of the first ones
    data: Data
    steps: int
    only: int | None  # so few folds

    @cached_property
    def control(self) -> CrossFit:
        """The networks after going on as they were."""
        return self.under(self.target.invariance)

    @cached_property
    def _longer(self) -> CrossFit:
        return self.under(self.target.invariance, self.control)

    def under(self, invariance: Invariance | None, after: CrossFit | None = None) -> CrossFit:
        """The networks after going on with other transformations, perhaps from where they are after another trial."""
        target = dataclasses.replace(self.target, invariance=invariance)
        networks = self.networks if after is None else after.networks
        return self.plan.go_on(target, self.data, self.best, self.steps, self.only, networks=networks)

    def lasting(self, tried: CrossFit) -> tuple[float, float]:
        """What a trial gains when it and those that are as they were go on as long again, and the standard error."""
        return self.under(tried.target.invariance, tried).compare(self._longer)


def only_one(invariance: Invariance, i: int) -> Invariance:
    """Extents of nought but for the i-th."""
    eta = torch.zeros_like(invariance.eta)
    eta[i] = invariance.eta[i]
    return dataclasses.replace(invariance, eta=invariance.project(eta.detach()))  # type: ignore[type-var]


def at(invariance: Invariance, values: dict[int, float]) -> Invariance:
    """With other extents by their index, as far as they are admissible."""
    eta: Tensor = invariance.eta.detach().clone()
    for i, value in values.items():
        eta[i] = value
    return dataclasses.replace(invariance, eta=invariance.project(eta))  # type: ignore[type-var]
