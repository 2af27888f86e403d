"""Calibrating a conformal rule on examples that the model was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.data.meaning.soft import check_hard
from novacula.likelihoods import checks
from novacula.prediction.conformal.rank import check_alpha, rank
from novacula.prediction.conformal.scores import (
    INTERVAL_SCORES,
    SET_SCORES,
    IntervalScore,
    SetScore,
)
from novacula.prediction.conformal.sets import Intervals, Sets
from novacula.prediction.distribution import Distribution


@dataclass(frozen=True, eq=False)
class Conformal:
    """A calibrated rule: call it with a predictive of new inputs.

    Args:
        score: The score.
        alpha: The share of labels that may be missed.
        thresholds: The largest score that is let in, shape ``(G, K)``: for each group, and each target or label.
        counts: How many calibration examples each group has.
        groups: The groups' names; None where all are one.
        task: What the labels are.
        seed: Seed of randomised scores.
    """

    score: SetScore | IntervalScore
    alpha: float
    thresholds: Tensor
    counts: tuple[int, ...]
    groups: tuple[Any, ...] | None
    task: str
    seed: int

    __repr__ = brief

    def __call__(self, predictive: Distribution, groups: Sequence[Any] | Tensor | None = None) -> Sets | Intervals:
        """Sets or intervals of new predictions; of calibrated groups, ``groups`` says which each input belongs to."""
        task = predictive.likelihood.task
        if task != self.task:
            raise InputError(f"a predictive for {self.task}", f"one for {task}", "calibrate with the same model")
        which = self._which(groups, predictive.n)
        if isinstance(self.score, IntervalScore):
            band = self.score.band(predictive, self.alpha)
            q = self._thresholds(which, band.low.shape[1], band.low)
            return Intervals(band.low - q * band.scale, band.high + q * band.scale, 1 - self.alpha)
        scores = _scores(predictive, self.score, self.seed, "new")
        member = scores <= self._thresholds(which, scores.shape[1], scores).unsqueeze(-1)
        return Sets(member if task == "multilabel" else member[:, 0], 1 - self.alpha)

    def _which(self, groups: Sequence[Any] | Tensor | None, n: int) -> Tensor:
        if (groups is None) != (self.groups is None):
            have, want = ("none", "the group of each input") if groups is None else ("groups", "no groups")
            raise InputError(f"{want}, as in the calibration", have, "pass groups= to both, or to neither")
        if groups is None or self.groups is None:
            return torch.zeros(n, dtype=torch.long)
        index = {g: i for i, g in enumerate(self.groups)}
        names = _names(groups, n)
        for row, name in enumerate(names):
            if name not in index:
                raise InputError(
                    f"groups among {list(self.groups)}",
                    f"{name!r} in row {row}",
                    "calibrate with examples of every group",
                )
        return torch.tensor([index[name] for name in names])

    def _thresholds(self, which: Tensor, width: int, like: Tensor) -> Tensor:
        if width != self.thresholds.shape[1]:
            raise InputError(
                f"a predictive of {self.thresholds.shape[1]} outputs", f"{width}", "calibrate with the same model"
            )
        return self.thresholds.to(like.device)[which.to(like.device)]


def calibrate(
    predictive: Distribution,
    y: Tensor,
    *,
    alpha: float = 0.1,
    score: str | SetScore | IntervalScore | None = None,
    groups: Sequence[Any] | Tensor | None = None,
    seed: int = 0,
) -> Conformal:
    """Calibrate sets or intervals on labels that the model was not trained on.

    Args:
        predictive: The model's predictive of n calibration inputs. Several labels (multilabel) or targets (regression)
            are calibrated each by itself.
        y: Their labels.
        alpha: The share of labels that may be missed, between 0 and 1.
        score: A score or its name; by default ``"lac"`` for classes and multilabel, and for regression ``"cqr"`` where
            the noise is Gaussian, otherwise ``"absolute"``. It must not have been chosen on the same labels.
        groups: A name or number for each example, known for new inputs too; each group is calibrated by itself.
        seed: Seed of randomised scores. The i-th input has the i-th uniform number.

    Returns:
        The rule.

    Raises:
        InputError: If there are fewer than ``1/α − 1`` examples (in a group), the labels or groups do not fit, or the
            score does not fit the task.

    Example:
        >>> from novacula.likelihoods import Normal
        >>> from novacula.prediction import Predictive
        >>> zero = Predictive(Normal(), torch.zeros(1, 9, 1), "plug-in")
        >>> rule = calibrate(zero, torch.arange(9.0), alpha=0.2, score="absolute")
        >>> float(rule(zero).high[0])
        7.0
    """
    check_alpha(alpha)
    y = predictive.labels(y)
    chosen = _choose(predictive, score)
    names = None if groups is None else _names(groups, predictive.n)
    known = None if names is None else tuple(dict.fromkeys(names))
    index = {name: i for i, name in enumerate(known or ())}
    which = torch.zeros(predictive.n, dtype=torch.long) if names is None else torch.tensor([index[g] for g in names])
    truth = scores_of(predictive, y, chosen, alpha=alpha, seed=seed)
    rows = []
    for i in range(len(known or (None,))):
        mine = truth[which.to(truth.device) == i]
        k = rank(len(mine), alpha, where="" if known is None else f" of group {known[i]!r}")
        rows.append(mine.kthvalue(k, 0).values)
    counts = tuple(torch.bincount(which, minlength=len(rows)).tolist())
    return Conformal(chosen, alpha, torch.stack(rows), counts, known, predictive.likelihood.task, seed)


def scores_of(
    predictive: Distribution, y: Tensor, score: SetScore | IntervalScore, *, alpha: float, seed: int
) -> Tensor:
    """The scores of the true labels, of which a threshold is a quantile: ``(n, K)``, one for each label or target."""
    if isinstance(score, IntervalScore):
        band = score.band(predictive, alpha)
        t = checks.targets(y, training=False).double()
        if t.shape != band.low.shape:
            raise InputError(f"targets of shape {tuple(band.low.shape)}", f"{tuple(t.shape)}", "check the outputs")
        return torch.maximum(band.low - t, t - band.high) / band.scale
    scores = _scores(predictive, score, seed, "calibration")
    if predictive.likelihood.task == "classification":
        check_hard(y, "conformal sets")
    return scores.gather(-1, y.long().reshape(*scores.shape[:2], 1))[..., 0]


def _choose(predictive: Distribution, score: str | SetScore | IntervalScore | None) -> SetScore | IntervalScore:
    task = predictive.likelihood.task
    if task == "other":
        raise InputError("classes, labels or measurements", f"the task {task!r}", "use a likelihood with a task")
    if score is None:
        gaussian = predictive.likelihood.gaussians(predictive.outputs[:1]) is not None
        score = "lac" if task != "regression" else "cqr" if gaussian else "absolute"
    known = INTERVAL_SCORES if task == "regression" else SET_SCORES
    if isinstance(score, str):
        if score not in known:
            raise InputError(f"a score for {task}, one of {', '.join(known)}", repr(score), "leave it out")
        return known[score]
    if isinstance(score, IntervalScore) != (task == "regression"):
        raise InputError(f"a score for {task}, one of {', '.join(known)}", repr(score), "leave it out")
    return score


def _scores(predictive: Distribution, score: SetScore, seed: int, key: str) -> Tensor:
    # Scores of all labels, (N, K, C): K = 1 for classes; for multilabel C = 2, and each label's u is its own.
    p = predictive.mean().double()
    p = torch.stack([1 - p, p], -1) if predictive.likelihood.task == "multilabel" else p.unsqueeze(1)
    if not bool((p >= 0).all()) or not torch.allclose(p.sum(-1), torch.ones_like(p[..., 0]), atol=1e-3, rtol=0):
        raise InputError("probabilities that sum to 1", "other predictions", "give the loss link=…softmax(-1)")
    n, k, c = p.shape
    u = torch.rand(n * k, generator=generator(seed, "conformal", key), dtype=torch.float64).to(p.device)
    return score(p.reshape(-1, c), u).reshape(n, k, c)


def _names(groups: Sequence[Any] | Tensor | np.ndarray, n: int) -> list[Any]:
    names = groups.tolist() if isinstance(groups, (Tensor, np.ndarray)) else list(groups)
    if len(names) != n:
        raise InputError(f"a group for each of the {n} inputs", f"{len(names)} groups", "pass one for each row")
    for row, name in enumerate(names):
        if name is None or name != name or isinstance(name, (list, dict, Tensor)):
            raise InputError("names or numbers of groups", f"{name!r} in row {row}", "pass groups of shape (N,)")
    return names
