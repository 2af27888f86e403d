"""What extents mean, in units that augmentation libraries share.

An extent ``eta`` is learned in the invariance's own units: the ends of a uniform range, in half turns, half sides or
logarithms (see `novacula.invariances`). Here it becomes what libraries take: degrees, fractions of a side, factors,
probabilities, fractions of the circle of hues. A value beyond the invariance's own limits acts as the limit.

**Shear.** Our shear pulls along the diagonal, ``exp [[0, h], [h, 0]]``, and a library's slides rows, ``x' = x + y tan
s``. Both close the right angle between the axes: ours by ``2 arctan tanh h = arctan sinh 2h``, theirs by s. That is the
angle that is exported. A library's shear also turns the image by about s/2 and stretches it in the second order.

**Stretch.** Ours has the factors ``exp(d)`` and ``exp(−d)`` along x and y. With a scale s the factor along each axis is
``exp(s ± d)``, of which the exported range has the ends. Libraries that know two factors draw them independently.

**Deformation.** Ours is white noise smoothed by a Gaussian of width ℓ, of standard deviation a at every pixel, both in
fractions of the width. Libraries smooth uniform noise in [−1, 1], of variance 1/3, by a Gaussian of σ pixels of unit
sum: the variance of what is left is ``1/3 · 1/(4πσ²)``. So the factor that brings it to a pixels is ``a √(12π) σ``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from novacula.core.errors import InputError
from novacula.reporting.words.extents import meaning
from novacula.runs.catalogue.models import bare

_AFFINE = ("rotation", "translation_x", "translation_y", "scale", "stretch", "shear")
_ONE_SIDED = ("flip", "flip_vertical", "erasing")
_KNOWN = (*_AFFINE, *_ONE_SIDED, "amplitude", "brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class Ranges:
    """Extents in the units of libraries; 0, or a factor of 1, where there is none."""

    degrees: float  # a rotation uniform within ± this
    translate: tuple[float, float]  # shifts uniform within ± these fractions of the width and the height
    scale: float  # a factor log-uniform between 1 over this and this
    axis: float  # the same of the factor along each axis alone, stretch included
    shear: float  # degrees by which the right angle closes or opens at most
    flip: float  # a probability
    flip_vertical: float  # a probability
    amplitude: float  # a deformation's standard deviation as a fraction of the width
    smoothness: float  # its kernel's width as a fraction of the image's
    brightness: float  # ± this is added, in the inputs' units
    contrast: float  # a factor log-uniform between 1 over this and this
    saturation: float  # the same
    hue: float  # ± this fraction of the circle
    erasing: float  # the largest erased area as a fraction of the image's
    unknown: tuple[str, ...]  # extents that no library of images has

    @property
    def moves(self) -> bool:
        """Whether there is an affine map."""
        return bool(self.degrees or any(self.translate) or self.axis != 1 or self.shear)

    @property
    def none(self) -> bool:
        """Whether there is nothing to write."""
        colours = self.brightness or self.hue or self.contrast != 1 or self.saturation != 1
        return not (self.moves or self.flip or self.flip_vertical or self.amplitude or colours or self.erasing)


def ranges(extents: Mapping[str, float]) -> Ranges:
    """Read extents, in the invariance's units, by name.

    Args:
        extents: ``{"rotation": 0.2, …}``; names may carry the prefix that `Compose` adds.

    Returns:
        The ranges.

    Raises:
        InputError: If an extent is no finite number, or two of them are of one kind.
    """
    found: dict[str, float] = {}
    for name, value in extents.items():
        short = bare(name)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"a finite number as the extent {name!r}", repr(value), "leave it out, or learn it again")
        if short in found:
            raise InputError(f"each transformation once, not {short!r} twice", repr(name), "export one of them")
        found[short] = max(value, 0.0) if short in _ONE_SIDED else abs(value) if meaning(name).shown else value
    eta = {name: found.get(name, 0.0) for name in _KNOWN}
    return Ranges(
        degrees=180 * min(eta["rotation"], 1.0),
        translate=(min(eta["translation_x"] / 2, 1.0), min(eta["translation_y"] / 2, 1.0)),
        scale=math.exp(eta["scale"]),
        axis=math.exp(eta["scale"] + eta["stretch"]),
        shear=math.degrees(math.atan(math.sinh(2 * eta["shear"]))),
        flip=min(eta["flip"], 0.5),
        flip_vertical=min(eta["flip_vertical"], 0.5),
        amplitude=min(eta["amplitude"], 0.5),
        smoothness=math.exp(found.get("log_smoothness", math.log(0.15))),
        brightness=eta["brightness"],
        contrast=math.exp(eta["contrast"]),
        saturation=math.exp(eta["saturation"]),
        hue=min(eta["hue"], 1.0) / 2,
        erasing=min(eta["erasing"], 1.0) ** 2,
        unknown=tuple(n for n, v in extents.items() if v and meaning(n).shown and bare(n) not in _KNOWN),
    )


def elastic(found: Ranges, width: int) -> tuple[float, float, float]:
    """A deformation for libraries that smooth uniform noise: its sd and σ in pixels, the factor ``a √(12π) σ``."""
    sigma = found.smoothness * width
    return found.amplitude * width, sigma, found.amplitude * width * math.sqrt(12 * math.pi) * sigma
