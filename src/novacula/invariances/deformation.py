"""Local (elastic) deformations of images by a smooth random displacement field.

Every pixel takes its value from a place displaced by ``a·W·v(p)``, with v a pair of Gaussian fields of unit variance
and correlation ``exp(−|p − q|²/(4ℓ²))``: white noise ``z`` on a coarse grid, smoothed by a Gaussian kernel of width ℓ,

    v(p) = Σ_g k(p, g) z_g,     k(p, g) ∝ exp(−|p − g|²/(2ℓ²)),     Σ_g k(p, g)² = 1.

The kernel is evaluated at the pixels, so smoothing and upsampling are one step, two small matrix products (the kernel
is a product over the axes), differentiable in the amplitude a and the smoothness ℓ. The normalisation makes the
variance one at every pixel, also at the borders, where fewer grid points are near; the correlation is the Gaussian one
where ℓ is at least the spacing of the coarse grid and the borders are further away than ℓ.

Where ``a`` is large against ``ℓ`` (the displacement's slope has standard deviation ``a/(√2 ℓ)``) the image folds.

References:
    Best practices for convolutional neural networks applied to visual document analysis. P. Simard, D. Steinkraus,
    J. Platt, 2003. doi:10.1109/ICDAR.2003.1227801.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.invariances import checks
from novacula.invariances.base import Invariance
from novacula.invariances.noise import working_dtype
from novacula.invariances.warp import PADDINGS, Padding, centres, sample


@dataclass(frozen=True, eq=False)
class Deformation(Invariance):
    """Smooth random displacements within images ``(n, C, H, W)``.

    Args:
        amplitude: Where the amplitude starts when ``eta`` is absent: the displacement's standard deviation along each
            axis, as a fraction of the image's width.
        smoothness: Where the smoothness starts when ``eta`` is absent: the kernel's width ℓ over the image's.
        eta: ``(amplitude, log smoothness)``, shape ``(2,)``. Amplitude 0 is the identity, at any smoothness.
        grid: Points of the coarse grid along the width; along the height as many as keep its spacing.
        padding: What lies outside the image.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> elastic = Deformation(amplitude=0.03, smoothness=0.25)
        >>> {key: round(value, 3) for key, value in elastic.describe().items()}
        {'deformation_amplitude': 0.03, 'deformation_smoothness': 0.25}
    """

    amplitude: float = 0.02
    smoothness: float = 0.15
    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    grid: int = 16
    padding: Padding = "border"

    def __post_init__(self) -> None:
        checks.option("padding", self.padding, PADDINGS)
        if isinstance(self.amplitude, Tensor) or not 0 < self.smoothness < math.inf:
            raise InputError(
                "amplitude and smoothness > 0 as plain numbers (fractions of the width)",
                f"amplitude={self.amplitude}, smoothness={self.smoothness}",
                "use smoothness=0.15, or pass a tensor of both as eta=(amplitude, log smoothness)",
            )
        if self.grid < 2:
            raise InputError("a coarse grid of at least 2 points", f"grid={self.grid}", "use grid=16")
        init = [float(self.amplitude), math.log(self.smoothness)]
        object.__setattr__(self, "eta", checks.extents(self.eta, init, self.names))

    @property
    def names(self) -> tuple[str, ...]:
        """``("amplitude", "log_smoothness")``."""
        return ("amplitude", "log_smoothness")

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` fields: x ``(N, C, H, W)`` to ``(n, 2, rows, columns)``."""
        checks.images(x)
        z = torch.randn(n, *self._shape(x), generator=rng, device=rng.device, dtype=working_dtype(x))
        return z.to(x.device)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Displace the content of each image; x ``(n, C, H, W)``, noise ``(n, 2, rows, columns)``."""
        checks.images(x)
        checks.noise(noise, (x.shape[0], *self._shape(x)))
        height, width = x.shape[-2:]
        field = self.field(height, width, noise.to(x.device, working_dtype(x)))
        # From fractions of the width to the sampler's units, in which each side is 2 long.
        points = field * field.new_tensor([2.0, 2.0 * width / height]).view(2, 1, 1)
        x_axis, y_axis = centres(width, field), centres(height, field)
        points = points + torch.stack([x_axis.expand(height, width), y_axis.unsqueeze(1).expand(height, width)])
        return sample(x, points.permute(0, 2, 3, 1), self.padding)

    def field(self, height: int, width: int, noise: Tensor) -> Tensor:
        """The displacement from which each pixel takes its value.

        Args:
            height: H.
            width: W.
            noise: Shape ``(n, 2, rows, columns)``.

        Returns:
            Displacements along x and y in fractions of the width, shape ``(n, 2, H, W)``.
        """
        amplitude, log_width = self.eta.to(noise.device, noise.dtype).unbind()
        rows = _kernel(height, height / width, noise.shape[-2], log_width)
        columns = _kernel(width, 1.0, noise.shape[-1], log_width)
        with torch.autocast(noise.device.type, enabled=False):
            return amplitude * (rows @ noise @ columns.T)

    def project(self, eta: Tensor) -> Tensor:
        """Limit the smoothness to what the coarse grid can carry and the amplitude to half the width; eta ``(2,)``."""
        low = torch.tensor([-0.5, -math.log(self.grid)], dtype=eta.dtype, device=eta.device)
        high = torch.tensor([0.5, 0.0], dtype=eta.dtype, device=eta.device)
        return eta.clamp(low, high)

    def magnitude(self, eta: Tensor) -> Tensor:
        """Extents without the signs that carry no meaning; eta ``(2,)``."""
        return torch.cat([eta[:1].abs(), eta[1:]])

    def describe(self) -> dict[str, float]:
        """Amplitude and smoothness for people."""
        amplitude, log_width = self.eta.detach().tolist()
        return {"deformation_amplitude": abs(amplitude), "deformation_smoothness": math.exp(log_width)}

    def _shape(self, x: Tensor) -> tuple[int, int, int]:
        return 2, max(2, round(self.grid * x.shape[-2] / x.shape[-1])), self.grid


def _kernel(pixels: int, length: float, points: int, log_width: Tensor) -> Tensor:
    # The smoothing matrix (pixels, points) along an axis of the given length, with rows of unit norm.
    at = (centres(pixels, log_width) * (length / 2)).unsqueeze(1)
    exponent = -0.5 * (at - centres(points, log_width) * (length / 2)).square() * torch.exp(-2 * log_width)
    # Relative to the nearest point, so that a narrow kernel does not underflow to 0/0.
    kernel = (exponent - exponent.amax(1, keepdim=True)).exp()
    return kernel / kernel.square().sum(1, keepdim=True).sqrt()
