"""Labels as tensors, and the task that they pose."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from novacula.core.checks.numbers import shown
from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.arrays import check_finite, check_rounding, check_rows, frame_columns, place, to_tensor
from novacula.data.meaning.soft import check_soft, is_soft, look_soft

Task: TypeAlias = Literal["classification", "multilabel", "regression"]
FEW_CLASSES, MANY_CLASSES = 20, 100
_COUNTED, _RARE = 5, 0.15
"""Distinct whole numbers, and the share of the larger half of them among rows, of what may be counts."""


class Labels(NamedTuple):
    """Labels, the task they pose, and the classes' names (empty where they have none)."""

    y: Tensor
    task: Task
    classes: tuple[str, ...]


def as_labels(
    y: Any,
    *,
    x: Tensor,
    task: Task | None = None,
    classes: Sequence[str] | None = None,
    least: int = 2,
    numbered: bool = False,
) -> Labels:
    """Labels as a tensor, with the task they pose.

    The guess: strings, booleans and whole numbers ``(N,)`` or ``(N, 1)`` are classes, as is all that comes with class
    names; whole numbers 0 and 1 in several columns are multilabel; floats are measurements, and so regression, unless
    they are all 0.0 or 1.0, of shape ``(N,)``, or have several columns of no negative numbers and in each row a sum of
    1: these are probabilities of classes. Whole numbers that belong to a table ``(N, D)`` are classes only where
    they are few and repeated: numbered from 0 or 1 with hardly a gap, at most 20, or at most 100 with twice as many
    rows; otherwise at most 20 with five times as many rows.

    Classes that are not numbered from 0 are renumbered in their order, and their numbers are kept as names, so that no
    network has outputs for classes that do not exist. With names, numbers that are names and no indices count as such.
    Labels that are ``numbered`` as those of other data are stay as they are, and are names where they can be.

    Returns:
        Labels: int64 ``(N,)`` for classification, or floats ``(N, C)`` where these are soft; otherwise floats
        ``(N, D)``.

    Raises:
        InputError: If labels are missing, not finite, of another shape, or do not fit the task or the classes.
    """
    if task is not None and task not in get_args(Task):
        raise InputError(f"a task among {', '.join(get_args(Task))}", repr(task), "leave it out to have it guessed")
    names = as_names(classes, "classes") if classes is not None else ()
    if len(set(names)) < len(names):
        raise InputError("class names that differ", f"{list(names)}", "remove the duplicates")
    strings = _strings(y)
    if strings is not None:
        if task not in {None, "classification"}:
            raise InputError(f"numbers as labels for {task}", f"the string {strings[0]!r} in row 0", "leave out task=")
        names = names or tuple(sorted(set(strings)))
        return Labels(_encode(strings, names, least).to(x.device), "classification", names)
    t, columns = to_tensor(y, "labels", least=least), frame_columns(y)
    if t.ndim > 2 or t.numel() == 0:
        hint = "flatten measurements; classes at each place (masks) are not covered"
        raise InputError("labels of shape (N,) or (N, D)", f"shape {tuple(t.shape)}", hint)
    check_finite(t, "labels", columns)
    task = task or _guess(t, x, names)
    if task == "classification" and is_soft(t):
        if names and len(names) != t.shape[1]:
            raise InputError(f"{t.shape[1]} class names, one a column", f"{len(names)} names", "check classes=")
        soft = check_soft(t).to(x.dtype if x.is_floating_point() else torch.get_default_dtype())
        return Labels(soft.contiguous().to(x.device), task, names)
    if task == "classification":
        whole = _whole(t)
        if not numbered or names:
            whole, names = _numbered(whole, names, by_name=numbered)
        return Labels(whole.to(x.device), task, names)
    if task == "multilabel":
        _check_binary(t, names)
    out = t.to(x.dtype if x.is_floating_point() else torch.get_default_dtype())
    check_rounding(t, out, "labels", columns)
    return Labels(out.reshape(len(t), -1).contiguous().to(x.device), task, names if task == "multilabel" else ())


