"""Soft labels: a probability of each class in place of one class, such as the shares of annotators' votes.

By Jeffrey's rule a label that is uncertain counts as each class to the share of its probability: whatever is an average
over labels is averaged over each example's classes too. A class for certain is the special case of a unit vector.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from novacula.core.errors import InputError

_SUM = 1e-4  # by which probabilities in single precision may miss a sum of one


def is_soft(y: Tensor) -> bool:
    """Whether labels of classes are probabilities ``(N, C)``."""
    return y.ndim == 2 and y.shape[1] > 1 and y.is_floating_point()


def look_soft(y: Tensor) -> bool:
    """Whether floats ``(N, C)`` are probabilities of classes, as far as numbers can tell."""
    return is_soft(y) and bool((y >= 0).all()) and bool(((y.sum(1) - 1).abs() <= _SUM).all())


def check_soft(y: Tensor) -> Tensor:
    """Probabilities ``(N, C)``, or an error that names the first bad row."""
    bad = ~((y >= 0).all(1) & ((y.sum(1) - 1).abs() <= _SUM))
    if bad.any():
        row = int(bad.nonzero()[0, 0])
        got = f"a sum of {float(y[row].sum()):g}" if bool((y[row] >= 0).all()) else f"{float(y[row].min()):g}"
        hint = "divide votes by their sum, y / y.sum(1, keepdims=True); use task='regression' for measurements"
        raise InputError("probabilities of the classes in each row, with a sum of 1", f"{got} in row {row}", hint)
    return y


def beliefs(y: Tensor, classes: int) -> Tensor:
    """The probability of each class by the labels, ``(N, C)``: unit vectors for classes that are certain."""
    return y.double() if is_soft(y) else one_hot(y, classes).double()


def most_probable(y: Tensor) -> Tensor:
    """The most probable class by the labels, ``(N,)``."""
    return y.argmax(1) if is_soft(y) else y


def class_count(y: Tensor, names: int = 0) -> int:
    """How many classes there are by labels and by the number of their names."""
    return y.shape[1] if is_soft(y) else max(int(y.max()) + 1, names)


def outputs_for(y: Tensor, names: int = 0) -> int:
    """How many outputs a network for these labels has: one a column, or one a class."""
    return y.shape[1] if y.ndim == 2 else class_count(y, names)


def check_hard(y: Tensor, what: str) -> None:
    """Refuse soft labels where something takes one class an example."""
    if is_soft(y):
        hint = "pass the most probable classes, y.argmax(1), if that is what you mean"
        raise InputError(f"one class for each example, for {what}", "probabilities of classes (soft labels)", hint)


def mixed(logs: Tensor, y: Tensor) -> Tensor:
    """``Σ_c y_c log p_c`` of log-probabilities and labels ``(N, C)``; classes of no weight do not count."""
    y = y.to(logs.dtype)
    return (y * torch.where(y > 0, logs, torch.zeros_like(logs))).sum(-1)
