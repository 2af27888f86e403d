"""Inputs of several parts as one tensor, and apart again where the network is called.

Token ids with a mask, an image beside measurements: a network takes them as ``f(input_ids=…, attention_mask=…)`` or
``f(a, b)``. Everything else (batches, folds, fingerprints, files, derivatives over examples) wants one tensor whose
first axis is the examples. So the parts of an example lie side by side in one row of numbers, ``(N, 1, D)``, and a
layout says which are whose. Whole numbers are exact in float32 up to 2²⁴ and in float64 up to 2⁵³; none beyond is
taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.core.errors import InputError

Values = Mapping[str, Tensor] | Sequence[Tensor]


@dataclass(frozen=True)
class Part:
    """One of several inputs."""

    name: str  # what the network calls it; its number, where the network takes parts in order
    shape: tuple[int, ...]  # the shape of one example's
    # the dtype of whole numbers or booleans; None for floats, which have that of the whole input
    whole: torch.dtype | None = None

    @property
    def size(self) -> int:
        """Numbers of one example."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Parts:
    """Where in a row of numbers the parts of an example are.

    Example:
        >>> parts = Parts.of({"ids": torch.tensor([[3, 1]]), "size": torch.tensor([[0.5]])})
        >>> x = parts.join({"ids": torch.tensor([[3, 1]]), "size": torch.tensor([[0.5]])})
        >>> x, parts.split(x)["ids"]
        (tensor([[[3.0000, 1.0000, 0.5000]]]), tensor([[3, 1]]))
    """

    parts: tuple[Part, ...]  # the parts, in the order of the row
    named: bool = True  # whether the network takes them by name

    @classmethod
    def of(cls, values: Values) -> Parts:
        """The layout of tensors ``(N, …)``, by name or in order."""
        found = tuple(
            Part(name, tuple(v.shape[1:]), None if v.is_floating_point() else v.dtype)
            for name, v in _items(values).items()
        )
        return cls(found, isinstance(values, Mapping))

    @property
    def names(self) -> tuple[str, ...]:
        """The parts' names."""
        return tuple(p.name for p in self.parts)

    def join(self, values: Values) -> Tensor:
        """The parts side by side: tensors ``(N, …)`` to ``(N, 1, D)``, int64 where all are whole, else floats."""
        found = self._checked(values)
        floats = [v.dtype for v in found if v.is_floating_point()]
        dtype = torch.int64
        if floats:
            dtype = torch.float64 if torch.float64 in floats else floats[0]
        for part, v in zip(self.parts, found, strict=True):
            if not v.is_floating_point() and floats and v.numel():
                most = int(v.long().abs().max())
                if most > 2 / torch.finfo(dtype).eps:
                    got, hint = f"{most} in {part.name}", "pass the parts with fractions as float64"
                    raise InputError(f"whole numbers that {dtype} holds beside other parts", got, hint)
        return torch.cat([v.to(dtype).reshape(len(v), -1) for v in found], 1).unsqueeze(1)

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """The parts of rows of numbers; x ``(…, 1, D)`` to ``(…, *shape)`` each."""
        found: dict[str, Tensor] = {}
        for part, piece in zip(self.parts, x.squeeze(-2).split([p.size for p in self.parts], -1), strict=True):
            shaped = piece.reshape(*piece.shape[:-1], *part.shape)
            found[part.name] = shaped if part.whole is None else shaped.to(part.whole)
        return found

    def arguments(self, x: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """What the network is called with, in order and by name; x ``(N, 1, D)``."""
        found = self.split(x)
        return ((), found) if self.named else (tuple(found.values()), {})

    def replaced(self, x: Tensor, name: str, value: Tensor) -> Tensor:
        """Rows of numbers with another value ``(N, *shape)`` of one part; x ``(N, 1, D)``."""
        found = {**{p.name: v for p, v in zip(self.parts, self._pieces(x), strict=True)}}
        found[name] = value.to(x.dtype).reshape(*x.shape[:-2], -1)
        return torch.cat(list(found.values()), -1).unsqueeze(-2)

    def example(self, n: int, like: Tensor, rng: torch.Generator) -> Tensor:
        """Inputs that any network takes, to know it by: ones, and random numbers where there may be fractions."""
        rows = [
            torch.rand(n, p.size, generator=rng, dtype=like.dtype) if p.whole is None else torch.ones(n, p.size)
            for p in self.parts
        ]
        return torch.cat([r.to(like.dtype) for r in rows], 1).unsqueeze(1)

    def record(self) -> dict[str, Any]:
        """As plain values."""
        parts = [
            {"name": p.name, "shape": list(p.shape), "whole": None if p.whole is None else str(p.whole)[6:]}
            for p in self.parts
        ]
        return {"parts": parts, "named": self.named}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Parts:
        """From plain values."""
        found = tuple(
            Part(str(p["name"]), tuple(p["shape"]), None if p["whole"] is None else getattr(torch, p["whole"]))
            for p in record["parts"]
        )
        return cls(found, bool(record["named"]))

    def __str__(self) -> str:
        kinds = {p.name: f"{p.shape}" for p in self.parts}
        return ", ".join(f"{name} {shape}" for name, shape in kinds.items())

    def _pieces(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.squeeze(-2).split([p.size for p in self.parts], -1)

    def _checked(self, values: Values) -> list[Tensor]:
        items = _items(values)
        hint = f"pass {self}"
        if missing := [name for name in self.names if name not in items]:
            raise InputError(f"inputs with the parts {', '.join(self.names)}", f"none for {missing[0]!r}", hint)
        if unknown := [name for name in items if name not in self.names]:
            raise InputError(f"inputs with the parts {', '.join(self.names)}", f"also {unknown[0]!r}", hint)
        found = [items[name] for name in self.names]
        for part, v in zip(self.parts, found, strict=True):
            if tuple(v.shape[1:]) != part.shape or len(v) != len(found[0]):
                wanted = f"{part.name} of shape {(len(found[0]), *part.shape)}"
                raise InputError(wanted, f"shape {tuple(v.shape)}", "pad or cut to one length; one row an example")
            if v.is_floating_point() and part.whole is not None:
                raise InputError(f"whole numbers as {part.name}", f"{v.dtype}", "convert them with .long()")
        return found


def _items(values: Values) -> dict[str, Tensor]:
    found = values.items() if isinstance(values, Mapping) else enumerate(values)
    return {str(k): torch.as_tensor(v) for k, v in found}
