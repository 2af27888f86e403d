"""Scores of a predictive against labels it has not seen.

| task | metrics |
| --- | --- |
| classification | ``accuracy``, ``nll``, ``brier``, ``ece``, ``ece_adaptive`` |
| multilabel | the same, each label a yes-or-no prediction; ``nll`` is an example's, all labels together |
| regression | ``rmse``, ``nll``, ``coverage_90`` |
| other | ``loss`` |

All are means over examples, in float64. ``nll`` is in nats. ``brier`` is ``Σ_c (p_c − [y = c])²`` (between 0 and 2) for
classes, ``(p − y)²`` averaged over labels for multilabel. ``ece`` takes the probability of the most probable class in
15 bins of equal width, ``ece_adaptive`` in 15 bins of equal mass. ``rmse`` is over all entries of the targets, in
their units, and ``coverage_90`` the share of targets inside their central 90 % interval.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from novacula.core.errors import InputError
from novacula.prediction.calibration import BINS, Reliability, reliability
from novacula.prediction.predictive import Predictive


def evaluate(predictive: Predictive, y: Tensor) -> dict[str, float]:
    """Score a predictive.

    Args:
        predictive: Predictions for N inputs.
        y: Their labels.

    Returns:
        Numbers by name, see the module's table.

    Raises:
        InputError: If the labels do not fit.

    Example:
        >>> from novacula.likelihoods import Categorical
        >>> sure = Predictive(Categorical(), torch.tensor([[[9.0, 0.0], [9.0, 0.0]]]), "plug-in")
        >>> evaluate(sure, torch.tensor([0, 1]))["accuracy"]
        0.5
    """
    y = predictive.labels(y)
    task = predictive.likelihood.task
    if task == "regression":
        return _regression(predictive, y)
    scores: dict[str, float] = {}
    if task == "other" or not predictive.likelihood.normalised:
        scores["loss"] = float(predictive.expected_loss(y).double().mean())
    if task == "other":
        return scores
    p = predictive.mean().double()
    scores["accuracy"] = float(_hits(p, y, task).double().mean())
    if predictive.likelihood.normalised:
        scores["nll"] = -float(predictive.log_prob(y).double().mean())
        scores["brier"] = float(_brier(p, y, task))
        confidence, hits = _confidence(p, task), _hits(p, y, task)
        scores["ece"] = reliability(confidence, hits, bins=BINS).error
        scores["ece_adaptive"] = reliability(confidence, hits, bins=BINS, spacing="mass").error
    return scores


def reliability_of(predictive: Predictive, y: Tensor, *, bins: int = BINS) -> Reliability:
    """The reliability table of a predictive's most probable labels.

    Args:
        predictive: Predictions of classes or of several labels.
        y: The labels.
        bins: The number of bins of equal width.

    Returns:
        The table with counts.

    Raises:
        InputError: If the task is neither classification nor multilabel.
    """
    task = predictive.likelihood.task
    if task not in {"classification", "multilabel"}:
        raise InputError("predictions of classes or labels", f"the task {task!r}", "use interval() for regression")
    p = predictive.mean().double()
    return reliability(_confidence(p, task), _hits(p, predictive.labels(y), task), bins=bins)


def _regression(predictive: Predictive, y: Tensor) -> dict[str, float]:
    gap = predictive.mean().double() - y.double()
    scores = {"rmse": float(gap.square().mean().sqrt())}
    if predictive.likelihood.normalised:
        scores["nll"] = -float(predictive.log_prob(y).double().mean())
        low, high = predictive.interval(0.9)
        scores["coverage_90"] = float(((y >= low) & (y <= high)).double().mean())
    else:
        scores["loss"] = float(predictive.expected_loss(y).double().mean())
    return scores


def _confidence(p: Tensor, task: str) -> Tensor:
    return p.amax(-1) if task == "classification" else torch.maximum(p, 1 - p)


def _hits(p: Tensor, y: Tensor, task: str) -> Tensor:
    return p.argmax(-1) == y if task == "classification" else (p > 0.5) == (y > 0.5)


def _brier(p: Tensor, y: Tensor, task: str) -> Tensor:
    if task == "classification":
        return (p - one_hot(y, p.shape[-1])).square().sum(-1).mean()
    return (p - y.to(p)).square().mean()
