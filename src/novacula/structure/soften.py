"""`soften`: the weights of a trained network on their way to an equivariant subspace, by one knob.

A group of quarter turns or mirror images acts on the images before and after a layer. The weights that commute with it
are a subspace, and the nearest point of it is the mean over the group,

    P W = 1/|G| Σ_g ρ_out(g) W ρ_in(g)⁻¹,        W(κ) = (1 − κ) W + κ P W.

At κ = 0 the network is what it was; at κ = 1 each layer is equivariant, and a network of odd filters, stride 1, even
padding and pooling that has no direction is invariant. In between it is so by degrees, without training.

References:
    Approximately equivariant networks for imperfectly symmetric dynamics. R. Wang, R. Walters, R. Yu, 2022.
    arXiv:2201.11969.
    Group equivariant convolutional networks. T. Cohen and M. Welling, 2016. arXiv:1602.07576.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import shown
from novacula.core.errors import InputError
from novacula.structure.grids import Grid, Shape, grids

Group = Literal["turns", "mirror", "both"]

_TURNS: tuple[Callable[[Tensor], Tensor], ...] = tuple(lambda w, k=k: torch.rot90(w, k, (-2, -1)) for k in range(4))
_MIRROR: tuple[Callable[[Tensor], Tensor], ...] = (lambda w: w, lambda w: w.flip(-1))
_GROUPS: dict[Group, tuple[Callable[[Tensor], Tensor], ...]] = {
    "turns": _TURNS,
    "mirror": _MIRROR,
    "both": (*_TURNS, *(lambda w, turn=turn: turn(w.flip(-1)) for turn in _TURNS)),
}


def soften(module: nn.Module, example_inputs: Tensor, knob: float, *, group: Group = "turns") -> nn.Module:
    """Move a network's weights towards those that are equivariant.

    Args:
        module: The network; it is not changed.
        example_inputs: Inputs as it takes them, ``(N, …)``, by which images are found.
        knob: κ: 0 leaves the weights, 1 makes every layer equivariant.
        group: ``"turns"`` by 90°, ``"mirror"`` images (left and right), or ``"both"``.

    Returns:
        A copy with other weights in all convolutions, and in dense layers that see an image (those that also give one
        are made equivariant, others invariant).

    Raises:
        InputError: If an option is not as described, no layer sees an image, or an image that is to be turned is not
            square.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3))
        >>> x = torch.randn(1, 1, 4, 4)
        >>> even = soften(net, x, 1.0)
        >>> torch.allclose(even(x), even(x.rot90(1, (2, 3))), atol=1e-5)
        True
    """
    if not isinstance(knob, (int, float)) or not 0 <= knob <= 1:
        raise InputError("a knob from 0 to 1", shown(knob), "knob=0.5")
    if group not in get_args(Group):
        raise InputError("group 'turns', 'mirror' or 'both'", shown(group), "group='turns'")
    found, changed = copy.deepcopy(module), False
    for name, grid in grids(module, example_inputs).items():
        layer = found.get_submodule(name)
        for w, shapes in _images(layer, grid):
            if group != "mirror" and any(s[-1] != s[-2] for s in shapes):
                got = f"images of {' and '.join(str(s) for s in shapes)} at layer {name!r}"
                raise InputError("square images and filters to turn", got, "group='mirror'")
            with torch.no_grad():
                w += knob * (_mean(w, shapes, group) - w)
            changed = True
    if not changed:
        raise InputError("a layer that sees an image", "none in this network", "pass images (N, C, H, W)")
    return found


def _images(layer: nn.Module, grid: Grid) -> list[tuple[Tensor, tuple[Shape, ...]]]:
    # The layer's tensors whose last axes are images, one or two, and what these are.
    if isinstance(layer, nn.Conv2d):
        inner, height, width = layer.weight.shape[1:]
        return [(layer.weight, ((inner, height, width),))]
    if grid.input is None or not isinstance(layer, nn.Linear):
        return []
    if grid.output is None:
        return [(layer.weight, (grid.input,))]
    bias = [] if layer.bias is None else [(layer.bias, (grid.output,))]
    return [(layer.weight, (grid.output, grid.input)), *bias]


def _mean(w: Tensor, shapes: tuple[Shape, ...], group: Group) -> Tensor:
    # The mean over the group, which moves all images of a tensor at once.
    images = w.reshape(-1, *(n for s in shapes for n in s))
    moved = []
    for g in _GROUPS[group]:
        one = g(images)
        # The first of two images has axes 1, 2, 3.
        moved.append(one if len(shapes) == 1 else g(one.movedim((2, 3), (-2, -1))).movedim((-2, -1), (2, 3)))
    return torch.stack(moved).mean(0).reshape(w.shape)
