"""`relax`: layers between a dense one and a convolution, and beyond a convolution.

A dense layer between images ``(C, H, W)`` and ``(C', H', W')`` gets a convolution of the same stride beside it, whose
outputs are added; a convolution gets non-stationary partners beside it, convolutions whose outputs are multiplied by
low waves ``φ_b`` over the positions r of the output,

    dense:        y = W x + V ∗ x,
    convolution:  y_r = (V ∗ x)_r + Σ_b φ_b(r) (U_b ∗ x)_r,      φ_b(r) = cos(π i (r_y + ½)/H') cos(π j (r_x + ½)/W'),

scaled to a mean square of one, without the constant. Every part is linear in weights of its own, which begin at
nought: the function is that of the module that came. As each tensor has a precision of its own in the prior, the
evidence decides how much of each layer is equivariant to shifts and how much is tied to places, and
`novacula.evidence.effective` counts what is used. A partner costs as much as the layer (U: three times at one wave a
side), not as a layer with filters of each place.

References:
    Relaxing equivariance constraints with non-stationary continuous filters. T. F. A. van der Ouderaa, D. W. Romero,
    M. van der Wilk, 2022. arXiv:2204.07178.
    Learning layer-wise equivariances automatically using gradients. T. F. A. van der Ouderaa, A. Immer,
    M. van der Wilk, 2023. arXiv:2310.06131.
    Residual pathway priors for soft equivariance constraints. M. Finzi, G. Benton, A. G. Wilson, 2021.
    arXiv:2112.01388.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.structure.grids import Grid, Shape, grids
from novacula.structure.parts import Parted, silent, total


class RelaxedDense(Parted):
    """A dense layer between images and a convolution beside it."""

    parts = ("dense", "convolution")

    def __init__(self, layer: nn.Linear, given: Shape, made: Shape, kernel: int) -> None:
        super().__init__()
        self.given = given
        stride = (given[1] // made[1], given[2] // made[2])
        self.dense: nn.Linear | None = layer
        self.convolution: nn.Conv2d | None = silent(
            nn.Conv2d(given[0], made[0], kernel, stride, kernel // 2), layer.weight
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C·H·W)`` to ``(N, C'·H'·W')``."""
        made = None if self.convolution is None else self.convolution(x.unflatten(1, self.given)).flatten(1)
        return total([None if self.dense is None else self.dense(x), made])


class RelaxedConvolution(Parted):
    """A convolution and, beside it, those whose outputs are waves over positions."""

    parts = ("convolution", "varying")
    waves: Tensor

    def __init__(self, layer: nn.Conv2d, made: Shape, frequencies: int) -> None:
        super().__init__()
        waves = _waves(made[1], made[2], frequencies).to(layer.weight)
        self.register_buffer("waves", waves)
        self.convolution: nn.Conv2d | None = layer
        partners = nn.Conv2d(
            layer.in_channels,
            layer.out_channels * len(waves),
            layer.kernel_size,  # pyright: ignore[reportArgumentType]  # two sides
            layer.stride,  # pyright: ignore[reportArgumentType]
            layer.padding,  # pyright: ignore[reportArgumentType]
            layer.dilation,  # pyright: ignore[reportArgumentType]
            layer.groups,
            bias=False,
            padding_mode=layer.padding_mode,
        )
        self.varying: nn.Conv2d | None = silent(partners, layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, C', H', W')``."""
        made = None if self.convolution is None else self.convolution(x)
        if self.varying is None:
            return total([made])
        return total([made, (self.varying(x).unflatten(1, (-1, len(self.waves))) * self.waves).sum(2)])


def relax(module: nn.Module, example_inputs: Tensor, *, kernel: int = 5, frequencies: int = 1) -> nn.Module:
    """Let the evidence decide how equivariant to shifts each layer is.

    The function stays as it is until weights are trained. Learn it with feedback, so that precisions that were solved
    for act on the weights: ``method=dataclasses.replace(nv.study.default_method(n), feedback=True)``.

    Args:
        module: The network; it is not changed.
        example_inputs: Inputs as it takes them, ``(N, …)``, by which the images of dense layers are found.
        kernel: The side of the convolutions beside dense layers; odd.
        frequencies: Waves a side of what stands beside convolutions: ``(frequencies + 1)² − 1`` partners.

    Returns:
        A copy with `parts` in the layers: all convolutions that are called, and all dense layers whose input and output
        are images, the output's sides dividing the input's.

    Raises:
        InputError: If no layer can be relaxed, or the network does not take the inputs.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(4 * 36, 10))
        >>> relaxed = relax(net, torch.zeros(1, 1, 6, 6))
        >>> from novacula.structure import parts
        >>> parts(relaxed)["0"]["varying"]
        ['0.varying.weight']
    """
    check_whole("kernel", kernel)
    check_whole("frequencies", frequencies)
    if kernel % 2 == 0:
        raise InputError("an odd kernel", str(kernel), f"kernel={kernel + 1}")
    found = copy.deepcopy(module)
    changed = False
    for name, grid in grids(module, example_inputs).items():
        layer = found.get_submodule(name)
        other = _relaxed(layer, grid, kernel, frequencies)
        if other is not None:
            if not name:
                return other
            found.set_submodule(name, other)
            changed = True
    if not changed:
        wanted = "a convolution, or a dense layer between images"
        raise InputError(wanted, "none in this network", "put nn.Flatten() and nn.Unflatten(1, (C, H, W)) around it")
    return found


def _relaxed(layer: nn.Module, grid: Grid, kernel: int, frequencies: int) -> nn.Module | None:
    # The layer with its partner, if it has one.
    if grid.input is None or grid.output is None:
        return None
    if isinstance(layer, nn.Conv2d):
        return RelaxedConvolution(layer, grid.output, frequencies) if max(grid.output[1:]) > 1 else None
    whole = all(a % b == 0 for a, b in zip(grid.input[1:], grid.output[1:], strict=True))
    return RelaxedDense(layer, grid.input, grid.output, kernel) if isinstance(layer, nn.Linear) and whole else None


def _waves(height: int, width: int, frequencies: int) -> Tensor:
    # φ (B, H, W), each of a mean square of one, without the constant; no more waves a side than positions.
    def side(n: int) -> Tensor:
        k = torch.arange(min(frequencies + 1, n), dtype=torch.float64)
        found = (math.pi * k[:, None] * (torch.arange(n) + 0.5) / n).cos()
        return found / found.square().mean(1, keepdim=True).sqrt()

    return torch.einsum("iy,jx->ijyx", side(height), side(width)).flatten(0, 1)[1:]
