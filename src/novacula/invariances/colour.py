"""Brightness, contrast and saturation of images, with learned extents.

With g the grey image (Rec. 601 luma for RGB, the channels' mean otherwise) and m its mean,

    x' = m + c·(g + s·(x − g) − m) + b,     b = η_b u_b,   c = exp(η_c u_c),   s = exp(η_s u_s).

Saturation keeps the grey image and contrast its mean, so the three commute and their extents are separate. Nothing is
clipped: clipping would stop gradients, and inputs may have been standardised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.invariances import checks
from novacula.invariances.noise import DISTRIBUTIONS, Distribution, symmetric, working_dtype

ColourName = Literal["brightness", "contrast", "saturation"]
COLOUR_NAMES: tuple[ColourName, ...] = ("brightness", "contrast", "saturation")
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Colour:
    """Random brightness, contrast and saturation of images ``(n, C, H, W)``.

    Args:
        eta: Extents, shape ``(K,)``, in the order of ``only``. Brightness: ± this much is added, in the inputs' units.
            Contrast and saturation: logarithms of factors.
        only: Which of the three vary. Saturation needs three channels (RGB).
        distribution: ``"uniform"`` within ± the extent, or ``"gaussian"`` with the same standard deviation, extent/√3.
        init: Where every extent starts when ``eta`` is absent.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> Colour(eta=torch.tensor([0.5, 0.25]), only=("brightness", "contrast")).describe()
        {'brightness': 0.5, 'contrast': 0.25}
    """

    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    only: tuple[ColourName, ...] = COLOUR_NAMES
    distribution: Distribution = "uniform"
    init: float = 0.1
    learnable: ClassVar[tuple[str, ...]] = ("eta",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "only", checks.choose(self.only, COLOUR_NAMES))
        checks.option("distribution", self.distribution, DISTRIBUTIONS)
        object.__setattr__(self, "eta", checks.extents(self.eta, [self.init] * len(self.only), self.only))

    @property
    def names(self) -> tuple[str, ...]:
        """What varies, one name for each extent."""
        return self.only

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
        out = x
        if "saturation" in part:
            grey = _grey(x)
            out = grey + part["saturation"].exp() * (x - grey)
        if "contrast" in part:
            mean = _grey(x).mean((-2, -1), keepdim=True)
            out = mean + part["contrast"].exp() * (out - mean)
        return out + part["brightness"] if "brightness" in part else out

    def project(self, eta: Tensor) -> Tensor:
        """Every extent is admissible; eta ``(K,)``."""
        return eta

    def magnitude(self, eta: Tensor) -> Tensor:
        """Extents without the signs that carry no meaning; eta ``(K,)``."""
        return eta.abs()

    def describe(self) -> dict[str, float]:
        """The extents for people."""
        return dict(zip(self.only, self.eta.detach().abs().tolist(), strict=True))

    def _check(self, x: Tensor) -> None:
        checks.images(x)
        if "saturation" in self.only and x.shape[1] != 3:
            others = tuple(name for name in self.only if name != "saturation") or ("brightness", "contrast")
            raise InputError(
                "three channels (red, green, blue) to change the saturation of",
                f"images with {x.shape[1]}, shape {tuple(x.shape)}",
                f"use Colour(only={others})",
            )


def _grey(x: Tensor) -> Tensor:
    # The grey image, shape (n, 1, H, W).
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
