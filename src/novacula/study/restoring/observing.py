"""What is seen of an image: all of it with noise, some of its pixels, or their averages; and how large the noise is.

The noise is estimated from the image alone: differences of fourth order along both axes hold little of a natural image,
and their median absolute value over .6745 is the standard deviation of Gaussian noise, whatever the few large ones are
(the rule of Donoho and Johnstone, who take the finest wavelets: in photographs these hold more texture, and were 7 %
over noise of a twentieth of the range; the risk of a pixel, a difference of squares, was then little more than half of
the truth). Texture as fine as that counts as noise: the estimate is then too high.

References:
    Ideal spatial adaptation by wavelet shrinkage. D. L. Donoho, I. M. Johnstone, 1994. Biometrika 81(3).
    Fast noise variance estimation. J. Immerkær, 1996. Computer Vision and Image Understanding 64(2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from novacula.core.errors import InputError
from novacula.core.rng import generator

Problem: TypeAlias = Literal["denoise", "inpaint", "superres"]
_DIFFERENCES, _ENOUGH = ((1, -4, 6, -4, 1), (1, -2, 1), (1, -1)), 25
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

    def doubts(self, image: Tensor) -> tuple[float, float]:
        """The standard errors of `risks`, from the spread of the squares of the pixels held out, which are few."""
        squares = (self.of(image) - self.y).square()[self.held.expand_as(self.y)].double()
        held, fitted = float(squares.mean()), float(self.error(image, self.fitted))
        error = float(squares.std()) / len(squares) ** 0.5
        return error * self.noise**2 * min(1.0, (fitted / held) ** 0.5) / held, error

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
    """The standard deviation of noise in an image ``(C, H, W)``, by the median of its finest differences."""
    # Of fourth order; of second and first where too few windows are known for that.
    whole = torch.ones(image.shape[-2:], dtype=torch.bool) if known is None else known
    for row in _DIFFERENCES:
        window = torch.outer(*2 * [torch.tensor(row, dtype=torch.float64)])[None, None]
        found = conv2d(whole[None, None].double(), (window != 0).double())[0, 0] == window.numel()
        if int(found.sum()) >= _ENOUGH:
            detail = conv2d(image.double().unsqueeze(1), window / window.norm())[:, 0, found]
            return float(detail.abs().median()) / 0.6745
    raise InputError(f"{_ENOUGH} squares of 2 × 2 known pixels, to estimate the noise", "fewer", "pass noise=")
