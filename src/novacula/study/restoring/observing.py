"""What is seen of an image: all of it with noise, some of its pixels, or their averages; and how large the noise is.

The noise is estimated from the image alone: its finest diagonal details hold little of a natural image, and their
median absolute value over .6745 is the standard deviation of Gaussian noise, whatever the few large ones are (Donoho
and Johnstone). Texture at that scale counts as noise: the estimate is then too high.

References:
    Ideal spatial adaptation by wavelet shrinkage. D. L. Donoho, I. M. Johnstone, 1994. Biometrika 81(3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from novacula.core.errors import InputError
from novacula.core.rng import generator

Problem: TypeAlias = Literal["denoise", "inpaint", "superres"]
_LEAST_NOISE = 1e-3  # below it the eye and eight bits see none


@dataclass(frozen=True, eq=False)
class Seen:
    """Observed values y of ``A f``, which of them are fitted and which are held out; masks are ``(1, h, w)``."""

    y: Tensor  # (C, h, w)
    factor: int  # pixels of the image a side of one observed
    fitted: Tensor
    held: Tensor
    noise: float

    def of(self, image: Tensor) -> Tensor:
        """``A f`` of images ``(…, C, H, W)``."""
        if self.factor == 1:
            return image
        flat = image.flatten(0, -4) if image.ndim > 3 else image.unsqueeze(0)
        return avg_pool2d(flat, self.factor).reshape(*image.shape[:-2], *self.y.shape[-2:])

    def risks(self, image: Tensor) -> tuple[float, float]:
        """Mean squared errors of the clean pixels: of those that were fitted, and of those that were not."""
        # Pixels held out err by V = σ² + E e². Fitted pixels follow their noise by a share h, the leverage: their
        # residuals T = (1 − h)² V give it, and their clean values err by T − σ² + 2 σ² h (Stein).
        fitted, held = float(self.error(image, self.fitted)), float(self.error(image, self.held))
        leverage = max(0.0, 1 - (fitted / max(held, 1e-12)) ** 0.5)
        return fitted - self.noise**2 * (1 - 2 * leverage), held - self.noise**2

    def risk(self, image: Tensor) -> float:
        """The mean squared error of all clean pixels, by `risks`."""
        share = float(self.fitted.double().mean())
        fitted, others = self.risks(image)
        return share * fitted + (1 - share) * others

    def error(self, image: Tensor, where: Tensor) -> Tensor:
        """The mean squared error of ``A f`` at some of the observed pixels; a scalar, or one for each image."""
        gap = (self.of(image) - self.y).square() * where
        return gap.sum((-3, -2, -1)) / (where.sum() * self.y.shape[0])


def observed(
    image: Tensor, task: Problem, mask: Tensor | None, factor: int, noise: float | None, share: float, seed: int
) -> Seen:
    """The observation of a task, a share of its pixels held out."""
    if task not in get_args(Problem):
        raise InputError(f"a task among {', '.join(get_args(Problem))}", repr(task), 'task="denoise"')
    if (mask is not None) != (task == "inpaint"):
        got = "a mask" if mask is not None else "no mask"
        raise InputError("mask= for inpainting, True where pixels are known, and for nothing else", got, "check task=")
    known = torch.ones(image.shape[-2:], dtype=torch.bool) if mask is None else mask
    if known.shape != image.shape[-2:] or known.dtype != torch.bool:
        got = f"shape {tuple(known.shape)}, {known.dtype}"
        raise InputError(f"a mask of booleans of shape {tuple(image.shape[-2:])}", got, "mask = image.mean(0) > 0")
    if int(known.sum()) < 100:
        raise InputError("100 known pixels or more", str(int(known.sum())), "True marks pixels that are known")
    drawn = torch.rand(known.shape, generator=generator(seed, "held out"))
    held = known & (drawn < share)
    sigma = max(noise_of(image, known) if noise is None else noise, _LEAST_NOISE)
    return Seen(image, factor if task == "superres" else 1, (known & ~held)[None], held[None], sigma)


def noise_of(image: Tensor, known: Tensor | None = None) -> float:
    """The standard deviation of noise in an image ``(C, H, W)``, by the median of its finest diagonal details."""
    h, w = (2 * (s // 2) for s in image.shape[-2:])
    block = image[..., :h, :w].double()
    detail = (block[..., ::2, ::2] - block[..., 1::2, ::2] - block[..., ::2, 1::2] + block[..., 1::2, 1::2]) / 2
    if known is not None:
        whole = known[:h, :w].unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).all(3).all(1)
        if int(whole.sum()) >= 25:
            detail = detail[..., whole]
    return float(detail.abs().median()) / 0.6745
