"""A small convolutional network for images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from novacula.networks.mlp import check_image, check_sizes

_GRID = 4  # the last feature map has at most this many rows and columns, whatever the image's size


def cnn(x_shape: Sequence[int], outputs: int, *, width: int = 16, hidden: int = 128) -> nn.Sequential:
    """Three strided convolutions and one hidden layer, with GELU and without normalisation.

    Kernels 5-3-3, widths ``width``, ``2·width``, ``2·width``. Each convolution halves the image; the first does not
    where the smaller side is below 16 pixels. Feature maps larger than 4×4 are averaged down to that.

    Args:
        x_shape: ``(channels, height, width)``, from about 8×8 pixels.
        outputs: The number of outputs C.
        width: Channels of the first convolution.
        hidden: Units of the hidden layer.

    Returns:
        A module from ``(N, *x_shape)`` to ``(N, C)``; with the default widths below 100,000 weights for up to four
        channels and 100 outputs.

    Raises:
        InputError: If the inputs are not images, or a size is not positive.

    Example:
        >>> sum(w.numel() for w in cnn((1, 28, 28), 10).parameters())
        81258
    """
    check_sizes(x_shape, outputs=outputs, width=width, hidden=hidden)
    channels, *sides = check_image(x_shape)
    strides = (1 if min(sides) < 16 else 2, 2, 2)
    for stride in strides:
        sides = [math.ceil(side / stride) for side in sides]
    grid = [min(side, _GRID) for side in sides]
    pool = [nn.AdaptiveAvgPool2d((grid[0], grid[1]))] if grid != sides else []
    return nn.Sequential(
        nn.Conv2d(channels, width, 5, strides[0], padding=2),
        nn.GELU(),
        nn.Conv2d(width, 2 * width, 3, strides[1], padding=1),
        nn.GELU(),
        nn.Conv2d(2 * width, 2 * width, 3, strides[2], padding=1),
        nn.GELU(),
        *pool,
        nn.Flatten(),
        nn.Linear(2 * width * grid[0] * grid[1], hidden),
        nn.GELU(),
        nn.Linear(hidden, outputs),
    )
