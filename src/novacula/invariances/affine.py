"""Affine transformations of images by six generators, each with an extent of its own.

A random map ``p' = A p + t`` moves the content of an image, with u the noise (one number a generator, in [−1, 1]):

    A = R(π η_r u_r) · exp(η_s u_s) · exp [[d, h], [h, −d]],   d = η_d u_d,  h = η_h u_h,   t = (η_x u_x, η_y u_y).

This is the polar form: rotation R, scale, and a symmetric part that stretches along the axes (d) or the diagonals (h).
The six extents are orthogonal to first order, so none can stand in for another; the exponential of a sum of generators
would mix them. The matrices are in pixels, so that a rotation is one for any aspect ratio, and t in units of half the
width and half the height.

References:
    Learning invariant weights in neural networks. T. van der Ouderaa, M. van der Wilk, 2022. arXiv:2202.12439.
    Invariance learning in deep neural networks with differentiable Laplace approximations. A. Immer, T. van der
    Ouderaa, G. Rätsch, V. Fortuin, M. van der Wilk, 2022. arXiv:2202.10638.
    Learning invariances in neural networks from training data (Augerino). G. Benton, M. Finzi, P. Izmailov,
    A. G. Wilson, 2020. arXiv:2010.11882.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.invariances import checks
from novacula.invariances.base import Chosen
from novacula.invariances.noise import Distribution, symmetric, working_dtype
from novacula.invariances.warp import Padding, affine_warp, rotation, symmetric_exp

AffineName = Literal["rotation", "translation_x", "translation_y", "scale", "stretch", "shear"]
AFFINE_NAMES: tuple[AffineName, ...] = ("rotation", "translation_x", "translation_y", "scale", "stretch", "shear")
_DESCRIBE = {
    "rotation": ("rotation_degrees", 180.0),
    "translation_x": ("translation_x", 0.5),
    "translation_y": ("translation_y", 0.5),
}


@dataclass(frozen=True, eq=False)
class Affine(Chosen):
    """Random affine maps of images ``(n, C, H, W)``.

    Positive directions, for ``u > 0`` and a positive extent: rotation turns the content counter-clockwise as seen,
    translation_x moves it right and translation_y down, scale enlarges it, stretch widens and flattens it, shear
    pulls it along the diagonal from top left to bottom right. The noise is symmetric, so the
    signs of extents do not matter.

    Args:
        eta: Extents, shape ``(K,)``, in the order of ``only``. Rotation: 1 is ±180°. Translations: 1 is ± half the
            width or height. Scale, stretch, shear: logarithms of factors.
        only: Which generators move; the others are held at the identity.
        distribution: ``"uniform"`` within ± the extent, or ``"gaussian"`` with the same standard deviation, extent/√3.
        padding: What lies outside the image.
        init: Where every extent starts when ``eta`` is absent.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> turn = Affine(eta=torch.tensor([1.0]), only=("rotation",))
        >>> turn.describe()
        {'rotation_degrees': 180.0}
        >>> x = torch.rand(5, 1, 8, 6)
        >>> noise = turn.noise(5, x, torch.Generator().manual_seed(0))
        >>> turn(x, noise).shape
        torch.Size([5, 1, 8, 6])
    """

    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    only: tuple[AffineName, ...] = AFFINE_NAMES
    distribution: Distribution = "uniform"
    padding: Padding = "zeros"
    init: float = 0.1
    known: ClassVar[tuple[str, ...]] = AFFINE_NAMES
    turns: ClassVar[str] = "rotation"

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` maps: x ``(N, C, H, W)`` to ``(n, K)``."""
        checks.images(x)
        return symmetric(n, (len(self.only),), x, rng, self.distribution)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Move the content of each image; x ``(n, C, H, W)``, noise ``(n, K)``."""
        checks.images(x)
        checks.noise(noise, (x.shape[0], len(self.only)))
        # Autocast would round positions to 8 bits.
        with torch.autocast(x.device.type, enabled=False):
            return affine_warp(x, *self.maps(noise.to(x.device, working_dtype(x))), self.padding)

    def describe(self) -> dict[str, float]:
        """The extents for people."""
        units = [_DESCRIBE.get(name, (name, 1.0)) for name in self.only]
        return {
            key: factor * value for (key, factor), value in zip(units, self.eta.detach().abs().tolist(), strict=True)
        }

    def maps(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The maps as ``affine_warp`` takes them: noise ``(n, K)`` to A⁻¹ ``(n, 2, 2)`` and t ``(n, 2)``."""
        values = noise * self.eta.to(noise)  # generators that are not chosen cost nothing
        part: dict[AffineName, Tensor] = dict(zip(self.only, values.unbind(1), strict=True))
        zero = values.new_zeros(values.shape[0])
        inverse = torch.eye(2, dtype=values.dtype, device=values.device).expand(values.shape[0], 2, 2)
        if "rotation" in part:
            inverse = rotation(-math.pi * part["rotation"])
        if "stretch" in part or "shear" in part:
            inverse = symmetric_exp(-part.get("stretch", zero), -part.get("shear", zero)) @ inverse
        if "scale" in part:
            inverse = part["scale"].neg().exp()[:, None, None] * inverse
        return inverse, torch.stack([part.get("translation_x", zero), part.get("translation_y", zero)], -1)
