"""Labels as tensors, and the task that they pose."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.arrays import check_finite, check_rounding, check_rows, frame_columns, place, to_tensor

Task: TypeAlias = Literal["classification", "multilabel", "regression"]
MANY_CLASSES = 100


class Labels(NamedTuple):
    """Labels, the task they pose, and the classes' names (empty where they have none)."""

    y: Tensor
    task: Task
    classes: tuple[str, ...]


def as_labels(
    y: Any, *, x: Tensor, task: Task | None = None, classes: Sequence[str] | None = None, least: int = 2
) -> Labels:
    """Labels as a tensor, with the task they pose.

    The guess: strings, booleans and whole numbers ``(N,)`` or ``(N, 1)`` are classes, as is all that comes with class
    names; whole numbers 0 and 1 in several columns are multilabel; everything else is regression. Whole numbers with
    more than 100 distinct values that belong to a table ``(N, D)`` are measurements, and so regression.

    Returns:
        Labels: int64 ``(N,)`` for classification, otherwise floats ``(N, D)``.

    Raises:
        InputError: If labels are missing, not finite, of another shape, or do not fit the task or the classes.
    """
    if task is not None and task not in get_args(Task):
        raise InputError(f"a task among {', '.join(get_args(Task))}", repr(task), "leave it out to have it guessed")
    names = tuple(map(str, classes)) if classes is not None else ()
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
        raise InputError("labels of shape (N,) or (N, D)", f"shape {tuple(t.shape)}", "flatten each example's label")
    check_finite(t, "labels", columns)
    task = task or _guess(t, x, names)
    if task == "classification":
        return Labels(_whole(t, names).to(x.device), task, names)
    if task == "multilabel":
        _check_binary(t, names)
    out = t.to(x.dtype if x.is_floating_point() else torch.get_default_dtype())
    check_rounding(t, out, "labels", columns)
    return Labels(out.reshape(len(t), -1).contiguous().to(x.device), task, names if task == "multilabel" else ())


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
        return "regression"
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
    return "regression" if table and len(torch.unique(t)) > MANY_CLASSES else "classification"


def _whole(t: Tensor, names: tuple[str, ...]) -> Tensor:
    if t.ndim == 2 and t.shape[1] > 1:
        raise InputError("class labels of shape (N,)", f"shape {tuple(t.shape)}", "pass y.argmax(1) for one-hot labels")
    t = t.reshape(-1)
    bad = (t != t.round()).nonzero() if t.is_floating_point() else []
    if len(bad):
        row = int(bad[0])
        raise InputError("whole numbers as class labels", f"{t[row].item():g} in row {row}", "use task='regression'")
    t = t.long()
    bad = ((t < 0) | (t >= len(names))).nonzero() if names else []
    if len(bad):
        row = int(bad[0])
        raise InputError(
            f"labels in 0..{len(names) - 1}", f"label {int(t[row])} in row {row}", "fix the row or classes="
        )
    return t.contiguous()


def _check_binary(t: Tensor, names: tuple[str, ...]) -> None:
    bad = ((t != 0) & (t != 1)).nonzero()
    if len(bad):
        value, where = t[tuple(bad[0])].item(), place(bad[0].tolist())
        raise InputError("labels of 0 and 1 for multilabel", f"{value:g} in {where}", "check the labels")
    width = 1 if t.ndim == 1 else t.shape[1]
    if names and len(names) != width:
        raise InputError(f"{width} class names, one a column", f"{len(names)} names", "check classes=")
