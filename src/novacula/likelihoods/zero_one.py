"""The 0-1 loss, for counting: which functions fit the labels exactly.

``exp(log_prob)`` is 1 for a right answer and ``1/e`` for a wrong one; tempered to β → ∞ it is the indicator of a
perfect fit. It is piecewise constant in the outputs, so nothing that needs a gradient or a curvature can use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from novacula.core.errors import InputError
from novacula.likelihoods import checks
from novacula.likelihoods.base import Likelihood


@dataclass(frozen=True, eq=False)
class ZeroOne(Likelihood):
    """``log_prob = −[argmax f ≠ y]`` for labels ``y (N,)`` in ``0..C-1``; not normalised.

    Ties go to the lowest class.

    Example:
        >>> ZeroOne().log_prob(torch.eye(2), torch.tensor([0, 0]))
        tensor([ 0., -1.])
    """

    normalised: ClassVar[bool] = False
    task = "classification"
    loss = "zero_one"

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """Minus the number of errors in each row: f ``(N, C)``, y ``(N,)`` to ``(N,)``."""
        checks.matched(f, y, f.shape[:1])
        right = (f.argmax(-1) == y).to(f.dtype)
        # argmax hides a NaN behind an ordinary class; a failed network must not count as a wrong answer.
        return torch.where(f.isnan().any(-1), torch.full_like(right, torch.nan), right - 1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """The 0-1 loss has no curvature."""
        raise InputError(
            "a likelihood with a curvature",
            "the 0-1 loss, which is flat almost everywhere",
            "use Categorical() for gradients and Laplace evidence, or a sampling evidence with ZeroOne()",
        )

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """The 0-1 loss is no distribution over labels."""
        raise InputError(
            "a likelihood that can be sampled", "the 0-1 loss, which has no sampling distribution", "use Categorical()"
        )

    def mean(self, f: Tensor) -> Tensor:
        """The decision, as a one-hot row: f ``(N, C)`` to ``(N, C)``."""
        return one_hot(f.argmax(-1), f.shape[1]).to(f.dtype)

    def outputs(self, y: Tensor) -> int:
        """One output for each class; y ``(N,)``."""
        return int(checks.classes(y, None, training=True).max()) + 1

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Labels as int64: y ``(N,)`` to ``(N,)``."""
        if outputs < 2:
            raise InputError("a network with at least two outputs", f"{outputs}", "give it one output for each class")
        return checks.classes(y, outputs, training=training)
