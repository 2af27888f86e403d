"""Conformal sets by e-values, whose level may be chosen after the sets have been seen.

With scores ``s ≥ 0`` of n calibration examples and of a new one with label y, all exchangeable,

    ``E(y) = (n + 1) s(y) / (Σ_i s_i + s(y))``

has the mean 1 at the true label, so that by Markov's inequality ``P(E(y) ≥ 1/α) ≤ α``: the set of labels with
``E(y) < 1/α`` holds the truth with probability at least ``1 − α``. Sets are larger than those of ranks at one level.
But averages of e-values (over folds, over models, however dependent) are e-values, and with a level α̂ chosen from the
e-values themselves ``E[P(miss)/α̂] ≤ 1`` still holds. The score is ``−log p_y``, the example's own log loss.

References:
    Conformal e-prediction. V. Vovk, 2024. arXiv:2001.05989.
    Post-hoc and anytime valid permutation and group invariance testing. N. W. Koning, 2023. arXiv:2310.01153.
"""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_within
from novacula.core.errors import InputError
from novacula.likelihoods import checks
from novacula.prediction.conformal.sets import Sets
from novacula.prediction.distribution import Distribution


def e_values(calibration: Distribution, y: Tensor, new: Distribution) -> Tensor:
    """The e-value against each label of new inputs.

    Args:
        calibration: Predictions of n examples that the model has not been trained on.
        y: Their classes, shape ``(n,)``.
        new: Predictions of N new inputs by the same model.

    Returns:
        Shape ``(N, C)``, float64, between 0 and n + 1; large where a label does not fit. A mean of such tables is one.

    Raises:
        InputError: If these are no predictions of classes, or the labels do not fit.
    """
    for predictive in (calibration, new):
        if (task := predictive.likelihood.task) != "classification":
            raise InputError("predictions of classes", f"the task {task!r}", "use nv.prediction.conformal")
    p, q = (-predictive.mean().double().clamp(min=1e-300).log() for predictive in (calibration, new))
    whole = checks.classes(torch.as_tensor(y), p.shape[1], training=False).to(p.device)
    if len(whole) != len(p):
        raise InputError(f"{len(p)} labels, one for each prediction", str(len(whole)), "pass the examples' own labels")
    if q.shape[1] != p.shape[1]:
        raise InputError(f"new predictions of {p.shape[1]} classes", str(q.shape[1]), "use the same model")
    total = p.gather(1, whole[:, None]).sum()
    # Where all losses are zero, so is the new one's share of them: the e-value is that of equal shares.
    both = total + q
    return torch.where(both > 0, (len(p) + 1) * q / both.clamp(min=1e-300), torch.ones_like(q))


def e_sets(values: Tensor, *, alpha: float = 0.1) -> Sets:
    """The labels that e-values do not exclude.

    Args:
        values: E-values of labels, shape ``(N, C)``.
        alpha: The share of labels that may be missed; it may be chosen with the e-values in view.

    Returns:
        Sets with the level ``1 − α``.

    Raises:
        InputError: If α is not between 0 and 1.

    Example:
        >>> e_sets(torch.tensor([[0.1, 3.0, 12.0]]), alpha=0.1).to_list("abc")
        [['a', 'b']]
    """
    check_within("alpha", alpha)
    return Sets(values < 1 / alpha, 1 - alpha)
