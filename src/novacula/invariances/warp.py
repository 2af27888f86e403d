"""Resampling images under affine maps: small matrices, one grid, one bilinear interpolation.

Coordinates are those of the array: x to the right, y down, in pixels, from the image's centre. A map moves the content,
``p' = A p + t``; the new image takes its value at ``p'`` from ``A⁻¹ (p' − t)`` in the old one. Working in pixels keeps
a rotation of a non-square image a rotation; the sampler's own coordinates, which run from −1 to 1 along each side,
would shear it.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["zeros", "border", "reflection"]
PADDINGS: tuple[Padding, ...] = ("zeros", "border", "reflection")


def rotation(angle: Tensor) -> Tensor:
    """Rotation matrices, counter-clockwise as seen on the screen (y points down): angle ``(n,)`` to ``(n, 2, 2)``."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([c, s, -s, c], -1).unflatten(-1, (2, 2))


def symmetric_exp(d: Tensor, h: Tensor) -> Tensor:
    """The exponential of symmetric traceless matrices, ``exp M = cosh r + (sinh r / r) M``, ``M = [[d, h], [h, −d]]``.

    Here ``r² = d² + h²``, kept away from zero by 1e-24, which changes no digit. Near zero the derivative of
    ``sinh r / r`` by r² loses its digits, but it is multiplied by d², dh or h², so that first derivatives stay right
    to rounding.

    Returns:
        Shape ``(n, 2, 2)``, of determinant 1; differentiable also at zero.
    """
    r = (d * d + h * h + 1e-24).sqrt()
    cosh, sinhc = r.cosh(), r.sinh() / r
    return torch.stack([cosh + sinhc * d, sinhc * h, sinhc * h, cosh - sinhc * d], -1).unflatten(-1, (2, 2))


def affine_warp(x: Tensor, inverse: Tensor, shift: Tensor, padding: Padding = "zeros") -> Tensor:
    """Move the content of images by ``p' = A p + t``, outside autocast, which would round positions to 8 bits."""
    return sample(x, affine_grid(inverse, shift, *x.shape[-2:]), padding)


def affine_grid(inverse: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """Where `affine_warp` looks, in the sampler's coordinates ``(x, y)``, shape ``(n, H, W, 2)``."""
    aspect = inverse.new_tensor([[1.0, height / width], [width / height, 1.0]])
    linear = inverse * aspect
    theta = torch.cat([linear, -(linear @ shift.unsqueeze(-1))], -1)
    # One matrix product makes all grids, and its backward pass is one too: several times faster on a CPU than
    # torch's affine_grid, whose batched product has an inner dimension of 3.
    return (theta.flatten(1) @ _basis(theta, height, width)).view(-1, height, width, 2)


def inverted(inverse: Tensor, shift: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The inverse maps of images of this size, in the terms of `affine_warp`: ``(n, 2, 2)`` and ``(n, 2)`` to such."""
    aspect = inverse.new_tensor([[1.0, height / width], [width / height, 1.0]])
    return torch.linalg.inv(inverse), -((inverse * aspect) @ shift.unsqueeze(-1)).squeeze(-1)


def sample(x: Tensor, grid: Tensor, padding: Padding) -> Tensor:
    """Bilinear interpolation at the grid's points: x ``(n, C, H, W)``, grid ``(x, y)`` to ``(n, C, H', W')``."""
    return F.grid_sample(x.to(grid.dtype), grid, "bilinear", padding, align_corners=False).to(x.dtype)


def splat(x: Tensor, grid: Tensor) -> Tensor:
    """The transpose of `sample` with zeros around: x ``(N, C, H, W)``, grids ``(S, H, W, 2)`` to ``(N, S, C, H, W)``.

    ``⟨sample(v, g_s), x⟩ = ⟨v, splat(x, g)_s⟩``: each value is dealt to the four pixels around the grid's point.

    Returns:
        What each grid makes of each image; differentiable in both.
    """
    height, width = x.shape[-2:]
    places = ((grid + 1) * grid.new_tensor([width, height]) - 1) / 2
    low = places.detach().floor()
    part = places - low
    index, weight = list[Tensor](), list[Tensor]()
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = low[..., 0] + right, low[..., 1] + down
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        share = (part[..., 0] if right else 1 - part[..., 0]) * (part[..., 1] if down else 1 - part[..., 1])
        index.append(torch.where(inside, row * width + column, 0).long().flatten(1))
        weight.append(torch.where(inside, share, 0).flatten(1))
    dealt = x.flatten(2)[:, None, :, None] * torch.stack(weight, 1)[:, None]  # (N, S, C, 4, H·W)
    where = torch.stack(index, 1)[None, :, None].expand(dealt.shape)
    empty = dealt.new_zeros((*dealt.shape[:3], height * width))
    return empty.scatter_add(-1, where.flatten(-2), dealt.flatten(-2)).unflatten(-1, (height, width)).to(x.dtype)


def centres(size: int, like: Tensor) -> Tensor:
    """The sampler's coordinates of the pixel centres along one side, ``(size,)``."""
    return torch.arange(1, 2 * size, 2, dtype=like.dtype, device=like.device) / size - 1


def _basis(like: Tensor, height: int, width: int) -> Tensor:
    # The matrix (6, H·W·2) that takes the six entries of theta to the grid's points.
    basis = like.new_zeros(2, 3, height, width, 2)
    x, y = centres(width, like), centres(height, like).unsqueeze(1)
    for row in range(2):
        basis[row, 0, ..., row], basis[row, 1, ..., row], basis[row, 2, ..., row] = x, y, 1
    return basis.view(6, -1)
