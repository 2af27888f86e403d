"""Predictions in the units of the data, where the targets were brought to standard units for training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from novacula.data.standardise import Standardiser
from novacula.prediction.predictive import Predictive
from novacula.prediction.scores.metrics import crps, evaluate

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that are saved and written."""


def scores(predictive: Predictive, y: Tensor, scaling: Standardiser | None) -> dict[str, float]:
    """Metrics in the targets' units."""
    found = evaluate(predictive, y)
    if scaling is None or predictive.likelihood.task != "regression":
        return found
    y = predictive.labels(y)
    gap = scaling.restore_y_scale(predictive.mean().double() - y.double())
    found["rmse"] = float(gap.square().mean().sqrt())
    if "nll" in found:
        found["nll"] += scaling.log_y_scale
    if "crps" in found:
        found["crps"] = float(scaling.restore_y_scale(crps(predictive, y)).double().mean())
    return found


def mean(predictive: Predictive, scaling: Standardiser | None) -> Tensor:
    """Means in the targets' units, or probabilities, ``(N, D)``."""
    found = predictive.mean().detach()
    return restored(found, scaling) if predictive.likelihood.task == "regression" else found


def restored(y: Tensor, scaling: Standardiser | None) -> Tensor:
    """Targets in their own units; y ``(…, D)``."""
    return y if scaling is None else scaling.restore_y(y)


def half_width(predictive: Predictive, scaling: Standardiser | None) -> Tensor:
    """Half the width of the central 68.27 % interval: the standard deviation, where the predictive is Gaussian."""
    low, high = predictive.interval(math.erf(1 / math.sqrt(2)))
    sd = ((high - low) / 2).detach()
    return sd if scaling is None else scaling.restore_y_scale(sd)


def deviation(predictive: Predictive, scaling: Standardiser | None) -> Tensor:
    """Standard deviations of new targets, noise included, ``(N, D)``."""
    sd = predictive.variance().detach().sqrt()
    return sd if scaling is None else scaling.restore_y_scale(sd)


def quantiles(predictive: Predictive, scaling: Standardiser | None, levels: Sequence[float] = LEVELS) -> Tensor:
    """Quantiles of new targets, ``(Q, N, D)``."""
    return restored(predictive.quantile(levels).detach(), scaling)
