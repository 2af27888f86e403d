"""Classification: one of C classes, with softmax probabilities.

The Fisher information of the softmax is ``diag(p) − p pᵀ``. Its square root is written down rather than computed,
``L = diag(√p) − p √pᵀ``, with ``√p = exp(½ log p)``, so that values and gradients stay finite however saturated the
probabilities are; the off-diagonal ``−p √pᵀ`` carries the information that ``1 − p`` rounds away.

Labels may be soft: probabilities of the classes, such as the shares of votes. By Jeffrey's rule their log-likelihood is
the expected one, ``Σ_c y_c log p_c``, and since the Hessian of ``log p`` is the same for every class, so is the
curvature. Its exponential is no density over ``y``: evidences compare models of the same soft labels.

References:
    The Logic of Decision, chapter 11. R. C. Jeffrey, 1983.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.meaning.soft import is_soft, mixed
from novacula.likelihoods import checks
from novacula.likelihoods.base import Likelihood, Rule


@dataclass(frozen=True, eq=False)
class Categorical(Likelihood):
    """``p(y = c | f) = softmax(f)_c`` for labels ``y (N,)`` in ``0..C-1``, or for their probabilities ``y (N, C)``.

    Args:
        classes: The number of classes C; by default, one more than the largest label.

    Raises:
        InputError: If ``classes`` is not a whole number of at least 2.

    Example:
        >>> Categorical().log_prob(torch.zeros(2, 4), torch.tensor([0, 3]))
        tensor([-1.3863, -1.3863])
    """

    classes: int | None = None

    concave: ClassVar[bool] = True
    tempering: ClassVar[Literal["outputs", "noise"] | None] = "outputs"
    rules: ClassVar[tuple[Rule, ...]] = ("monte_carlo", "probit", "probit_diagonal")
    task = "classification"
    loss = "cross_entropy"

    def __post_init__(self) -> None:
        if self.classes is not None and (not isinstance(self.classes, Integral) or self.classes < 2):
            raise InputError(
                "classes as a whole number of at least 2", repr(self.classes), "pass the number of classes, or None"
            )

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """``log softmax(f)_y``: f ``(N, C)``, y ``(N,)`` to ``(N,)``; of soft labels ``Σ_c y_c log softmax(f)_c``."""
        if is_soft(y):
            checks.matched(f, y, f.shape)
            return mixed(f.log_softmax(-1), y)
        checks.matched(f, y, f.shape[:1])
        return f.log_softmax(-1).gather(-1, y.long()[:, None])[:, 0]

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``L = diag(√p) − p √pᵀ``, so that ``L Lᵀ = diag(p) − p pᵀ``, which is also the Hessian of ``−log p``."""
        log_p = f.log_softmax(-1)
        root = (0.5 * log_p).exp()
        return torch.diag_embed(root) - log_p.exp()[:, :, None] * root[:, None, :]

    def combined(self, f: Tensor, y: Tensor, mix: Callable[[int], Tensor]) -> Tensor:
        """``L E = √p ∘ E − p (√pᵀ E)``, without the ``C × C`` matrix."""
        log_p = f.log_softmax(-1)
        spread = (0.5 * log_p).exp()[:, :, None] * mix(f.shape[1])
        return spread - log_p.exp()[:, :, None] * spread.sum(1, keepdim=True)

    def mixture(self, f: Tensor, y: Tensor) -> Tensor:
        """``log p̄_y`` of the average probabilities of f ``(S, N, C)``; of soft labels ``Σ_c y_c log p̄_c``."""
        if not is_soft(y):
            return super().mixture(f, y)
        return mixed(f.log_softmax(-1).logsumexp(0) - math.log(len(f)), y)

    @torch.no_grad()
    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Draw a class for each row, by inverting the distribution function in float64: f ``(N, C)`` to ``(N,)``."""
        cdf = f.double().softmax(-1).cumsum(-1)
        u = torch.rand(f.shape[0], 1, generator=rng, device=rng.device, dtype=torch.float64).to(f.device)
        return (cdf <= u).sum(-1).clamp(max=f.shape[1] - 1)

    def mean(self, f: Tensor) -> Tensor:
        """Class probabilities: f ``(N, C)`` to ``(N, C)``."""
        return f.softmax(-1)

    def outputs(self, y: Tensor) -> int:
        """One output for each class; y ``(N,)`` or ``(N, C)``."""
        if is_soft(y):
            return checks.beliefs(y, self.classes, training=True).shape[1]
        whole = checks.classes(y, self.classes, training=True)
        return self.classes if self.classes is not None else int(whole.max()) + 1

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Labels as int64, y ``(N,)`` to ``(N,)``; soft ones ``(N, C)`` as they are."""
        wanted = max(outputs, 2) if self.classes is None else self.classes
        if outputs != wanted:
            raise InputError(
                f"a network with {wanted} outputs" if self.classes else "a network with at least two outputs",
                f"{outputs}",
                "give the last layer one output for each class (Bernoulli() takes a single output for two classes)",
            )
        if is_soft(y):
            return checks.beliefs(y, outputs, training=training)
        return checks.classes(y, outputs, training=training)
