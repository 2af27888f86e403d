"""What a source is before it becomes training data or data to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from novacula.data.meaning.coding import Coding
from novacula.data.meaning.labels import Task

Choice = str | int | Sequence[str] | None
Split = int | str | Path | None  # a published split, or a list of files


@dataclass(frozen=True)
class Like:
    """What new inputs must be like."""

    shape: tuple[int, ...]  # the shape of one input
    task: Task  # what the labels are
    classes: tuple[str, ...] = ()  # the classes' names; empty where they are numbers
    columns: tuple[str, ...] = ()  # names of a table's columns, indicator columns included
    targets: tuple[str, ...] = ()  # names of the target's columns, or of the labels' array
    tokens: bool = False  # whether inputs are whole-number ids
    dtype: torch.dtype | None = None  # the floating dtype wanted
    coding: Coding | None = None  # how a table's columns became inputs
    size: int | None = None  # the size to which images were brought
    scaling: Any = None  # the `Standardiser` that inputs went through, or None
    colours: bool = False  # whether the inputs are images with values in [0, 1]


@dataclass(frozen=True, eq=False)
class Table:
    """Inputs and labels as they were read, not yet checked."""

    x: Any
    y: Any


@dataclass(frozen=True, eq=False)
class Source:
    """What a file or folder holds."""

    train: Table  # the training rows, or all rows
    test: Table | None = None  # the test rows, or None
    classes: tuple[str, ...] | None = None  # names of the classes, where the file has them
    columns: tuple[str, ...] | None = None  # names of the inputs' columns, where it has them
    targets: tuple[str, ...] = ()  # names of the target's columns, where it has them
    said: tuple[str, ...] = ()  # what was decided, in sentences
    rows: np.ndarray | None = None  # numbers of the training rows in the source, where some were left out


@dataclass(frozen=True, eq=False)
class New:
    """Inputs to predict as they were read, not yet checked."""

    x: Any  # the inputs: an array, or columns of the names that the run knows
    y: Any = None  # their labels, or None
    groups: list[Any] | None = None  # the group of each, or None
    columns: tuple[str, ...] = ()  # names of the columns of a table, where the file has them
    notes: tuple[str, ...] = ()  # what a reader must know about which rows and columns these are
    names: tuple[str, ...] = ()  # A name for each row, where the source has them (files of images)


class Raw(Protocol):
    """A source that is open: read once, and understood in two ways."""

    def training(self, target: Choice, split: Split) -> Source:
        """Rows with labels, in the parts that the source has, or that a published split or a list of files makes."""
        ...

    def new(self, like: Like, *, labels: bool, groups: str | None) -> New:
        """Inputs like those of a run, of the test part where there is one, with labels where there are any."""
        ...
