"""Checks of labels, shared by the likelihoods: each names the first bad row, counted from 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.meaning.soft import check_soft


def matched(f: Tensor, y: Tensor, shape: Sequence[int]) -> None:
    """Refuse outputs and labels whose shapes would broadcast instead of pair up."""
    if f.ndim != 2 or tuple(y.shape) != tuple(shape):
        raise InputError(
            f"outputs of shape (N, C) with labels of shape {tuple(shape) if f.ndim == 2 else '(N, …)'}",
            f"outputs {tuple(f.shape)} and labels {tuple(y.shape)}",
            "pass the labels through likelihood.validate(y, outputs) first",
        )


def rows(y: Tensor, *, at_least: int) -> None:
    """Refuse labels without enough rows."""
    if not isinstance(y, Tensor):
        raise InputError("labels as a tensor", f"a {type(y).__name__}", "call torch.as_tensor(y)")
    if y.ndim == 0 or y.is_complex():
        raise InputError(
            "real labels with one row per example",
            f"shape {tuple(y.shape)}, {y.dtype}",
            "pass one label for each input",
        )
    if y.shape[0] < at_least:
        n = y.shape[0]
        raise InputError(
            f"labels with at least {at_least} row{'s' * (at_least > 1)}",
            f"{n or 'no'} row{'s' * (n != 1)}",
            "check the file, the column and the filter that selected the rows",
        )


def first(bad: Tensor) -> tuple[int, str]:
    """The first bad row, and how many follow it; bad ``(N,)``."""
    where = bad.nonzero()[:, 0]
    more = len(where) - 1
    return int(where[0]), f" (and {more} more row{'s' * (more > 1)})" if more else ""


def classes(y: Tensor, outputs: int | None, *, training: bool) -> Tensor:
    """Class labels as whole numbers: y ``(N,)`` to ``(N,)``."""
    rows(y, at_least=1)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise InputError(
            "class labels of shape (N,)",
            f"shape {tuple(y.shape)}",
            "call y.argmax(1) on one-hot labels, or use Bernoulli() for several labels an example",
        )
    if y.is_floating_point():
        bad = ~torch.isfinite(y) | (y != y.round())
        if bad.any():
            row, more = first(bad)
            raise InputError(
                "class labels that are whole numbers",
                f"label {y[row].item():g} in row {row}{more}",
                "encode the classes as 0, 1, 2, …, or use Normal() if the target is a measurement",
            )
    whole = y.long()
    top = outputs if outputs is not None else max(int(whole.max()) + 1, 2)
    bad = (whole < 0) | (whole >= top)
    if bad.any():
        row, more = first(bad)
        value = y[row].item()
        raise InputError(
            f"labels in 0..{top - 1}" if outputs is not None else "labels counted from 0",
            f"label {value:g} in row {row}{more}",
            f"give the network {int(whole.max()) + 1} outputs, or fix the row"
            if value >= top
            else "encode the classes as 0, 1, 2, …",
        )
    if training:
        rows(y, at_least=2)
        if bool((whole == whole[0]).all()):
            raise InputError(
                "at least two classes",
                f"{len(whole)} rows, all of class {int(whole[0])}",
                "check that the rows are not sorted and cut off, and that the right column holds the labels",
            )
    return whole


def beliefs(y: Tensor, outputs: int | None, *, training: bool) -> Tensor:
    """Probabilities of classes, one column for each output: y ``(N, C)`` to ``(N, C)``."""
    rows(y, at_least=2 if training else 1)
    y = check_soft(y)
    if outputs is not None and y.shape[1] != outputs:
        hint = "change the last layer, or give the other classes columns of zeros"
        raise InputError(f"a network with {y.shape[1]} outputs, one for each class", f"{outputs}", hint)
    if training and bool((y == 1).all(0).any()):
        raise InputError("at least two classes", f"{len(y)} rows, all of one class for certain", "check the labels")
    return y


def targets(y: Tensor, *, training: bool) -> Tensor:
    """Real targets, one column for each output: y ``(N,)`` to ``(N, D)``."""
    rows(y, at_least=2 if training else 1)
    if y.ndim == 1:
        y = y[:, None]
    if y.ndim != 2 or y.shape[1] == 0:
        raise InputError(
            "targets of shape (N,) or (N, D)", f"shape {tuple(y.shape)}", "flatten each example's target: y.flatten(1)"
        )
    y = y if y.is_floating_point() else y.to(torch.get_default_dtype())
    bad = ~torch.isfinite(y)
    if bad.any():
        row, more = first(bad.any(1))
        column = int(bad[row].nonzero()[0, 0])
        raise InputError(
            "finite targets",
            f"{y[row, column].item()} in row {row}, column {column}{more}",
            "drop or impute the rows with missing targets",
        )
    return y


def one_output_each(y: Tensor, outputs: int) -> Tensor:
    """Refuse targets ``(N, D)`` that are more or fewer than the outputs."""
    if y.shape[1] != outputs:
        spread = "likelihood=nv.HeteroscedasticNormal() where they are means and logarithms of deviations"
        hint = spread if outputs == 2 * y.shape[1] else "change the last layer or the targets"
        raise InputError(f"a network with {y.shape[1]} outputs, one for each target", f"{outputs}", hint)
    return y


def log_positive(name: str, value: float) -> Tensor:
    """The logarithm of a positive number, as a tensor that can be learned."""
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise InputError(
            f"{name} as a positive number", repr(value), f"pass a float, or a tensor of logarithms as log_{name}"
        )
    return torch.tensor(math.log(float(value)), dtype=torch.float64)
