"""Calibration: whether predictions of 80 % come true 80 % of the time.

A *prediction* is a confidence in [0, 1] with the fact whether it came true.

References:
    Obtaining well calibrated probabilities using Bayesian binning. M. P. Naeini, G. F. Cooper, M. Hauskrecht, 2015.
    On calibration of modern neural networks. C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, 2017. arXiv:1706.04599.
    Measuring calibration in deep learning. J. Nixon, M. Dusenberry, G. Jerfel, T. Nguyen, J. Liu, L. Zhang, D. Tran,
    2019. arXiv:1904.01685 (bins of equal mass).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.diagnostics.scores import calibration

BINS = 15


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability table.

    Args:
        edges: Bounds of the bins, shape ``(B + 1,)``; a bin of equal width holds its upper bound and not its
            lower one (the first, both); bins of equal mass hold as many predictions each, in their order.
        count: Predictions in each bin, shape ``(B,)``, int64.
        confidence: Their mean confidence; NaN in empty bins.
        accuracy: The share of them that came true; NaN in empty bins.
    """

    edges: Tensor
    count: Tensor
    confidence: Tensor
    accuracy: Tensor

    __repr__ = brief

    @property
    def error(self) -> float:
        """The expected calibration error, ``Σ_b count_b/N |accuracy_b − confidence_b|``."""
        gap = (self.accuracy - self.confidence).abs().nan_to_num(0.0)
        return float((gap * self.count).sum() / self.count.sum())

    def to_dict(self) -> dict[str, list[float | None]]:
        """The table as plain values, for JSON.

        Returns:
            Lists by column; None in empty bins.
        """
        return {
            "edges": self.edges.tolist(),
            "count": self.count.tolist(),
            "confidence": [None if v != v else v for v in self.confidence.tolist()],
            "accuracy": [None if v != v else v for v in self.accuracy.tolist()],
        }


def reliability(
    confidence: Tensor, correct: Tensor, *, bins: int = BINS, spacing: Literal["width", "mass"] = "width"
) -> Reliability:
    """Bin predictions by confidence.

    Args:
        confidence: Numbers in [0, 1], any shape.
        correct: Whether each came true, the same shape.
        bins: The number of bins.
        spacing: Bins of equal ``"width"``, or of equal ``"mass"`` (as many predictions in each as possible). Equal
            confidences share their bin's outcomes evenly, so that the order of the rows does not matter.

    Returns:
        The table, in float64.

    Raises:
        InputError: If the shapes differ, nothing is given, a confidence is no probability, or ``bins`` is not positive.

    Example:
        >>> table = reliability(torch.tensor([0.9, 0.8, 0.3]), torch.tensor([True, False, True]), bins=2)
        >>> table.count.tolist(), table.accuracy.tolist()
        ([1, 2], [1.0, 0.5])
    """
    c, hit = confidence.detach().flatten().double().cpu(), correct.detach().flatten().double().cpu()
    if confidence.shape != correct.shape or c.numel() == 0 or bins < 1:
        raise InputError(
            "as many outcomes as confidences, and at least one bin",
            f"shapes {tuple(confidence.shape)} and {tuple(correct.shape)}, {bins} bins",
            "pass one outcome for each prediction",
        )
    slack = 1e-6  # single-precision probabilities may sum to a little more than one
    if not bool(((c >= -slack) & (c <= 1 + slack)).all()):
        raise InputError(
            "confidences in [0, 1]", f"values from {c.min()} to {c.max()}", "pass probabilities, not logits"
        )
    found = calibration(c.clamp(0, 1).numpy(), hit.numpy(), bins, spacing)
    return Reliability(*map(torch.from_numpy, (found.edges, found.counts, found.predicted, found.observed)))
