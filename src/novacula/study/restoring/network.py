"""An encoder–decoder whose random initialisation prefers natural images.

Noise goes in and an image comes out; weights alone are fitted. Convolutions and upsampling make smooth regions and
edges easy and noise hard: it is learned last.

References:
    Deep image prior. D. Ulyanov, A. Vedaldi, V. Lempitsky, 2018. arXiv:1711.10925.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu


class Hourglass(nn.Module):
    """Halves the resolution level by level and raises it again, with narrow connections across.

    Args:
        inputs: Channels of the noise.
        outputs: Channels of the image.
        widths: Channels of each level, the finest first.
        skip: Channels of the connections across.
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int] = (16, 32, 64, 64), skip: int = 4) -> None:
        super().__init__()
        into = [inputs, *widths[:-1]]
        self.down = nn.ModuleList(_Block(a, b, stride=2) for a, b in zip(into, widths, strict=True))
        self.across = nn.ModuleList(nn.Conv2d(a, skip, 1) for a in into)
        above = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(_Block(a + skip, b) for a, b in zip(above, widths, strict=True))
        self.out = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, before the sigmoid."""
        levels = [z]
        for block in self.down:
            levels.append(block(levels[-1]))
        x = levels[-1]
        for block, across, finer in zip(reversed(self.up), reversed(self.across), reversed(levels[:-1]), strict=True):
            raised = interpolate(x, finer.shape[-2:], mode="bilinear", align_corners=False)
            x = block(torch.cat([raised, across(finer)], -3))
        return self.out(x)


class _Block(nn.Module):
    # A convolution, each channel normalised over the image, and a kink.
    def __init__(self, a: int, b: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, stride, 1, padding_mode="reflect")
        self.norm = nn.GroupNorm(b, b)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.norm(self.conv(x)), 0.1)
