"""Bits to describe a draw of a Gaussian process: how many functions a kernel tells apart.

References:
    Elements of information theory. T. M. Cover, J. A. Thomas, 2006, section 10.3 (reverse water-filling).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from novacula.core.checks.numbers import check_within
from novacula.core.errors import InputError


def rate_distortion(covariance: Tensor, distortion: float) -> float:
    """Bits to describe a draw of a Gaussian process on N inputs within a mean squared error.

    By reverse water-filling of the eigenvalues ``R = Σ_i max(0, ½ log₂ λ_i/θ)`` with ``Σ_i min(λ_i, θ)`` the share D of
    ``Σ_i λ_i``. Of any other process with this covariance it is an upper bound.

    Args:
        covariance: ``(N, N)``, of `arc_cosine`, for instance.
        distortion: D, the share of the variance that may be lost, between 0 and 1.

    Returns:
        R in bits.

    Raises:
        InputError: If the share is not between 0 and 1, or the matrix has no variance.

    Example:
        >>> import torch
        >>> rate_distortion(torch.eye(3), 0.25)  # half a bit for each halving of the variance
        3.0
    """
    check_within("distortion", distortion)
    values = np.linalg.eigvalsh(np.asarray(covariance.detach().cpu(), dtype=np.float64)).clip(min=0)[::-1]
    if not values.sum() > 0:
        raise InputError("a covariance with some variance", "none", "check how it was computed")
    lost = distortion * values.sum()
    # With the k largest cut at the level, all others are lost whole: of all k one has its level between its neighbours.
    levels = (lost - values.sum() + values.cumsum()) / np.arange(1, len(values) + 1)
    k = int(np.argmax((levels <= values) & (levels >= np.append(values[1:], 0))))
    return float(0.5 * np.log2(values[: k + 1] / levels[k]).sum())
