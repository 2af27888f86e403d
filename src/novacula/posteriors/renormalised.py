"""A posterior of weights whose draws come with statistics of their own, averaged anew over the training data.

Running statistics (BatchNorm) belong to the weights that they were taken at. Weights that are no point of a training
run, an average over its path or a draw from a Gaussian, have none: they are taken by one pass over the data in train
mode for each (`novacula.target.training.averaged_statistics`).

References:
    Averaging weights leads to wider optima and better generalization. P. Izmailov, D. Podoprikhin, T. Garipov,
    D. Vetrov, A. G. Wilson, 2018. arXiv:1803.05407 (section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from novacula.core.params import Params
from novacula.data.data import Data
from novacula.posteriors.base import BasePosterior, Posterior
from novacula.target import Target
from novacula.target.training import averaged_statistics


@dataclass(frozen=True, eq=False)
class Renormalised(BasePosterior):
    """Draws of a posterior of weights, each with its statistics."""

    weights: Posterior  # the posterior of the weights alone
    target: Target  # the target whose posterior it is
    data: Data  # the training data
    seed: int = 0  # seed of the passes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the weights."""
        return self.weights.warnings

    @property
    def mode(self) -> Params:
        """The mode of the weights, with its statistics."""
        return self._mode

    @cached_property
    def _mode(self) -> Params:
        point = {k: w.unsqueeze(0) for k, w in self.weights.mode.items()}
        return {k: w[0] for k, w in self._complete(point).items()}

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw weights, and take the statistics of each: a pass over the training data for every draw."""
        return self._complete(self.weights.sample(n, rng))

    def _complete(self, params: Params) -> Params:
        return {**params, **averaged_statistics(self.target, params, self.data, seed=self.seed)}


def with_statistics(
    parts: Sequence[Posterior], target: Target, statistics: Params, data: Data | None
) -> Sequence[Posterior]:
    """The members' posteriors of weights, each draw of which has statistics where the network keeps some."""
    if not statistics or data is None:
        return parts
    return [Renormalised(part, target, data) for part in parts]
