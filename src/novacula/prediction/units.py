"""A predictive in the units of its targets, where these were brought to standard ones for training."""

from __future__ import annotations

from torch import Tensor

from novacula.data.standardise import Standardiser


def standard(y: Tensor, scaling: Standardiser | None) -> Tensor:
    """Targets ``(N, D)`` in standard units."""
    return y if scaling is None else scaling.targets(y)


def restored(y: Tensor, scaling: Standardiser | None) -> Tensor:
    """Targets ``(…, D)`` in their own units."""
    return y if scaling is None else scaling.restore_y(y)


def rescaled(sd: Tensor, scaling: Standardiser | None) -> Tensor:
    """Deviations ``(…, D)`` in the targets' units."""
    return sd if scaling is None else scaling.restore_y_scale(sd)


def squared(covariance: Tensor, scaling: Standardiser | None) -> Tensor:
    """Covariances ``(…, D, D)`` in the targets' units: twice a deviation's factor, once for each side."""
    return rescaled(rescaled(covariance, scaling).mT, scaling).mT
