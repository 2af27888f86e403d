"""What conformal prediction gives: sets of labels, and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.likelihoods import checks


@dataclass(frozen=True, eq=False)
class Sets:
    """Sets of labels for N inputs.

    Args:
        member: Whether label c is in the set, shape ``(N, C)``; for multilabel ``(N, C, 2)``: whether 0, and whether 1,
            is in the set of each of the C labels.
        level: The probability with which a set holds the truth, at the least, on average over inputs; for multilabel
            each label's by itself.
    """

    member: Tensor
    level: float

    __repr__ = brief

    @property
    def size(self) -> Tensor:
        """How many labels are in each set, shape ``(N,)``, or ``(N, C)`` for multilabel. A set may be empty."""
        return self.member.sum(-1)

    def covers(self, y: Tensor) -> Tensor:
        """Whether each set holds the truth.

        Args:
            y: Classes, shape ``(N,)``; for multilabel labels of 0 and 1, ``(N, C)``.

        Returns:
            Shape ``(N,)``, or ``(N, C)``.

        Raises:
            InputError: If the labels do not fit.
        """
        *shape, classes = self.member.shape
        y = torch.as_tensor(y)
        whole = checks.classes(y.flatten() if len(shape) > 1 else y, classes, training=False).to(self.member.device)
        if whole.numel() != self.member[..., 0].numel():
            raise InputError(f"labels of shape {tuple(shape)}", f"{tuple(y.shape)}", "pass the labels of the same rows")
        return self.member.gather(-1, whole.reshape(*shape, 1))[..., 0]

    def coverage(self, y: Tensor) -> float:
        """The share of sets that hold the truth.

        Args:
            y: The labels, as `covers` takes them.

        Returns:
            A number in [0, 1].
        """
        return float(self.covers(y).double().mean())

    def to_list(self, names: Sequence[str] | None = None) -> list[list[int | str]]:
        """The sets as lists of labels.

        Args:
            names: The classes' names; by default their numbers.

        Returns:
            A list for each of the N inputs (for multilabel, N · C of them, input by input).
        """
        found: list[list[int]] = [row.nonzero()[:, 0].tolist() for row in self.member.flatten(0, -2)]
        return [list(row) if names is None else [names[c] for c in row] for row in found]


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals for N inputs and D targets.

    Args:
        low: Lower ends, shape ``(N, D)``, in the units of the training targets.
        high: Upper ends. Where they are below the lower ones, the interval is empty.
        level: The probability with which an interval holds the truth, at the least, on average over inputs; each
            target's by itself.
    """

    low: Tensor
    high: Tensor
    level: float

    __repr__ = brief

    @property
    def width(self) -> Tensor:
        """Shape ``(N, D)``; 0 for empty ones."""
        return (self.high - self.low).clamp(min=0)

    def covers(self, y: Tensor) -> Tensor:
        """Whether each interval holds the truth, its ends included.

        Args:
            y: Targets, shape ``(N,)`` or ``(N, D)``.

        Returns:
            Shape ``(N, D)``.

        Raises:
            InputError: If the targets do not fit.
        """
        y = checks.targets(torch.as_tensor(y), training=False).to(self.low.device)
        if y.shape != self.low.shape:
            raise InputError(
                f"targets of shape {tuple(self.low.shape)}", f"{tuple(y.shape)}", "pass the targets of the same rows"
            )
        return (y >= self.low) & (y <= self.high)

    def coverage(self, y: Tensor) -> float:
        """The share of targets inside their intervals.

        Args:
            y: The targets, as `covers` takes them.

        Returns:
            A number in [0, 1].
        """
        return float(self.covers(y).double().mean())
