"""A small residual network for images, with GroupNorm (whose output for one example does not depend on the others).

References:
    Deep residual learning for image recognition. K. He, X. Zhang, S. Ren, J. Sun, 2015. arXiv:1512.03385.
    Identity mappings in deep residual networks. K. He, X. Zhang, S. Ren, J. Sun, 2016. arXiv:1603.05027.
    Group normalization. Y. Wu, K. He, 2018. arXiv:1803.08494.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from novacula.networks.mlp import check_image, check_sizes

_GROUPS = 8


class ResidualBlock(nn.Module):
    """``x ↦ s(x) + conv(gelu(norm(conv(gelu(norm(x))))))``, with s the identity or a 1×1 convolution."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _norm(channels),
            nn.GELU(),
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            _norm(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        same = channels == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block: x ``(N, channels, H, W)`` to ``(N, width, ⌈H/stride⌉, ⌈W/stride⌉)``."""
        return self.shortcut(x) + self.branch(x)


def resnet(x_shape: Sequence[int], outputs: int, *, width: int = 16, blocks: int = 1) -> nn.Sequential:
    """A pre-activation residual network in three stages of widths ``width``, ``2·width``, ``4·width``, with GELU.

    It has ``6·blocks + 2`` layers on its longest path. The second and third stage halve the image.

    Args:
        x_shape: ``(channels, height, width)``.
        outputs: The number of outputs C.
        width: Channels of the first stage.
        blocks: Residual blocks in each stage.

    Returns:
        A module from ``(N, *x_shape)`` to ``(N, C)``; with width 16, three channels and ten outputs it has 77,850
        weights for one block a stage, 175,066 for two and 272,282 for three.

    Raises:
        InputError: If the inputs are not images, or a size is not positive.
    """
    check_sizes(x_shape, outputs=outputs, width=width, blocks=blocks)
    channels = check_image(x_shape)[0]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
    size = width
    for stage in range(3):
        for block in range(blocks):
            layers.append(ResidualBlock(size, width << stage, 2 if stage > 0 and block == 0 else 1))
            size = width << stage
    return nn.Sequential(
        *layers, _norm(size), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(size, outputs)
    )


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)
