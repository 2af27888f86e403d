"""Arms: the ways to train that are compared. None, each transformation at a mild and a strong extent, and mixtures.

Extents are in the transformations' own units (see `novacula.invariances`): a rotation of ±15° is 15/180, a shift of 7 %
of the width .14. Brightness is in units of the images' range. A flip has one sensible probability, a half. Rotation by
any angle joins them where one of ±60° did not hurt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.invariances import Invariance
from novacula.runs.catalogue.models import read_invariance

EXTENTS: dict[str, list[float]] = {
    "rotation": [15 / 180, 60 / 180],
    "translation_x": [0.14, 0.4],
    "translation_y": [0.14, 0.4],
    "scale": [0.1, 0.3],
    "stretch": [0.1, 0.3],
    "shear": [0.1, 0.3],
    "flip": [0.5],
    "flip_vertical": [0.5],
    "brightness": [0.1, 0.3],
    "contrast": [0.2, 0.6],
    "saturation": [0.2, 0.6],
    "hue": [0.1, 0.5],
    "deformation": [0.02, 0.05],
    "erasing": [0.25, 0.5],
}
"""The transformations, and the extents at which each is tried."""

TURNS = 1.0
_COLOURS = frozenset({"saturation", "hue"})


@dataclass(frozen=True)
class Arm:
    """A way to train: transformations by name with their extents, none, or the policy ``trivial``."""

    name: str  # a transformation, "none", "trivial" or "combination"
    parts: tuple[tuple[str, float], ...] = ()  # transformations and extents
    length: int = 1  # how many times the planned steps it is trained for

    @property
    def key(self) -> str:
        """What tells it from the others, fit for a file's name."""
        written = "+".join(f"{name}={extent:.6g}" for name, extent in self.parts) or self.name
        return written if self.length == 1 else f"{written}-x{self.length}"

    @property
    def extent(self) -> float:
        """The extent of its only transformation."""
        return self.parts[0][1]

    @property
    def longer(self) -> Arm:
        """The same, trained twice as long."""
        return replace(self, length=2 * self.length)

    def invariance(self) -> Invariance | None:
        """What it does to a training image."""
        if self.name == "none":
            return None
        if not self.parts:
            return read_invariance(self.name)
        made = cast(Any, read_invariance("+".join(name for name, _ in self.parts)))
        wanted = {"amplitude" if name == "deformation" else name: extent for name, extent in self.parts}
        values = [wanted.get(n, float(own)) for n, own in zip(made.names, made.eta.tolist(), strict=True)]
        return replace(made, eta=torch.tensor(values))

    def extents(self) -> dict[str, float]:
        """Extents by the invariance's own names, as `novacula.reporting.export` takes them."""
        made = self.invariance()
        return {} if made is None else dict(zip(made.names, made.eta.tolist(), strict=True))


NONE, TRIVIAL = Arm("none"), Arm("trivial")


def arms_for(x: Tensor, only: Sequence[str] = ()) -> list[Arm]:
    """The arms that suit images.

    Args:
        x: Images, shape ``(N, C, H, W)``.
        only: Names of transformations; all that suit the images if there are none.

    Returns:
        The mild extents first, then the strong ones, so that what is cut short has one of each.

    Raises:
        InputError: If a name is unknown, or is of a colour and the images are grey.
    """
    if unknown := [name for name in only if name not in EXTENTS]:
        raise InputError(f"transformations among {', '.join(EXTENTS)}", repr(unknown[0]), "leave it out for all")
    grey = x.shape[1] != 3
    if grey and (bad := [name for name in only if name in _COLOURS]):
        raise InputError(f"images of three channels for {bad[0]}", f"{x.shape[1]}", "leave it out")
    wanted = [name for name in only or EXTENTS if not (grey and name in _COLOURS)]
    width = float(x.max() - x.min())
    return [
        Arm(
            name,
            ((name, extent * (width if name == "brightness" else 1.0)),),
        )
        for level in range(2)
        for name in wanted
        for extent in EXTENTS[name][level : level + 1]
    ]


def combination(arms: Sequence[Arm]) -> Arm:
    """Several arms as one: their transformations after another, in the order of the table."""
    parts = dict(part for arm in arms for part in arm.parts)
    ordered = [(name, parts[name]) for name in EXTENTS if name in parts]
    return Arm("combination" if len(ordered) > 1 else ordered[0][0], tuple(ordered))
