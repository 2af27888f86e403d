"""How the extents of an invariance read to people: names, units, natural ranges, and what counts as none.

A run saves extents in the invariance's own units ``eta``. Here they become degrees, per cents and factors.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from novacula.reporting.words.numbers import number

Unit = Literal["degrees", "percent", "factor", "plain"]

NEGLIGIBLE = 0.08
"""Extents up to this size (in ``eta``) are within the jitter of learning, and count as none."""


@dataclass(frozen=True)
class Meaning:
    """What an extent means."""

    label: str  # its name in words
    plural: str  # what its presence supports, e.g. ``"rotations"``
    unit: Unit = "plain"  # its unit for people
    scale: float = 1.0  # A value in that unit is ``scale · eta`` (for factors: ``exp(± scale · eta)``)
    natural: float = 1.0  # the largest ``eta`` that figures show by default
    symmetric: bool = True  # whether it is a range ± around none
    of: str = ""  # what a per cent is a per cent of

    def text(self, eta: float) -> str:
        """The extent in words and units."""
        value = self.scale * abs(eta) if self.symmetric else self.scale * eta
        sign = "±" if self.symmetric else ""
        if self.unit == "degrees":
            return f"{sign}{value:.0f}°"
        if self.unit == "percent":
            digits = 0 if abs(value) >= 10 else 1
            return f"{sign}{number(value, digits)}\u00a0%{' ' + self.of if self.of else ''}"
        if self.unit == "factor":
            value = min(value, 700.0)
            return f"×{math.exp(-value):.2f} to ×{math.exp(value):.2f}"
        return f"{sign}{number(value, 2)}"

    def spread(self, sd: float) -> str:
        """A standard deviation of the extent, in its unit."""
        value = self.scale * sd
        if self.unit == "degrees":
            return f"±{value:.1f}°"
        if self.unit == "percent":
            return f"±{number(value, 1)}\u00a0%"
        return f"±{number(value, 3)}"


_LOG2 = math.log(2)
_MEANINGS: dict[str, Meaning] = {
    "rotation": Meaning("rotation", "rotations", "degrees", 180.0),
    "translation_x": Meaning("horizontal shift", "horizontal shifts", "percent", 50.0, of="of the width"),
    "translation_y": Meaning("vertical shift", "vertical shifts", "percent", 50.0, of="of the height"),
    "scale": Meaning("scale", "changes of scale", "factor", natural=_LOG2),
    "stretch": Meaning("stretch", "stretches along the axes", "factor", natural=_LOG2),
    "shear": Meaning("shear", "shears", "factor", natural=_LOG2),
    "flip": Meaning("mirror image", "mirror images", "percent", 100.0, 0.5, False, "of copies"),
    "amplitude": Meaning("deformation", "local deformations", "percent", 100.0, 0.1, False, "of the width"),
    "log_smoothness": Meaning("log smoothness", "log smoothness", "plain", 1.0, 3.0, False),
    "brightness": Meaning("brightness", "changes of brightness"),
    "contrast": Meaning("contrast", "changes of contrast", "factor", natural=_LOG2),
    "saturation": Meaning("saturation", "changes of saturation", "factor", natural=_LOG2),
    "time_shift": Meaning("time shift", "shifts in time", "percent", 50.0, of="of the length"),
    "time_scale": Meaning("tempo", "changes of tempo", "factor", natural=_LOG2),
}
# The smoothness of a deformation shapes it; how far it reaches is the amplitude's.
NOT_AN_EXTENT = frozenset({"log_smoothness"})
_FINE = {"amplitude": 0.005}


def base(name: str) -> str:
    """The name of an extent without the prefix that `Compose` adds to names that several parts share."""
    stripped = re.sub(r"^[a-z]+\d+_", "", name)
    return stripped if stripped in _MEANINGS else name


def meaning(name: str) -> Meaning:
    """What an extent means, by name; names of a user's own read as they are."""
    known = _MEANINGS.get(base(name))
    words = name.replace("_", " ")
    return known or Meaning(words, f"“{words}”")


def negligible(name: str, eta: float) -> bool:
    """Whether an extent counts as none."""
    return abs(eta) <= _FINE.get(base(name), NEGLIGIBLE)


def everything(name: str, eta: float) -> bool:
    """Whether an extent covers its whole group, as far as the estimate can tell."""
    return {"rotation": abs(eta) >= 165 / 180, "flip": eta >= 0.45}.get(base(name), False)
