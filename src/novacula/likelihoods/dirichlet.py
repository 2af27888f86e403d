"""Classification by Gaussians on the logits: a Dirichlet observation model, which knows how clean labels are.

The softmax likelihood takes labels for draws from the network's probabilities, so that a posterior doubts labels which
nobody doubts; people then cool it. Here an example says instead that its class probabilities are ``Dirichlet(a)``, with
``a_c = α + y_c``: the smaller α, the surer the label. A Dirichlet is a vector of independent ``Gamma(a_c, 1)`` over its
sum, and each of these is matched in mean and variance by a lognormal, so that a logit is observed as Gaussian:

    ``f_c ~ N(m_c, s_c²)``, ``s_c² = log(1 + 1/a_c)``, ``m_c = log a_c − s_c²/2``.

All is then quadratic in the outputs, whose curvature does not depend on them. Soft labels enter as ``y_c`` alike. Since
the density is one of logits and not of labels, evidences compare only at the same α: α is chosen by unseen examples.

References:
    Dirichlet-based Gaussian processes for large-scale calibrated classification. D. Milios, R. Camoriano, P. Michiardi,
        L. Rosasco, M. Filippone, 2018. arXiv:1805.10915.
    On uncertainty, tempering, and data augmentation in Bayesian classification. S. Kapoor, W. J. Maddox, P. Izmailov,
        A. G. Wilson, 2022. arXiv:2203.16481.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_positive
from novacula.data.meaning.soft import beliefs
from novacula.likelihoods import checks
from novacula.likelihoods.base import Likelihood, Rule
from novacula.likelihoods.categorical import Categorical


@dataclass(frozen=True, eq=False)
class Dirichlet(Likelihood):
    """``N(f_c; m_c, s_c²)`` for each class, with the mean and variance that ``Dirichlet(α + y)`` gives a logit.

    Predictions are class probabilities ``softmax(f)``; they are scored by their loss on the logits, their accuracy and
    as `Categorical` ones (``nv.prediction.Predictive(nv.Categorical(), found.outputs, found.kind)``).

    Args:
        alpha: α, the weight of each class without a label; positive. Smaller is surer.
        classes: The number of classes C; by default, one more than the largest label.

    Attributes:
        loss: ``"dirichlet:"`` and α.

    Raises:
        InputError: If α is not positive, or ``classes`` is not a whole number of at least 2.

    Example:
        >>> Dirichlet(alpha=1.0).observed(torch.tensor([0]), 2)
        (tensor([[ 0.4904, -0.3466]], dtype=torch.float64), tensor([[0.6368, 0.8326]], dtype=torch.float64))
    """

    alpha: float = 0.01
    classes: int | None = None
    loss: str = field(init=False, repr=False)  # type: ignore[override]

    normalised: ClassVar[bool] = False
    concave: ClassVar[bool] = True
    rules: ClassVar[tuple[Rule, ...]] = ("monte_carlo", "probit", "probit_diagonal")
    task = "classification"

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)
        Categorical(self.classes)
        object.__setattr__(self, "loss", f"dirichlet:{self.alpha:g}")

    def observed(self, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """What labels say of the logits.

        Args:
            y: Labels, shape ``(N,)``, or soft ones ``(N, C)``.
            classes: C.

        Returns:
            Means and standard deviations, each of shape ``(N, C)``, float64.
        """
        a = self.alpha + beliefs(y, classes)
        variance = torch.log1p(1 / a)
        return a.log() - variance / 2, variance.sqrt()

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """The log-density of the logits' Gaussians: f ``(N, C)``, y ``(N,)`` or ``(N, C)`` to ``(N,)``."""
        checks.matched(f, y, f.shape if y.ndim == 2 else f.shape[:1])
        mean, sd = (t.to(f) for t in self.observed(y, f.shape[1]))
        return -(0.5 * ((f - mean) / sd).square() + sd.log() + 0.5 * math.log(2 * math.pi)).sum(-1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``L = diag(1/s)``, the same at all outputs: f ``(N, C)`` to ``(N, C, C)``."""
        return torch.diag_embed(1 / self.observed(y, f.shape[1])[1].to(f))

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Draw a class for each row: f ``(N, C)`` to ``(N,)``."""
        return Categorical().sample(f, rng)

    def mean(self, f: Tensor) -> Tensor:
        """Class probabilities: f ``(N, C)`` to ``(N, C)``."""
        return f.softmax(-1)

    def outputs(self, y: Tensor) -> int:
        """One output for each class; y ``(N,)`` or ``(N, C)``."""
        return Categorical(self.classes).outputs(y)

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Labels as int64, y ``(N,)`` to ``(N,)``; soft ones ``(N, C)`` as they are."""
        return Categorical(self.classes).validate(y, outputs, training=training)
