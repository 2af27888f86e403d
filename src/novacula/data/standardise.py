"""Tables in standard units, and the way back.

Priors over weights presume inputs and targets of about unit size. Means and deviations are taken from the training rows
alone. A density in standardised targets is not one in the original units; with y' = (y − m)/s, column by column,

    log p(y) = log p(y') − Σ_d log s_d.

Assumes nothing about the distribution of the columns. Deviations divide by N (not N − 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.data.lazy import LazyRows


class Rows(Protocol):
    """What is measured and transformed; `Data` fulfils it and says what each part is."""

    @property
    def x(self) -> Tensor:
        """Inputs, ``(N, …)``."""
        ...

    @property
    def y(self) -> Tensor:
        """Labels."""
        ...

    @property
    def task(self) -> str:
        """What the labels are."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of ``x``."""
        ...

    @property
    def scaling(self) -> Standardiser | None:
        """What the values went through."""
        ...

    def with_values(self: R, x: Tensor, y: Tensor, *, scaling: Standardiser | None = None) -> R:
        """The same rows with other values."""
        ...


R = TypeVar("R", bound=Rows)


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Means and standard deviations of a table's columns.

    Columns that are constant in the training rows keep a deviation of 1: they are centred, not divided by zero.

    Args:
        x_mean: Shape ``(D,)``; float64.
        x_sd: Shape ``(D,)``; float64, positive.
        y_mean: Shape ``(K,)``; zeros where the targets are not measurements.
        y_sd: Shape ``(K,)``; ones where the targets are not measurements.
        constant: What is constant in the training rows, by name.

    Example:
        >>> from novacula.data.data import Data
        >>> data = Data([[0.0, 5.0], [2.0, 5.0]], [1.0, 5.0])
        >>> scale = Standardiser.fit(data)
        >>> scale.apply(data).x, scale.constant, float(scale.log_y_scale)
        (tensor([[-1.,  0.],
                [ 1.,  0.]]), ('x column 1',), 0.6931471805599453)
    """

    x_mean: Tensor
    x_sd: Tensor
    y_mean: Tensor
    y_sd: Tensor
    constant: tuple[str, ...] = ()

    __repr__ = brief

    @classmethod
    def fit(cls, data: Rows) -> Standardiser:
        """Measure the columns.

        Inputs are measured where they are a table ``(N, D)`` of floats; images, signals and tokens are left as they
        are. Targets are measured where the task is regression.

        Args:
            data: The training rows.

        Returns:
            The transformation.

        Raises:
            InputError: If the data have been standardised already.
        """
        _check_rows(data)
        if data.scaling is not None:
            raise InputError("data in their original units", "standardised data", "fit on the data before apply()")
        x_mean, x_sd, x_constant = _measure(data.x if data.x.ndim == 2 and data.x.is_floating_point() else None)
        # Many classes are guessed to be measurements until a likelihood settles it: one number a row, and no column.
        y_mean, y_sd, y_constant = _measure(data.y if data.task == "regression" and data.y.ndim == 2 else None)
        x_names = [repr(data.columns[i]) if data.columns else str(i) for i in x_constant]
        constant = [f"x column {name}" for name in x_names] + [f"y column {i}" for i in y_constant]
        return cls(x_mean, x_sd, y_mean, y_sd, tuple(constant))

    def apply(self, data: R) -> R:
        """Bring data into standard units.

        Args:
            data: Training or test data in original units.

        Returns:
            New data that remember this transformation as ``.scaling``.

        Raises:
            InputError: If the data are standardised already, or have another number of columns.
        """
        _check_rows(data)
        if data.scaling is not None:
            raise InputError("data in their original units", "standardised data", "apply the standardiser once")
        for what, t, mean in (("x", data.x, self.x_mean), ("y", data.y, self.y_mean)):
            if mean.numel() and (t.ndim != 2 or t.shape[1] != mean.numel()):
                raise InputError(
                    f"{mean.numel()} columns of {what}", f"shape {tuple(t.shape)}", "use data like those of fit()"
                )
        x, y = _shift(data.x, self.x_mean, self.x_sd), _shift(data.y, self.y_mean, self.y_sd)
        return data.with_values(x, y, scaling=self)

    def inputs(self, x: Tensor) -> Tensor:
        """Inputs in standard units; where they are no table, as they are.

        Args:
            x: Inputs in original units, shape ``(N, …)``.

        Returns:
            Same shape and dtype.
        """
        return _shift(x, self.x_mean, self.x_sd)

    def targets(self, y: Tensor) -> Tensor:
        """Targets in standard units; where they are no measurements, as they are.

        Args:
            y: Targets in original units, shape ``(N, K)``.

        Returns:
            Same shape and dtype.
        """
        return _shift(y, self.y_mean, self.y_sd)

    def restore_x(self, x: Tensor) -> Tensor:
        """Inputs in original units.

        Args:
            x: Standardised, shape ``(N, D)``; where they are no table, as they are.

        Returns:
            Same shape and dtype.
        """
        if not self.x_sd.numel():
            return x
        return (x.double() * self.x_sd.to(x.device) + self.x_mean.to(x.device)).to(x.dtype)

    @property
    def log_y_scale(self) -> float:
        """``Σ_d log s_d``: add it to a negative log-likelihood per example to have it in original units. In nats."""
        return float(self.y_sd.log().sum())

    def restore_y(self, y: Tensor) -> Tensor:
        """Targets or predicted means in original units.

        Args:
            y: Standardised, shape ``(…, K)``.

        Returns:
            ``y · s + m``, same shape and dtype.
        """
        if not self.y_sd.numel():
            return y
        return (y.double() * self.y_sd.to(y.device) + self.y_mean.to(y.device)).to(y.dtype)

    def restore_y_scale(self, sd: Tensor) -> Tensor:
        """Errors or standard deviations of targets in original units.

        Args:
            sd: Standardised, shape ``(…, K)``.

        Returns:
            ``sd · s``, same shape and dtype.
        """
        return (sd.double() * self.y_sd.to(sd.device)).to(sd.dtype) if self.y_sd.numel() else sd


def _check_rows(data: object) -> None:
    if getattr(data, "with_values", None) is None:
        raise InputError("nv.Data", f"a {type(data).__name__}", "nv.Data(x, y); inputs(x) takes a tensor alone")


# Column means and deviations in float64, and which columns are constant; empty tensors for no table.
def _measure(t: Tensor | None) -> tuple[Tensor, Tensor, list[int]]:
    if t is None:
        return torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64), []
    if isinstance(t, LazyRows):
        return _measured(t)
    wide = t.detach().cpu().double()
    constant = wide.amax(0) == wide.amin(0)
    mean = torch.where(constant, wide[0], wide.mean(0))
    sd = torch.where(constant, torch.ones_like(mean), wide.std(0, correction=0))
    return mean, sd, constant.nonzero()[:, 0].tolist()


# The same of rows that are read as needed, in two passes.
def _measured(t: LazyRows) -> tuple[Tensor, Tensor, list[int]]:
    low, high, total = t[0].double(), t[0].double(), torch.zeros(t.shape[1], dtype=torch.float64)
    for part in t.parts():
        wide = part.double()
        low, high, total = torch.minimum(low, wide.amin(0)), torch.maximum(high, wide.amax(0)), total + wide.sum(0)
    constant = low == high
    mean = torch.where(constant, low, total / len(t))
    squares = sum((part.double() - mean).square().sum(0) for part in t.parts())
    sd = torch.where(constant, torch.ones_like(mean), (torch.as_tensor(squares) / len(t)).sqrt())
    return mean, sd, constant.nonzero()[:, 0].tolist()


@dataclass(frozen=True, eq=False)
class _Shift:
    mean: Tensor
    sd: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return _shift(x, self.mean, self.sd)


def _shift(t: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    if isinstance(t, LazyRows):
        return t.mapped(_Shift(mean, sd)) if mean.numel() else t
    return ((t.double() - mean.to(t.device)) / sd.to(t.device)).to(t.dtype) if mean.numel() else t
