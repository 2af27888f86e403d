"""Selective prediction: how much smaller the risk is on the inputs that the model is most sure of.

With examples in order of confidence, the selective risk at coverage ``k/N`` is the mean loss of the first k. ``aurc``,
the area under the risk–coverage curve, is its mean over k = 1 … N. ``e_aurc`` is what it exceeds that of the best order
of the same losses by (smallest first): a model is not blamed there for its errors, only for not knowing which they are.
Examples of equal confidence come in random order: the values are the averages over all such
orders, and do not depend on the order of the rows.

References:
    Bias-reduced uncertainty estimation for deep neural classifiers. Y. Geifman, G. Uziel, R. El-Yaniv, 2019.
    arXiv:1805.08206.
    Selective classification for deep neural networks. Y. Geifman, R. El-Yaniv, 2017. arXiv:1705.08500.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.diagnostics import scores as diagnostics


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """A risk–coverage curve.

    Args:
        coverage: ``1/N, 2/N, …, 1``, shape ``(N,)``.
        risk: The mean loss of the most confident examples up to each coverage.
        aurc: The area under the curve.
        e_aurc: The area less that of the best order.
    """

    coverage: Tensor
    risk: Tensor
    aurc: float
    e_aurc: float

    __repr__ = brief


def risk_coverage(confidence: Tensor, loss: Tensor) -> RiskCoverage:
    """The risk–coverage curve.

    Args:
        confidence: Any score that is larger where the model is surer, any shape.
        loss: The loss of each example (0 or 1 for right or wrong), the same shape.

    Returns:
        The curve and its areas, in float64.

    Raises:
        InputError: If the shapes differ, nothing is given, or a value is NaN.

    Example:
        >>> curve = risk_coverage(torch.tensor([0.9, 0.6, 0.8]), torch.tensor([0, 0, 1]))
        >>> [round(r, 3) for r in curve.risk.tolist()], round(curve.aurc, 3), round(curve.e_aurc, 3)
        ([0.0, 0.5, 0.333], 0.278, 0.167)
    """
    c, values = confidence.detach().flatten().double().cpu(), loss.detach().flatten().double().cpu()
    if confidence.shape != loss.shape or c.numel() == 0:
        raise InputError(
            "a loss for each confidence",
            f"shapes {tuple(confidence.shape)} and {tuple(loss.shape)}",
            "pass one loss for each prediction",
        )
    if bool(c.isnan().any()) or not bool(torch.isfinite(values).all()):
        raise InputError("confidences and finite losses", "NaN or infinity", "check the predictions")
    found = diagnostics.risk_coverage(c.numpy(), values.numpy())
    return RiskCoverage(
        torch.from_numpy(found.coverage), torch.from_numpy(found.risk), aurc=found.area, e_aurc=found.excess
    )
