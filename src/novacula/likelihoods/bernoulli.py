"""Binary and multi-label classification: independent sigmoids.

Everything is written in ``log σ(±f)``, which neither overflows nor rounds to ``log 0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from novacula.core.errors import InputError
from novacula.likelihoods import checks
from novacula.likelihoods.base import Likelihood, Rule


@dataclass(frozen=True, eq=False)
class Bernoulli(Likelihood):
    """``p(y | f) = Π_c σ(f_c)^{y_c} σ(−f_c)^{1 − y_c}`` for labels ``y (N, C)`` of 0 and 1.

    A binary problem is the case C = 1.

    Example:
        >>> Bernoulli().log_prob(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        tensor([-1.3863])
    """

    concave: ClassVar[bool] = True
    tempering: ClassVar[Literal["outputs", "noise"] | None] = "outputs"
    rules: ClassVar[tuple[Rule, ...]] = ("probit", "monte_carlo", "probit_diagonal")
    task = "multilabel"
    loss = "binary_cross_entropy"

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """``Σ_c y_c log σ(f_c) + (1 − y_c) log σ(−f_c)``: f ``(N, C)``, y ``(N, C)`` to ``(N,)``."""
        checks.matched(f, y, f.shape)
        y = y.to(f.dtype)
        return (y * logsigmoid(f) + (1 - y) * logsigmoid(-f)).sum(-1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``L = diag(√(σ(f) σ(−f)))``; ``L Lᵀ`` is also the Hessian of ``−log p``: f ``(N, C)`` to ``(N, C, C)``."""
        return torch.diag_embed((0.5 * (logsigmoid(f) + logsigmoid(-f))).exp())

    @torch.no_grad()
    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Draw each label on its own: f ``(N, C)`` to ``(N, C)``."""
        u = torch.rand(f.shape, generator=rng, device=rng.device, dtype=torch.float64).to(f.device)
        return (u < f.double().sigmoid()).to(f.dtype)

    def mean(self, f: Tensor) -> Tensor:
        """The probability of each label: f ``(N, C)`` to ``(N, C)``."""
        return f.sigmoid()

    def outputs(self, y: Tensor) -> int:
        """One output for each label; y ``(N,)``."""
        return _labels(y, training=True).shape[1]

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Labels as floats: y ``(N,)`` to ``(N, C)``."""
        y = _labels(y, training=training)
        if y.shape[1] != outputs:
            raise InputError(
                f"a network with {y.shape[1]} outputs, one for each column of labels",
                f"{outputs}",
                "change the last layer, or use Categorical() if each example has exactly one class",
            )
        return y


def _labels(y: Tensor, *, training: bool) -> Tensor:
    y = checks.targets(y, training=training)
    bad = (y != 0) & (y != 1)
    if bad.any():
        row, more = checks.first(bad.any(1))
        column = int(bad[row].nonzero()[0, 0])
        raise InputError(
            "labels that are 0 or 1",
            f"{y[row, column].item():g} in row {row}, column {column}{more}",
            "use Categorical() for class numbers, or Normal() for measurements",
        )
    if training and bool((y == y[0]).all()):
        raise InputError(
            "at least two classes",
            f"{len(y)} rows that are all the same ({y[0].tolist()})"
            if y.shape[1] < 9
            else f"{len(y)} rows that are all the same",
            "check that the rows are not sorted and cut off, and that the right columns hold the labels",
        )
    return y
