"""How far models are behind the best, how sure that is, and what would make it surer.

All models predict the same examples from the same folds, so that a gap is a mean of paired differences ``d_sn`` over S
trainings and N examples. Its variance has a part of the examples, ``Var_n(d̄_n)/N``, that more trainings do not shrink,
and a part of the training, ``2σ²/(SK)``, that they do; ``σ²`` is what a network's mean loss varies by from one training
to another, pooled over all models (`novacula.study.augmentation.verdicts.training_noise`). It is known from few
networks, and is sometimes found to be zero where it is not: the error gets no more degrees of freedom than this
estimate has, ``S(M − 1)(K − 1)``. One network of each model tells nothing of it: the error is then that of the examples
alone, and a gap is one between these networks.

The best of M models is itself chosen by the data. A model is therefore called worse only at the level
``α/(M(M − 1))``, one-sided: all ordered pairs count, whichever of them the data pick, so that with ``α = 0.05`` one
comparison in twenty, at most, calls any model worse that is not (Bonferroni's inequality).

References:
    Simultaneous confidence intervals for all distances from the "best". J. C. Hsu, 1981. Annals of Statistics 9.
    Multiple comparisons with the best treatment. D. G. Edwards, J. C. Hsu, 1983. JASA 78 (comparisons of all pairs give
    comparisons with the best).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import f as fisher
from scipy.stats import t as student
from torch import Tensor, stack

from novacula.study.augmentation.verdicts import training_noise

ALPHA = 0.05
"""How often a comparison may call any model worse that is not."""
_ODD, _MOST = 0.05, 30


@dataclass(frozen=True)
class Gap:
    """How much higher a model's loss is than the best one's, in nats an example."""

    value: float
    stderr: float
    freedom: float  # the degrees of freedom of ``stderr``
    of_examples: float  # the part of the variance that more trainings leave as it is
    n: int  # examples
    trainings: int
    level: float  # the one-sided level at which a gap counts

    @property
    def margin(self) -> float:
        """How many standard errors a gap must have."""
        return float(student.isf(self.level, self.freedom))

    @property
    def real(self) -> bool:
        """Whether the model is worse than the best."""
        return self.value > self.margin * self.stderr

    @property
    def trainings_needed(self) -> int | None:
        """Trainings in all that would tell the two apart if the gap is what it seems; None beyond 30."""
        shrinks = (self.stderr**2 - self.of_examples) * self.trainings
        for count in range(self.trainings + 1, _MOST + 1):
            margin = float(student.isf(self.level, self.freedom * count / self.trainings))
            if self.value > margin * math.sqrt(self.of_examples + max(0.0, shrinks) / count):
                return count
        return None

    @property
    def examples_needed(self) -> int | None:
        """Examples in all that would, with as many trainings; None where the gap is zero."""
        if self.value == 0:
            return None
        return max(self.n, math.ceil(self.n * (self.margin * self.stderr / self.value) ** 2))


def gaps(losses: Mapping[str, Tensor], folds: Tensor, best: str) -> dict[str, Gap]:
    """The gap of every other model to one of them.

    Args:
        losses: Each model's out-of-fold losses, shape ``(S, N)``.
        folds: The folds of each training, shape ``(S, N)``.
        best: The model that the others are compared with.

    Returns:
        Gaps by name, without that model's own.

    Example:
        >>> import torch
        >>> a = torch.arange(12.0).reshape(1, 12) / 10
        >>> gaps({"a": a, "b": a + 1}, torch.arange(12).reshape(1, 12) % 3, "a")["b"].real
        True
    """
    models = len(losses)
    noise, certain = _noise(losses, folds)
    level = ALPHA / max(1, models * (models - 1))
    others = {name: table - losses[best] for name, table in losses.items() if name != best}
    return {name: _gap(d.double(), folds, noise, certain, level) for name, d in others.items()}


def _noise(losses: Mapping[str, Tensor], folds: Tensor) -> tuple[float, float]:
    # Pooled over trainings, each with folds of its own.
    if folds.unique().numel() < 2:
        return 0.0, folds.numel() - 1.0
    found = [
        training_noise({name: table[s : s + 1] for name, table in losses.items()}, folds[s], none="")
        for s in range(len(folds))
    ]
    freedom = sum(f for _, f in found)
    return sum(v * f for v, f in found) / freedom, freedom


def _gap(d: Tensor, folds: Tensor, noise: float, certain: float, level: float) -> Gap:
    trainings, n = d.shape
    means = stack([d[s][folds[s] == k].mean() for s in range(trainings) for k in folds[s].unique().tolist()])
    of_examples = float(d.mean(0).var()) / n
    of_training = 2 * noise / len(means)
    squared = max(of_examples + of_training, 1e-300)
    freedom = certain
    # The pair's own spread between networks is rough: it counts only where it is more than chance.
    between = float(means.var()) / len(means) if len(means) > 1 else 0.0
    if between > squared * float(fisher.isf(_ODD, max(1, len(means) - 1), freedom)):
        squared, freedom = between, len(means) - 1.0
    return Gap(float(d.mean()), math.sqrt(squared), freedom, of_examples, n, trainings, level)
