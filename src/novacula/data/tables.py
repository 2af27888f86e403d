"""What readers hand over, and how named columns become inputs and labels."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from novacula.core.errors import InputError

MAX_CATEGORIES = 20
TARGET_NAMES = ("y", "target", "targets", "label", "labels", "class", "output", "outcome", "response")


@dataclass(frozen=True, eq=False)
class Table:
    """Inputs and labels as they were read, not yet checked."""

    x: Any
    y: Any


@dataclass(frozen=True, eq=False)
class Source:
    """What a file or folder holds.

    Args:
        train: The training rows, or all rows.
        test: The test rows, or None.
        classes: Names of the classes, where the file has them.
        columns: Names of the inputs' columns, where it has them.
        targets: Names of the target's columns, where it has them.
    """

    train: Table
    test: Table | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class New:
    """Inputs to predict as they were read, not yet checked.

    Args:
        x: The inputs.
        y: Their labels, or None.
        groups: The group of each, or None.
        columns: Names of the columns of a table, where the file has them.
        note: What a reader must know about which rows these are; empty for nothing.
        names: A name for each row, where the source has them (files of images).
    """

    x: Any
    y: Any = None
    groups: list[Any] | None = None
    columns: tuple[str, ...] = ()
    note: str = ""
    names: tuple[str, ...] = ()


def from_columns(columns: Mapping[str, np.ndarray], target: str | int | Sequence[str] | None, where: str) -> Source:
    """Choose the target, turn text columns into indicator columns, and stack the rest.

    A text column with values a < b < … becomes one 0/1 column for each value, named ``column=a``, ``column=b``, ….

    Returns:
        Inputs (float64), labels and column names.

    Raises:
        InputError: If the target does not exist, nothing is left as input, or a text column has more than 20 values.
    """
    chosen = choose_target(list(columns), target, where)
    blocks, names = [], []
    for name, values in columns.items():
        if values.dtype.kind not in "biufUS":
            got = f"{values.dtype} in column {name!r} of {where}"
            raise InputError("columns of numbers or text", got, "drop the column, or convert it to numbers")
        if name in chosen:
            continue
        if values.dtype.kind in "US":
            values = values.astype(np.str_)
            levels, codes = np.unique(values, return_inverse=True)
            if len(levels) > MAX_CATEGORIES:
                shown = ", ".join(map(repr, levels[:3].tolist()))
                raise InputError(
                    f"numbers, or at most {MAX_CATEGORIES} distinct words in a column",
                    f"{len(levels)} in column {name!r} of {where}: {shown}, …",
                    "drop the column, group its values, or write numbers with a decimal point",
                )
            blocks.append(np.eye(len(levels))[codes])
            names += [f"{name}={level}" for level in levels.tolist()]
        else:
            blocks.append(values.astype(np.float64)[:, None])
            names.append(name)
    if not blocks:
        raise InputError(
            "at least one input column", f"only the target {chosen} in {where}", "check the delimiter and header"
        )
    y = (
        columns[chosen[0]]
        if len(chosen) == 1
        else np.stack([_number_target(columns, c, where) for c in chosen], axis=1)
    )
    return Source(Table(np.concatenate(blocks, axis=1), y), columns=tuple(names), targets=tuple(chosen))


def choose_target(names: list[str], target: str | int | Sequence[str] | None, where: str) -> list[str]:
    """The names of the target columns."""
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    if target is None:
        usual = [n for n in names if n.lower() in TARGET_NAMES]
        if len(usual) == 1:
            return usual
        found = f"{where} with columns {listed}" + (f", of which {usual} are usual names" if usual else "")
        raise InputError("the name of the target column", found, f"target={names[-1]!r}, for instance")
    chosen: list[str] = []
    for item in [target] if isinstance(target, (str, int)) else target:
        if isinstance(item, str) and item in names:
            chosen.append(item)
            continue
        try:
            chosen.append(names[int(item)])
        except ValueError:
            close = difflib.get_close_matches(str(item), names, n=3, cutoff=0.5)
            folded = [n for n in names if n.lower() == str(item).lower()]
            hint = f"target={(folded or close)[0]!r}" if folded or close else f"one of {listed}"
            raise InputError(f"a target among the columns of {where}", repr(item), hint) from None
        except IndexError:
            raise InputError(f"a column index below {len(names)}", f"{item} for {where}", f"one of {listed}") from None
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError("one target column or several different ones", f"{chosen}", f"one of {listed}")
    return chosen


def _number_target(columns: Mapping[str, np.ndarray], name: str, where: str) -> np.ndarray:
    if columns[name].dtype.kind in "US":
        raise InputError(
            "numbers in several target columns", f"text in column {name!r} of {where}", "choose one target"
        )
    return columns[name]
