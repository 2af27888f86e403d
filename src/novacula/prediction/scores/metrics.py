"""Scores of a predictive against labels it has not seen.

| task | metrics |
| --- | --- |
| classification | ``accuracy``, ``nll``, ``brier``, ``ece``, ``ece_adaptive``, ``aurc`` |
| multilabel | the same, each label a yes-or-no prediction; ``nll`` is an example's, all labels together |
| regression | ``rmse``, ``nll``, ``crps``, ``coverage_90`` |
| other | ``loss`` |

All are means over examples, in float64. ``nll`` is in nats. ``brier`` is ``Σ_c (p_c − [y = c])²`` (between 0 and 2) for
classes, ``(p − y)²`` averaged over labels for multilabel. ``ece`` takes the probability of the most probable class in
15 bins of equal width, ``ece_adaptive`` in 15 bins of equal mass. ``rmse`` is over all entries of the targets, in
their units; ``crps`` is averaged over them, in the same units; ``coverage_90`` is the share of targets inside their
central 90 % interval. ``aurc`` is the area under the risk–coverage curve: the share of errors among the predictions
with the largest probabilities, averaged over how many of these are taken (see `novacula.prediction.scores.selective`).
Soft labels count as each class to the share of its probability: all is what is expected over hard labels drawn by them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.meaning.soft import beliefs
from novacula.prediction import gaussians, sampled
from novacula.prediction.predictive import Predictive
from novacula.prediction.scores.calibration import BINS, Reliability, reliability
from novacula.prediction.scores.selective import RiskCoverage, risk_coverage


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
    scores["accuracy"] = float(_hits(p, y, task).mean())
    if predictive.likelihood.normalised:
        scores["nll"] = -float(predictive.log_prob(y).double().mean())
        scores["brier"] = float(_brier(p, y, task))
        confidence, hits = _confidence(p, task), _hits(p, y, task)
        scores["ece"] = reliability(confidence, hits, bins=BINS).error
        scores["ece_adaptive"] = reliability(confidence, hits, bins=BINS, spacing="mass").error
        scores["aurc"] = risk_coverage(confidence, 1 - hits).aurc
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


def risk_coverage_of(predictive: Predictive, y: Tensor) -> RiskCoverage:
    """The risk–coverage curve of a predictive's most probable labels, its risk the share of errors.

    Args:
        predictive: Predictions of classes or of several labels (each label then counts as a prediction).
        y: The labels.

    Returns:
        The curve with ``aurc`` and ``e_aurc``.

    Raises:
        InputError: If the task is neither classification nor multilabel.
    """
    task = predictive.likelihood.task
    if task not in {"classification", "multilabel"}:
        raise InputError(
            "predictions of classes or labels", f"the task {task!r}", "use risk_coverage(confidence, loss)"
        )
    p = predictive.mean().double()
    return risk_coverage(_confidence(p, task), 1 - _hits(p, predictive.labels(y), task))


def crps(predictive: Predictive, y: Tensor) -> Tensor:
    """The continuous ranked probability score, ``∫ (F(t) − [t ≥ y])² dt``, of each target in closed form.

    Args:
        predictive: Predictions of measurements with Gaussian noise.
        y: The targets.

    Returns:
        Shape ``(N, D)``, float64, in the targets' units; 0 is perfect, and for a point estimate it is ``|y − m|``.

    Raises:
        InputError: If this is no regression with Gaussian noise, or the targets do not fit.

    Example:
        >>> from novacula.likelihoods import Normal
        >>> crps(Predictive(Normal(), torch.zeros(1, 1, 1), "plug-in"), torch.zeros(1, 1))
        tensor([[0.2337]], dtype=torch.float64)
    """
    y = predictive.labels(y)
    if (draws := predictive.draws()) is not None:
        return sampled.crps(draws, y)
    mu, sd = predictive.gaussians()
    return gaussians.crps(y, mu, sd)


def _regression(predictive: Predictive, y: Tensor) -> dict[str, float]:
    gap = predictive.mean().double() - y.double()
    scores = {"rmse": float(gap.square().mean().sqrt())}
    if predictive.likelihood.normalised:
        scores["nll"] = -float(predictive.log_prob(y).double().mean())
        scores["crps"] = float(crps(predictive, y).mean())
        low, high = predictive.interval(0.9)
        scores["coverage_90"] = float(((y >= low) & (y <= high)).double().mean())
    else:
        scores["loss"] = float(predictive.expected_loss(y).double().mean())
    return scores


def squares(p: Tensor, q: Tensor) -> Tensor:
    """``Σ_y q_y Σ_c (p_c − [y = c])²``, the expected Brier score of each example: both ``(N, C)``, to ``(N,)``."""
    return (p - q).square().sum(-1) + (q * (1 - q)).sum(-1)


def _confidence(p: Tensor, task: str) -> Tensor:
    return p.amax(-1) if task == "classification" else torch.maximum(p, 1 - p)


def _hits(p: Tensor, y: Tensor, task: str) -> Tensor:
    if task == "classification":
        return beliefs(y, p.shape[-1]).to(p.device).gather(-1, p.argmax(-1, keepdim=True))[..., 0]
    return ((p > 0.5) == (y > 0.5)).double()


def _brier(p: Tensor, y: Tensor, task: str) -> Tensor:
    if task == "classification":
        return squares(p, beliefs(y, p.shape[-1]).to(p.device)).mean()
    return (p - y.to(p)).square().mean()
