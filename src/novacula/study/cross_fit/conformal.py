"""Conformal sets and intervals from the networks of a cross-fit, without labels set aside (CV+).

See `novacula.prediction.conformal.cross` for the rule, its promise and the references. The networks' predictions are
taken as they are, without the calibrated temperature, which was fitted to the same labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.data.standardise import Standardiser
from novacula.posteriors.base import Point
from novacula.prediction import Intervals, Predictive, Sets, predict
from novacula.prediction.conformal.cross import cv_plus, cv_plus_sets
from novacula.prediction.conformal.rank import rank
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class CrossConformal:
    """Sets or intervals of new inputs: call it with these.

    Raises:
        InputError: If there are fewer than ``1/α − 1`` examples, alpha is not between 0 and 1, or the labels are
            neither classes nor measurements.
    """

    alpha: float  # the share of labels that may be missed
    target: Target  # the target
    params: tuple[Params, ...]  # the K networks' weights
    predictive: Predictive  # the out-of-fold predictions
    labels: Tensor  # their labels, in their own units
    folds: Tensor  # the fold of each
    seed: int  # seed of the transformations, as in the out-of-fold predictions

    __repr__ = brief

    def __post_init__(self) -> None:
        rank(self.predictive.n, self.alpha)
        if self.task == "other":
            raise InputError("classes, labels or measurements", f"the task {self.task!r}", "use a likelihood of one")

    @property
    def task(self) -> str:
        """What the labels are."""
        return self.target.likelihood.task

    @property
    def scaling(self) -> Standardiser | None:
        """How the labels were brought to standard units."""
        return self.predictive.scaling

    def __call__(self, x: Tensor) -> Sets | Intervals:
        """Sets or intervals that hold the truth, by all K networks.

        Args:
            x: Inputs as the networks take them, shape ``(N, …)``.

        Returns:
            `Sets` for classes and multilabel, `Intervals` for regression, in the targets' units, each target by itself.
            ``level`` is what is promised, about ``1 − 2α``; in practice they hold the truth with about ``1 − α``.

        Raises:
            InputError: If the networks cannot take the inputs.
        """
        new = [predict(Point(w, self.target), x, seed=self.seed).in_units(self.scaling) for w in self.params]
        return held(self.predictive, new, self.labels, self.folds, self.alpha)


def held(
    own: Predictive,
    new: Sequence[Predictive],
    labels: Tensor,
    folds: Tensor,
    alpha: float,
    *,
    scaled: bool = False,
) -> Sets | Intervals:
    """CV+ sets or intervals of N new inputs, by predictions of n examples that each model has not seen."""
    task, centre = own.likelihood.task, own.mean()
    theirs = torch.stack([p.mean() for p in new])
    if task == "regression":
        sd = (own.variance().sqrt(), torch.stack([p.variance().sqrt() for p in new])) if scaled else None
        return cv_plus(labels, centre, theirs, folds, alpha=alpha, scales=sd)
    if task == "classification":
        return cv_plus_sets(labels, centre, theirs, folds, alpha=alpha)
    each = [
        cv_plus_sets(labels[:, c].long(), _both(centre[:, c]), _both(theirs[:, :, c]), folds, alpha=alpha)
        for c in range(centre.shape[1])
    ]
    return Sets(torch.stack([s.member for s in each], 1), each[0].level)


def _both(p: Tensor) -> Tensor:
    # The probabilities of no and of yes.
    return torch.stack([1 - p, p], -1)
