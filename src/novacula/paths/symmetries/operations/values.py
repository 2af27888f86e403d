"""Tensors by their axes, and what the handlers of operations share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from novacula.paths.symmetries.axes import Axis, freeze, length, reshaped, why_frozen
from novacula.paths.symmetries.equations import Equations, blank, rigid


@dataclass(eq=False)
class Value:
    """A tensor by its axes; a view that nothing has looked at yet keeps what it is a view of."""

    given: list[Axis]
    base: list[Axis] | None = None  # of the view
    shape: tuple[int, ...] = ()  # that the base is viewed as …
    dims: tuple[int | None, ...] = ()  # … and what became of its dimensions since; None of a new one

    @property
    def axes(self) -> list[Axis]:
        """One for each dimension."""
        if self.base is not None:
            seen = reshaped(self.base, self.shape)
            self.given, self.base = [[] if d is None else seen[d] for d in self.dims], None
        return self.given

    @property
    def sizes(self) -> list[int]:
        """Their lengths."""
        if self.base is not None:
            return [1 if d is None else self.shape[d] for d in self.dims]
        return [length(axis) for axis in self.given]


@dataclass(eq=False)
class Place:
    """Where an operation stands: what its handler may ask."""

    equations: Equations
    name: str
    sizes: list[list[int]]  # of its results
    summed: tuple[int, ...] = ()  # dimensions along which the square that it takes is summed
    absorbed: bool = False  # whether the factor that it multiplies by can be absorbed by what follows

    def fresh(self, dim: int, size: int, tag: str = "", **known: Any) -> Axis:
        """An axis that the operation makes."""
        return self.equations.fresh((self.name, tag, dim), size, **known)


Handler = Callable[..., Any]


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Say which operations a handler is for."""

    def enter(handler: Handler) -> Handler:
        handler.handled = names  # type: ignore[attr-defined]
        return handler

    return enter


def _letters(axes: Sequence[Axis] | Value, rank: int) -> list[int]:
    # Labels from the right, as broadcasting has them.
    n = len(axes.axes) if isinstance(axes, Value) else len(axes)
    return list(range(rank - n, rank))


def pointwise(p: Place, kind: str, values: Sequence[Value], **known: Any) -> Value:
    """Of one or more tensors, element by element."""
    rank = max(len(v.axes) for v in values)
    operands = [v.axes for v in values]
    labels = [_letters(v, rank) for v in values]
    if kind in ("sum", "product") or len(values) == 1:
        return Value(p.equations.equation(kind, operands, labels, range(rank), **known))
    # Of several: the same axes, and nothing passes.
    p.equations.equation("product", operands, labels, range(rank))
    if p.equations.fine:
        for v in values:
            for axis in v.axes:
                p.equations.vanish(axis)
    out = p.equations.equation("product", operands, labels, range(rank))
    return Value([blank(axis) for axis in out])


def positions(p: Place, axes: Sequence[Axis], sizes: Sequence[int], reason: str) -> list[Axis]:
    """Axes of space that an operation moves along: they stay, and new ones come."""
    found = list[Axis]()
    for d, axis in enumerate(axes):
        stop(p, axis, reason)
        found += [p.fresh(d, n, "space", frozen=why_frozen(axis, reason)) for n in sizes[d : d + 1]]
    return [*found, *(p.fresh(d, n, "space", frozen=reason) for d, n in enumerate(sizes) if d >= len(found))]


def stop(p: Place, axis: Axis, reason: str) -> None:
    """Let nothing act on an axis."""
    freeze(axis, reason)
    rigid(axis)
    if p.equations.fine:
        p.equations.vanish(axis)


@dataclass(frozen=True)
class Fill:
    """A tensor of one number, whose axes may be any; zeros may be scaled, too."""

    sizes: tuple[int, ...]
    zero: bool

    def at(self, p: Place, i: int) -> Value:
        """The tensor as the i-th operand of an operation: with axes of its own."""
        axes = [p.fresh(d, n, f"fill {i}") for d, n in enumerate(self.sizes)]
        return Value([p.equations.unknown(axis) for axis in axes] if self.zero and p.equations.fine else axes)


FILLS = {"full", "zeros", "ones", "full_like", "zeros_like", "ones_like", "new_zeros", "new_full", "scalar_tensor"}
SHAPES = {"view", "_unsafe_view", "reshape", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "select",
          "slice", "split_with_sizes", "unbind", "clone", "_to_copy", "alias", "repeat", "neg", "mul"}  # fmt: skip
"""What leaves a tensor of one number one."""


def filled(p: Place, name: str, args: Sequence[Any]) -> Fill:
    """What an operation makes that fills a tensor."""
    numbers = [a for a in args if isinstance(a, (int, float))]
    zero = "zeros" in name or ("ones" not in name and bool(numbers) and not numbers[-1])
    return Fill(tuple(p.sizes[0]), zero)


def unknown(p: Place, *operands: Any) -> Any:
    """An operation that is not known: what it touches stays as it is."""
    name = p.name.split("/")[0]
    reason = f"{name}: an operation that is not known"
    for item in operands:
        for v in item if isinstance(item, (list, tuple)) else [item]:
            if isinstance(v, Value):
                for axis in v.axes:
                    stop(p, axis, reason)
    found = tuple(
        Value([p.fresh(d, n, f"unknown {i}", frozen=reason) for d, n in enumerate(own)])
        for i, own in enumerate(p.sizes)
    )
    return found if len(p.sizes) > 1 else found[0] if found else None


def constant(p: Place, tensor: Tensor, reason: str) -> Value:
    """A tensor that is no weight."""
    return Value([p.fresh(d, n, frozen=reason) for d, n in enumerate(tensor.shape)])
