"""What the estimators of the probability of a fit share: their estimates are of one loss, the 0-1 loss at β → ∞."""

from __future__ import annotations

from torch import Tensor

from novacula.core.estimate import Estimate, Kind
from novacula.data.data import Data
from novacula.evidence.common import invariance_assumptions
from novacula.target import Target

FIT = "zero training error"
"""The loss's name: values compare with each other, and not with evidences of a likelihood."""


def fit_estimate(
    target: Target,
    data: Data,
    value: Tensor,
    *,
    kind: Kind,
    estimator: str,
    stderr: float,
    assumptions: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
    parts: dict[str, float] | None = None,
) -> Estimate:
    """The log-probability that a network of the prior fits all labels."""
    return Estimate(
        value=value,
        stderr=stderr,
        kind=kind,
        estimator=estimator,
        n=data.n,
        fingerprint=data.fingerprint,
        loss=FIT,
        assumptions=(
            "the probability that a network of the prior has zero training error",
            *assumptions,
            *invariance_assumptions(target, target.copies.evidence),
        ),
        warnings=warnings,
        parts=parts or {},
    )
