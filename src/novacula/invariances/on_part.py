"""An invariance of one of several inputs: the image beside measurements, the pixels beside a prompt."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.modules.parts import Parts
from novacula.invariances.base import Invariance
from novacula.invariances.compose import Compose


@dataclass(frozen=True, eq=False, init=False)
class OnPart(Invariance):
    """Transform one part of the inputs, and leave the others as they are.

    Args:
        invariance: The transformation.
        part: The part's name; its number, where the parts are a tuple.
        layout: Where the part is; `Target.prepare` finds it in the data.
        eta: The extents; by default those of the invariance.

    Attributes:
        invariance: The transformation at ``eta``.
        eta: Its extents.

    Example:
        >>> from novacula.invariances import Affine
        >>> OnPart(Affine(only=("rotation",)), "pixel_values").names
        ('rotation',)
    """

    invariance: Invariance
    part: str
    layout: Parts | None
    eta: Tensor = None  # type: ignore[assignment]  # filled in below

    def __init__(
        self, invariance: Invariance, part: str | int, *, layout: Parts | None = None, eta: Tensor | None = None
    ) -> None:
        inner = invariance if eta is None else dataclasses.replace(cast(Any, invariance), eta=eta)
        values = {"invariance": inner, "part": str(part), "layout": layout, "eta": inner.eta}
        if not inner.averages_predictions:
            values |= {"averages_predictions": False, "learnable": ()}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the extents."""
        return self.invariance.names

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` transformations; x ``(N, 1, D)``."""
        return self.invariance.noise(n, self._layout.split(x)[self.part], rng)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Transform the part; x ``(n, 1, D)``."""
        part = self._layout.split(x)[self.part]
        return self._layout.replaced(x, self.part, self.invariance(part, noise))

    def project(self, eta: Tensor) -> Tensor:
        """The nearest admissible extents."""
        return self.invariance.project(eta)

    def magnitude(self, eta: Tensor) -> Tensor:
        """Extents without the signs that carry no meaning."""
        return self.invariance.magnitude(eta)

    def describe(self) -> dict[str, float]:
        """The extents for people."""
        return self.invariance.describe()

    @property
    def _layout(self) -> Parts:
        if self.layout is None:
            raise InputError("inputs of several parts", "a single one", f"leave out OnPart(…, {self.part!r})")
        return self.layout


def bind_parts(invariance: Invariance | None, parts: Parts | None) -> Invariance | None:
    """Tell an invariance where the parts of inputs are.

    Args:
        invariance: Perhaps an `OnPart`, or a `Compose` of such.
        parts: The layout of the inputs; None for a single one.

    Returns:
        The invariance; itself, where nothing is to be told.

    Raises:
        InputError: If there are several parts and it does not say which it transforms, or one that is not there or
            holds whole numbers.
    """
    if isinstance(invariance, Compose):
        bound = tuple(cast(Invariance, bind_parts(part, parts)) for part in invariance.parts)
        if all(a is b for a, b in zip(bound, invariance.parts, strict=True)):
            return invariance
        return Compose(parts=bound, eta=invariance.eta)
    if not isinstance(invariance, OnPart):
        if invariance is not None and parts is not None:
            hint = f"use OnPart({type(invariance).__name__}(…), {parts.names[0]!r})"
            got = f"{type(invariance).__name__} and parts {', '.join(parts.names)}"
            raise InputError("an invariance that says which part it transforms", got, hint)
        return invariance
    floats = () if parts is None else tuple(p.name for p in parts.parts if p.whole is None)
    if invariance.part not in floats:
        got = "a single input" if parts is None else f"{invariance.part!r}"
        raise InputError(f"a part of floats to transform, among {', '.join(floats) or 'none'}", got, "check the name")
    if invariance.layout == parts:
        return invariance
    return OnPart(invariance.invariance, invariance.part, layout=parts)
