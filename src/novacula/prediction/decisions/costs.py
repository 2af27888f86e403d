"""Costs of actions: what each costs where the truth is this class or that, from arrays or from a table.

,treat,wait,refer
healthy,5,0,1
ill,0,100,3
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import InputError


@dataclass(frozen=True, eq=False, init=False)
class Costs:
    """The loss of every action under every truth.

    Args:
        matrix: ``L_ca``, shape ``(C, A)``: rows are true classes, columns actions. Negative costs are gains.
        classes: The classes' names; by default their numbers.
        actions: The actions' names; by default their numbers.

    Raises:
        InputError: If the matrix has another number of axes or entries that are not finite, or names do not fit.

    Example:
        >>> Costs([[0, 1, 0.2], [5, 0, 0.2]], actions=("wait", "treat", "refer")).matrix.shape
        torch.Size([2, 3])
    """

    matrix: Tensor
    classes: tuple[str, ...]
    actions: tuple[str, ...]

    def __init__(self, matrix: Any, classes: Sequence[str] | None = None, actions: Sequence[str] | None = None) -> None:
        try:
            values = torch.as_tensor(matrix if isinstance(matrix, Tensor) else np.asarray(matrix, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise InputError("costs as numbers of shape (C, A)", f"{error}", "pass rows of equal length") from error
        if values.ndim != 2 or 0 in values.shape or values.is_complex():
            raise InputError(
                "costs of shape (C, A), a row for each class and a column for each action",
                f"shape {tuple(values.shape)}",
                "pass [[0, 1], [5, 0]] for two classes and two actions",
            )
        values = values.detach().double()
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            raise InputError(
                "finite costs", f"{values[row, column].item()} in row {row}, column {column}", "use a large number"
            )
        object.__setattr__(self, "matrix", values)
        object.__setattr__(self, "classes", _names(classes, values.shape[0], "class", "row"))
        object.__setattr__(self, "actions", _names(actions, values.shape[1], "action", "column"))

    def reordered(self, classes: Sequence[str]) -> Self:
        """The same costs with the rows in another order.

        Args:
            classes: The classes' names in the order of the model's outputs.

        Returns:
            New costs.

        Raises:
            InputError: If the names are not those of the rows.
        """
        wanted = [str(c) for c in classes]
        missing = [c for c in wanted if c not in self.classes]
        strange = [c for c in self.classes if c not in wanted]
        if missing or strange:
            parts = [f"no row for {missing}"] * bool(missing) + [f"rows for {strange}"] * bool(strange)
            raise InputError(f"a row of costs for each of the classes {wanted}", " and ".join(parts), "rename the rows")
        order = [self.classes.index(c) for c in wanted]
        return type(self)(self.matrix[order], wanted, self.actions)


def load_costs(path: str | Path, classes: Sequence[str] | int) -> Costs:
    """Read costs from a table: a header with the actions, then for each class its name and its costs.

    Args:
        path: The file, UTF-8, separated by commas, semicolons or tabs. The header's first entry is ignored.
        classes: The classes' names in the order of the model's outputs, or how many there are, for names 0, 1, …. The
            rows may be in any order.

    Returns:
        The costs, rows in the order of ``classes``.

    Raises:
        InputError: If the file is no such table, a cost is no finite number, or a class is missing, unknown or there
            twice; the message names line and column.
    """
    names = [str(i) for i in range(classes)] if isinstance(classes, int) else list(classes)
    header, rows = _read(Path(path))
    actions, found, matrix = header[1:], [], []
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(
                f"{len(header)} entries in every line, as in the header",
                f"{len(cells)} in line {line} of {path}",
                "give every action a cost",
            )
        found.append(cells[0])
        matrix.append(
            [_cost(cell, f"line {line}, column {a!r} of {path}") for a, cell in zip(actions, cells[1:], strict=True)]
        )
    try:
        return Costs(matrix, found, actions).reordered(names)
    except InputError as error:
        raise InputError(error.expected, f"{error.got} in {path}", error.hint) from None


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    if path.exists() and not path.is_file():
        raise InputError("a table of costs", f"{path}, which is no regular file", "write it into a file first")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError("a file of costs", f"{path}, which does not exist", "check the path") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError("costs as UTF-8 text", f"{path}: {error}", "save the table as CSV in UTF-8") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(text.splitlines(), delimiter=max(",;\t", key=first.count))
    lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    if len(lines) < 2 or len(lines[0][1]) < 2:
        raise InputError(
            "a header with the actions, and a row of costs for each class",
            f"{len(lines)} lines of {len(lines[0][1]) if lines else 0} columns in {path}",
            "begin with the line  class,action 1,action 2",
        )
    return lines[0][1], lines[1:]


def _cost(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError("a finite number as a cost", f"{cell!r} in {where}", "fill it in; rows are classes")
    return value


def _names(names: Sequence[str] | None, n: int, what: str, where: str) -> tuple[str, ...]:
    found = tuple(str(i) for i in range(n)) if names is None else tuple(str(name) for name in names)
    if len(found) != n or len(set(found)) < n or "" in found:
        raise InputError(
            f"{n} different names of {what}{'e' * (what == 'class')}s, one for each {where}",
            f"{list(found)}",
            f"name each {where} once",
        )
    return found
