"""Brightness, contrast, saturation and hue of images, with learned extents.

With g the grey image (Rec. 601 luma for RGB, the channels' mean otherwise) and m its mean,

    x' = m + c·(g + s·(x − g) − m) + b,     b = η_b u_b,   c = exp(η_c u_c),   s = exp(η_s u_s).

Saturation keeps the grey image and contrast its mean, so the three commute and their extents are separate. Nothing is
clipped: clipping would stop gradients, and inputs may have been standardised.

A change of hue comes before the three. It turns the colours on the hexagon of the HSV model, as image libraries do:
with M and m the largest and the smallest of a pixel's channels and H its hue in sixths of the circle,

    channel_n = M − (M − m) · clip(min(k, 4 − k), 0, 1),     k = (n + H + 3 η_h u_h) mod 6,   n = 5, 3, 1 for R, G, B.

This keeps M and m, and needs no range: it commutes with adding a constant and with a common factor. It does not keep
the grey image.

References:
    Color gamut transform pairs. A. R. Smith, 1978. doi:10.1145/800248.807361.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.invariances import checks
from novacula.invariances.base import Chosen
from novacula.invariances.noise import Distribution, symmetric, working_dtype

ColourName = Literal["brightness", "contrast", "saturation", "hue"]
COLOUR_NAMES: tuple[ColourName, ...] = ("brightness", "contrast", "saturation", "hue")
_RGB = frozenset({"saturation", "hue"})
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Colour(Chosen):
    """Random brightness, contrast, saturation and hue of images ``(n, C, H, W)``.

    Args:
        eta: Extents, shape ``(K,)``, in the order of ``only``. Brightness: ± this much is added, in the inputs' units.
            Contrast and saturation: logarithms of factors. Hue: 1 is ±180°, the whole circle.
        only: Which of the four vary; hue where it is asked for. Saturation and hue need three channels (RGB).
        distribution: ``"uniform"`` within ± the extent, or ``"gaussian"`` with the same standard deviation, extent/√3.
        init: Where every extent starts when ``eta`` is absent.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> Colour(eta=torch.tensor([0.5, 0.25]), only=("brightness", "contrast")).describe()
        {'brightness': 0.5, 'contrast': 0.25}
    """

    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    only: tuple[ColourName, ...] = ("brightness", "contrast", "saturation")
    distribution: Distribution = "uniform"
    init: float = 0.1
    known: ClassVar[tuple[str, ...]] = COLOUR_NAMES
    turns: ClassVar[str] = "hue"

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` changes of colour: x ``(N, C, H, W)`` to ``(n, K)``."""
        self._check(x)
        return symmetric(n, (len(self.only),), x, rng, self.distribution)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Change the colours of each image; x ``(n, C, H, W)``, noise ``(n, K)``."""
        self._check(x)
        checks.noise(noise, (x.shape[0], len(self.only)))
        dtype = working_dtype(x)
        values = (noise.to(x.device, dtype) * self.eta.to(x.device, dtype)).to(x.dtype)
        part = {name: v.view(-1, 1, 1, 1) for name, v in zip(self.only, values.unbind(1), strict=True)}
        if "hue" in part:
            x = turn_hue(x.to(dtype), 3 * part["hue"].to(dtype)).to(x.dtype)
        out = x
        if "saturation" in part:
            grey = luma(x)
            out = grey + part["saturation"].exp() * (x - grey)
        if "contrast" in part:
            mean = luma(x).mean((-2, -1), keepdim=True)
            out = mean + part["contrast"].exp() * (out - mean)
        return out + part["brightness"] if "brightness" in part else out

    def describe(self) -> dict[str, float]:
        """The extents for people."""
        values = zip(self.only, self.eta.detach().abs().tolist(), strict=True)
        return dict(("hue_degrees", 180 * v) if name == "hue" else (name, v) for name, v in values)

    def _check(self, x: Tensor) -> None:
        checks.images(x)
        others = tuple(name for name in self.only if name not in _RGB) or ("brightness", "contrast")
        checks.rgb(x, [name for name in self.only if name in _RGB], f"use Colour(only={others})")


def turn_hue(x: Tensor, sixths: Tensor) -> Tensor:
    """Turn the hue of RGB images ``(n, 3, H, W)`` by ``(n, 1, 1, 1)`` sixths of the circle; grey pixels stay."""
    high, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = high - low
    red, green, blue = x.split(1, 1)
    sides = ((red == high, green - blue, 0), (green == high, blue - red, 2), (blue == high, red - green, 4))
    hue, divisor = torch.zeros_like(chroma), torch.where(chroma > 0, chroma, 1)
    for largest, difference, place in reversed(sides):
        hue = torch.where(largest, difference / divisor + place, hue)
    k = (x.new_tensor([5.0, 3.0, 1.0]).view(3, 1, 1) + hue + sixths).remainder(6)
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def luma(x: Tensor) -> Tensor:
    """The grey image: ``(n, C, H, W)`` to ``(n, 1, H, W)``."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
