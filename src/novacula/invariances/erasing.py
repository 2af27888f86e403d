"""Random erasing: a square of the image, at a random place, is painted over, with a learned extent.

The square's side is ``η √u · √(HW)`` pixels, u uniform in [0, 1): its area is uniform between nothing and η² of the
image's. This is the law of the libraries' random erasing at aspect ratio 1. A side is cut where it is longer than the
image's, and the place is uniform among those at which the square lies within the image.

A pixel is painted over as far as the square covers it,

    x' = x + (fill − x) · c_x c_y,    c = overlap of the pixel and the square along an axis, in [0, 1],

so that the result is continuous in η and differentiable but for the kinks where an edge passes a pixel's border. The
painted area is exact, and grows as η²: like all expectations here it is flat at η = 0, where learning cannot start.

References:
    Random erasing data augmentation. Z. Zhong, L. Zheng, G. Kang, S. Li, Y. Yang, 2017. arXiv:1708.04896.
    Improved regularization of convolutional neural networks with cutout. T. DeVries, G. W. Taylor, 2017.
    arXiv:1708.04552.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.invariances import checks
from novacula.invariances.base import Invariance
from novacula.invariances.noise import unit, working_dtype


@dataclass(frozen=True, eq=False)
class Erasing(Invariance):
    """Paint over a random square of images ``(n, C, H, W)``.

    Args:
        eta: The largest side as a fraction of the image's (of √(HW) where the sides differ), in [0, 1], shape ``(1,)``.
            Values outside act as the nearest one inside.
        fill: The value that is painted, in the inputs' units.
        init: Where the extent starts when ``eta`` is absent.

    Raises:
        InputError: If ``eta`` is not a finite floating-point tensor of shape ``(1,)``.

    Example:
        >>> Erasing(eta=torch.tensor([0.5])).describe()
        {'erasing': 0.5}
        >>> Erasing(eta=torch.tensor([1.0]))(torch.ones(1, 1, 2, 2), torch.tensor([[0.25, 1.0, 0.0]]))
        tensor([[[[1., 0.],
                  [1., 1.]]]])
    """

    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    fill: float = 0.0
    init: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "eta", checks.extents(self.eta, [self.init], self.names))

    @property
    def names(self) -> tuple[str, ...]:
        """``("erasing",)``."""
        return ("erasing",)

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` squares, area and place along x and y: x ``(N, C, H, W)`` to ``(n, 3)``."""
        checks.images(x)
        return unit(n, (3,), x, rng)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Paint over a square of each image; x ``(n, C, H, W)``, noise ``(n, 3)``."""
        checks.images(x)
        checks.noise(noise, (x.shape[0], 3))
        height, width = x.shape[-2:]
        area, across, down = noise.to(x.device, working_dtype(x)).unbind(1)
        side = self.project(self.eta.to(area)) * (height * width * area).sqrt()
        covered = _cover(height, side, down).unsqueeze(2) * _cover(width, side, across).unsqueeze(1)
        return x + (self.fill - x) * covered.unsqueeze(1).to(x.dtype)

    def project(self, eta: Tensor) -> Tensor:
        """Limit the side to that of the image; eta ``(1,)``."""
        return eta.clamp(0, 1)

    def magnitude(self, eta: Tensor) -> Tensor:
        """Extents without the signs that carry no meaning; eta ``(1,)``."""
        return eta

    def describe(self) -> dict[str, float]:
        """The largest side as a fraction of the image's."""
        return {"erasing": self.project(self.eta.detach()).item()}


def _cover(pixels: int, side: Tensor, place: Tensor) -> Tensor:
    # How much of each pixel along one axis lies in the square: its side in pixels and its place (n,), to (n, pixels).
    side = side.clamp(max=pixels)
    start = place * (pixels - side)
    left = torch.arange(pixels, dtype=side.dtype, device=side.device)
    ends = torch.minimum(left + 1, (start + side).unsqueeze(1))
    return (ends - torch.maximum(left, start.unsqueeze(1))).clamp(0, 1)
