"""What a source is before it becomes training data or data to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from novacula.data.labels import Task

Choice = str | int | Sequence[str] | None


@dataclass(frozen=True)
class Like:
    """What new inputs must be like.

    Args:
        shape: The shape of one input.
        task: What the labels are.
        classes: The classes' names; empty where they are numbers.
        columns: Names of a table's columns, indicator columns included.
        targets: Names of the target's columns, or of the labels' array.
        tokens: Whether inputs are whole-number ids.
        dtype: The floating dtype wanted.
    """

    shape: tuple[int, ...]
    task: Task
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    tokens: bool = False
    dtype: torch.dtype | None = None


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


class Raw(Protocol):
    """A source that is open: read once, and understood in two ways."""

    def training(self, target: Choice, split: int | None) -> Source:
        """Rows with labels, in the parts that the source has."""
        ...

    def new(self, like: Like, *, labels: bool, groups: str | None) -> New:
        """Inputs like those of a run, of the test part where there is one, with labels where there are any."""
        ...