def as_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Names as strings."""
    if not isinstance(names, Iterable):
        raise InputError(f"{what} as a list of names", shown(names), f"{what}=['a', 'b']")
    return tuple(map(str, names))


# The labels as strings, if they are strings; a missing one among them is refused.
def _strings(y: Any) -> list[str] | None:
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(y, pandas.DataFrame) and y.shape[1] == 1:
        y = y.iloc[:, 0]
    if pandas is not None and isinstance(y, pandas.Series):
        y = y.astype(object).to_numpy()
    if isinstance(y, np.ndarray):
        if y.dtype.kind not in "OUS" or y.size != len(y):
            return None
        y = [v.decode() if isinstance(v, bytes) else v for v in y.ravel().tolist()]
    if not isinstance(y, (list, tuple)) or not any(isinstance(v, str) for v in y):
        return None
    for row, v in enumerate(y):
        if not isinstance(v, str):
            raise InputError(
                "strings as labels, as in other rows", f"{v!r} in row {row}", "drop or fill rows without a label"
            )
    return list(y)


def _encode(strings: list[str], names: tuple[str, ...], least: int) -> Tensor:
    check_rows(len(strings), "labels", least)
    index = {name: i for i, name in enumerate(names)}
    for row, v in enumerate(strings):
        if v not in index:
            raise InputError(f"labels among {list(names)}", f"{v!r} in row {row}", "add it to classes=, or fix the row")
    return torch.tensor([index[v] for v in strings])


def _guess(t: Tensor, x: Tensor, names: tuple[str, ...]) -> Task:
    if names and (t.ndim == 1 or t.shape[1] == 1):
        return "classification"
    if t.is_floating_point():
        return _guess_of_floats(t)
    if t.ndim == 2 and t.shape[1] > 1:
        if not bool(((t == 0) | (t == 1)).all()):
            return "regression"
        if bool((t.sum(1) == 1).all()):
            warnings.warn(
                "each row of the labels has exactly one 1: taken as several yes/no labels; "
                "if they are one-hot classes, pass y.argmax(1)",
                NovaculaWarning,
                stacklevel=4,
            )
        return "multilabel"
    table = x.ndim == 2 and x.is_floating_point()
    if not table:
        return "classification"
    values, often = torch.unique(t, return_counts=True)
    if not _few_and_repeated(values, len(t)):
        return "regression"
    if len(values) >= _COUNTED and int(often[len(values) // 2 :].sum()) <= _RARE * len(t):
        warnings.warn(
            f"the labels are whole numbers from {int(values[0])} to {int(values[-1])}, large ones rare, as counts are: "
            "taken as classes; for counts and measurements pass task='regression' (--task regression)",
            NovaculaWarning,
            stacklevel=4,
        )
    return "classification"


def _few_and_repeated(values: Tensor, n: int) -> bool:
    # Whether n whole numbers with these distinct values are classes rather than counts, ages or prices.
    k, first, last = len(values), int(values[0]), int(values[-1])
    if first in {0, 1} and last - first + 1 - k <= k / 3:  # hardly a gap
        return k <= FEW_CLASSES or (k <= MANY_CLASSES and n >= 2 * k)
    return (k == 2 and n >= 4) or (k <= FEW_CLASSES and n >= 5 * k)


def _guess_of_floats(t: Tensor) -> Task:
    # A column of 0 and 1 that once had missing values comes as floats; a column vector of floats is meant as it is.
    if look_soft(t):
        warnings.warn(
            "the labels are not negative and each row has a sum of 1: taken as probabilities of classes; for "
            "measurements pass task='regression' (--task regression)",
            NovaculaWarning,
            stacklevel=5,
        )
        return "classification"
    if t.ndim == 1 and len(t) >= 4 and torch.unique(t).tolist() == [0.0, 1.0]:
        warnings.warn(
            "the labels are 0.0 and 1.0: taken as classes; for measurements pass task='regression' (--task regression)",
            NovaculaWarning,
            stacklevel=5,
        )
        return "classification"
    return "regression"


def _whole(t: Tensor) -> Tensor:
    if t.ndim == 2 and t.shape[1] > 1:
        raise InputError("class labels of shape (N,)", f"shape {tuple(t.shape)}", "pass y.argmax(1) for one-hot labels")
    t = t.reshape(-1)
    bad = (t != t.round()).nonzero() if t.is_floating_point() else []
    if len(bad):
        row = int(bad[0])
        raise InputError("whole numbers as class labels", f"{t[row].item():g} in row {row}", "use task='regression'")
    return t.long().contiguous()


def _numbered(t: Tensor, names: tuple[str, ...], *, by_name: bool) -> tuple[Tensor, tuple[str, ...]]:
    # Classes as 0, 1, …, and their names, where they have some or were renumbered.
    values, index = torch.unique(t, return_inverse=True)
    found = [str(v) for v in values.tolist()]
    if names:
        known = {name: i for i, name in enumerate(names)}
        if set(found) <= set(names) and [known[v] for v in found] != values.tolist():
            if by_name or int(values[0]) < 0 or int(values[-1]) >= len(names):
                return torch.tensor([known[v] for v in found])[index], names
            warnings.warn(
                f"the labels {', '.join(found[:5])} are taken for places among the classes {', '.join(names[:5])}, and "
                "not for their names: pass them as strings if they are names",
                NovaculaWarning,
                stacklevel=4,
            )
        bad = ((t < 0) | (t >= len(names))).nonzero()
        if len(bad):
            row = int(bad[0])
            wanted = f"labels in 0..{len(names) - 1}"
            raise InputError(wanted, f"label {int(t[row])} in row {row}", "fix the row or classes=")
        return t, names
    k, first, last = len(values), int(values[0]), int(values[-1])
    if first == 0 and last == k - 1:
        return t, ()
    shown = ", ".join(found[:5]) + (", …" if k > 5 else "")
    if first == 0 and 2 * k > last:
        absent = sorted(set(range(last + 1)) - set(values.tolist()))
        if len(absent) <= k / 3:  # a small part of the data may well lack a class
            return t, ()
        some = ", ".join(map(str, absent[:5])) + (", …" if len(absent) > 5 else "")
        warnings.warn(
            f"there are no examples of the classes {some} among 0..{last}: the network still has an output for each; "
            "number the classes from 0 without gaps if they do not exist",
            NovaculaWarning,
            stacklevel=4,
        )
        return t, ()
    warnings.warn(
        f"the labels {shown} are classes, numbered 0..{k - 1} in their order, with their numbers as names; "
        "data with only some of them must be given all: classes=train.classes",
        NovaculaWarning,
        stacklevel=4,
    )
    return index.contiguous(), tuple(found)


def _check_binary(t: Tensor, names: tuple[str, ...]) -> None:
    bad = ((t != 0) & (t != 1)).nonzero()
    if len(bad):
        value, where = t[tuple(bad[0])].item(), place(bad[0].tolist())
        raise InputError("labels of 0 and 1 for multilabel", f"{value:g} in {where}", "check the labels")
    width = 1 if t.ndim == 1 else t.shape[1]
    if names and len(names) != width:
        raise InputError(f"{width} class names, one a column", f"{len(names)} names", "check classes=")
