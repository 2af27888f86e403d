"""A predictive's scores, example by example: numbers whose mean is the score, and whose spread is its error.

Means are sums of single examples' contributions. Of scores that are no means, the contributions are those to first
order (the score's influence function, moved so that its mean is the score): ``r + (e_n² − r²)/2r`` for a root mean
square r of errors ``e_n``, and ``s_b(n) (p_n − h_n)`` for a calibration error with hits ``h_n`` at probabilities
``p_n``, where ``s_b`` is the sign of bin b's gap.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.meaning.soft import beliefs
from novacula.diagnostics.scores import bin_of
from novacula.prediction.predictive import Predictive
from novacula.prediction.scores.calibration import BINS, reliability
from novacula.prediction.scores.metrics import crps, squares

HIGHER = frozenset({"accuracy"})
"""Scores that are better when they are higher."""
RELATIVE = frozenset({"rmse", "crps"})
"""Scores with the units of the targets."""


def by_example(predictive: Predictive, y: Tensor) -> dict[str, Tensor]:
    """Each example's part in every score, ``(N,)``."""
    y = predictive.labels(y)
    likelihood = predictive.likelihood
    found: dict[str, Tensor] = {}
    if likelihood.normalised:
        found["nll"] = -predictive.log_prob(y).double()
    else:
        found["loss"] = predictive.expected_loss(y).double()
    if likelihood.task == "regression":
        errors = (predictive.mean().double() - y.double()).square().mean(1)
        root = errors.mean().sqrt()
        found["rmse"] = root + (errors - root**2) / (2 * root) if root > 0 else errors
        if likelihood.normalised:
            found["crps"] = crps(predictive, y).double().mean(1)
    elif likelihood.task in {"classification", "multilabel"}:
        found |= _labels(predictive.mean().double(), y, likelihood.task, probabilities=likelihood.normalised)
    return found


def default_metric(metric: str | None, available: dict[str, Tensor]) -> str:
    """The score that decides."""
    chosen = metric or ("nll" if "nll" in available else "loss")
    if chosen not in available:
        raise InputError(f"a metric among {', '.join(available)}", repr(metric), "leave it out for the default")
    return chosen


def worth(metric: str, value: float) -> float:
    """The least difference of a score that is worth speaking of: a thousandth, of the value for scores with units."""
    return 1e-3 * (abs(value) if metric in RELATIVE and math.isfinite(value) else 1.0)


def _labels(p: Tensor, y: Tensor, task: str, *, probabilities: bool) -> dict[str, Tensor]:
    classes = task == "classification"
    q = beliefs(y, p.shape[-1]).to(p.device) if classes else y.to(p)
    hits = q.gather(-1, p.argmax(-1, keepdim=True))[..., 0] if classes else ((p > 0.5) == (q > 0.5)).double()
    found = {"accuracy": hits if classes else hits.mean(1)}
    if probabilities:
        found["brier"] = squares(p, q) if classes else (p - q).square().mean(-1)
        gaps = _gaps(p.amax(-1) if classes else torch.maximum(p, 1 - p), hits)
        found["ece"] = gaps if classes else gaps.mean(1)
    return found


def _gaps(confidence: Tensor, hits: Tensor) -> Tensor:
    # Each prediction's part in the expected calibration error.
    table = reliability(confidence, hits, bins=BINS)
    c = confidence.clamp(0, 1)
    where = torch.from_numpy(bin_of(c.detach().cpu().numpy(), table.edges.numpy())).to(c.device)
    sign = (table.confidence - table.accuracy).nan_to_num(0.0).sign().to(c)
    return sign[where] * (c - hits)
