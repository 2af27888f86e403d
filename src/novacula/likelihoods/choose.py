"""A likelihood from the look of the labels, or from the task that they pose."""

from __future__ import annotations

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.meaning.labels import Task
from novacula.likelihoods import checks
from novacula.likelihoods.bernoulli import Bernoulli
from novacula.likelihoods.categorical import Categorical
from novacula.likelihoods.normal import Normal


def likelihood_of(task: Task) -> Categorical | Bernoulli | Normal:
    """The likelihood of a task by default."""
    return {"classification": Categorical, "multilabel": Bernoulli, "regression": Normal}[task]()


def default_likelihood(y: Tensor) -> Categorical | Bernoulli | Normal:
    """Choose by dtype: whole numbers are classes, a matrix of them labels, floats measurements.

    Args:
        y: Training labels, shape ``(N,)`` or ``(N, D)``.

    Returns:
        `Normal` for floating dtypes; `Bernoulli` for boolean labels and for several columns of whole numbers; otherwise
        `Categorical`.

    Raises:
        InputError: If whole numbers look like measurements: one is negative, or they count to more than there are rows.

    Example:
        >>> default_likelihood(torch.tensor([0, 2, 1]))
        Categorical(classes=None)
    """
    checks.rows(y, at_least=1)
    if y.is_floating_point():
        return Normal()
    if y.dtype == torch.bool or (y.ndim == 2 and y.shape[1] > 1):
        return Bernoulli()
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= max(len(y), 2):
        raise InputError(
            "class labels 0, 1, 2, …, or floating targets",
            f"whole numbers from {low} to {high} in {len(y)} rows",
            "pass likelihood=Normal() for measurements, or Categorical() for classes",
        )
    return Categorical()
