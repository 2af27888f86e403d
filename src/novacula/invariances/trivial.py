"""An augmentation policy without anything to tune: one random transformation of each image, of random strength.

Each image of a training step gets one transformation, drawn uniformly from a list, with a strength drawn uniformly up
to a wide maximum. The maxima are those of the paper's wide space:

    rotation               ±135°
    shear_x, shear_y       x' = x + s y,  s = ±0.99
    translation_x, _y      ±32 pixels, or the side where that is less
    brightness             darkest + f (x − darkest),  f = 1 ± 0.99,  darkest the image's own smallest value
    contrast               mean + f (x − mean),        f = 1 ± 0.99,  mean that of the grey image
    saturation             grey + f (x − grey),        f = 1 ± 0.99;  colour images
    hue                    ±180°;                                     colour images

The paper's list has no hue, and has sharpness, posterisation, solarisation, automatic contrast and equalisation
besides, which this package does not have. Strengths are continuous, where the paper has 31 steps. Nothing is clipped,
and black is an image's own, as inputs may have been standardised.

References:
    TrivialAugment: tuning-free yet state-of-the-art data augmentation. S. G. Müller, F. Hutter, 2021. arXiv:2103.10158.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.invariances import checks
from novacula.invariances.base import Invariance
from novacula.invariances.colour import luma, turn_hue
from novacula.invariances.noise import unit, working_dtype
from novacula.invariances.warp import PADDINGS, Padding, affine_warp, rotation

TrivialName = Literal[
    "identity",
    "rotation",
    "shear_x",
    "shear_y",
    "translation_x",
    "translation_y",
    "brightness",
    "contrast",
    "saturation",
    "hue",
]
_FACTOR, _SHEAR, _TURN, _PIXELS = 0.99, 0.99, math.radians(135), 32


@dataclass(frozen=True, eq=False)
class Trivial(Invariance):
    """Change each image ``(n, C, H, W)`` by one transformation, drawn uniformly from a list, of random strength.

    This is an augmentation of the training data, not an invariance: there are no extents to learn, a training step
    takes one copy of each image whatever `Copies` says, and evidence, curvature, predictions and the samplers of a
    fixed density (HMC, NUTS, SMC) take the images as they are.

    Args:
        only: The transformations to draw from, ``"identity"`` among them or not; by default all that suit the image:
            without ``"saturation"`` and ``"hue"`` unless it has three channels.
        padding: What lies outside the image.
        eta: Nothing: a tensor of shape ``(0,)``, or None.

    Raises:
        InputError: If an argument is not as described, or a colour is to be changed of images that have none.

    Example:
        >>> x = torch.rand(5, 1, 8, 6)
        >>> policy = Trivial()
        >>> noise = policy.noise(5, x, torch.Generator().manual_seed(0))
        >>> policy(x, noise).shape
        torch.Size([5, 1, 8, 6])
        >>> policy.describe()
        {}
    """

    only: tuple[TrivialName, ...] | None = None
    padding: Padding = "zeros"
    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    learnable: ClassVar[tuple[str, ...]] = ()
    averages_predictions: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.only is not None:
            object.__setattr__(self, "only", checks.choose(self.only, tuple(_CHANGES)))
        checks.option("padding", self.padding, PADDINGS)
        object.__setattr__(self, "eta", checks.extents(self.eta, [], ()))

    @property
    def names(self) -> tuple[str, ...]:
        """None: there are no extents."""
        return ()

    def choices(self, x: Tensor) -> tuple[TrivialName, ...]:
        """The transformations that are drawn from for images like ``x (n, C, H, W)``."""
        checks.images(x)
        names = tuple(_CHANGES) if self.only is None else self.only
        coloured = [name for name in names if name in _COLOURED]
        if x.shape[1] == 3 or not coloured:
            return names
        if self.only is not None:
            checks.rgb(x, coloured, "leave these out of only")
        return tuple(name for name in names if name not in _COLOURED)

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` changes, which and how much: x ``(N, C, H, W)`` to ``(n, 2)``."""
        self.choices(x)
        return unit(n, (2,), x, rng)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Change each image; x ``(n, C, H, W)``, noise ``(n, 2)``."""
        names = self.choices(x)
        checks.noise(noise, (x.shape[0], 2))
        which, strength = noise.to(x.device, working_dtype(x)).unbind(1)
        which, out = (which * len(names)).long(), x.clone()
        # Autocast would round positions to 8 bits.
        with torch.autocast(x.device.type, enabled=False):
            for k, name in enumerate(names):
                rows = which == k
                out[rows] = _CHANGES[name](x[rows], 2 * strength[rows] - 1, self.padding).to(x.dtype)
        return out

    def describe(self) -> dict[str, float]:
        """Nothing: there are no extents."""
        return {}


def _identity(x: Tensor, u: Tensor, padding: Padding) -> Tensor:
    return x


def _rotation(x: Tensor, u: Tensor, padding: Padding) -> Tensor:
    return affine_warp(x, rotation(-_TURN * u), u.new_zeros(len(u), 2), padding)


def _shear(axis: int) -> Callable[[Tensor, Tensor, Padding], Tensor]:
    def change(x: Tensor, u: Tensor, padding: Padding) -> Tensor:
        inverse = torch.eye(2, dtype=u.dtype, device=u.device).repeat(len(u), 1, 1)
        inverse[:, axis, 1 - axis] = -_SHEAR * u
        return affine_warp(x, inverse, u.new_zeros(len(u), 2), padding)

    return change


def _translation(axis: int) -> Callable[[Tensor, Tensor, Padding], Tensor]:
    def change(x: Tensor, u: Tensor, padding: Padding) -> Tensor:
        inverse = torch.eye(2, dtype=u.dtype, device=u.device).expand(len(u), 2, 2)
        side, shift = x.shape[-1 - axis], u.new_zeros(len(u), 2)
        shift[:, axis] = min(_PIXELS, side) / (side / 2) * u
        return affine_warp(x, inverse, shift, padding)

    return change


def _blend(other: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Padding], Tensor]:
    def change(x: Tensor, u: Tensor, padding: Padding) -> Tensor:
        start = other(x)
        return start + (1 + _FACTOR * u).view(-1, 1, 1, 1) * (x - start)

    return change


def _hue(x: Tensor, u: Tensor, padding: Padding) -> Tensor:
    return turn_hue(x.to(u.dtype), 3 * u.view(-1, 1, 1, 1))


_CHANGES: dict[TrivialName, Callable[[Tensor, Tensor, Padding], Tensor]] = {
    "identity": _identity,
    "rotation": _rotation,
    "shear_x": _shear(0),
    "shear_y": _shear(1),
    "translation_x": _translation(0),
    "translation_y": _translation(1),
    "brightness": _blend(lambda x: x.amin((1, 2, 3), keepdim=True)),
    "contrast": _blend(lambda x: luma(x).mean((-2, -1), keepdim=True)),
    "saturation": _blend(luma),
    "hue": _hue,
}
_COLOURED = frozenset({"saturation", "hue"})
