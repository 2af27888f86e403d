"""`FilterBank`: layers whose filters are transformed copies of one another.

A unit that looks for a pattern W becomes S units that look for ``W ∘ t_s``, with random ``t_s ~ p(t | η)``, and what
they find is pooled, after a nonlinearity of the network's. For one layer this is the average over transformed inputs,
as ``⟨W, T x⟩ = ⟨|det A| W ∘ t, x⟩`` for the map ``t(p) = A p + b`` that ``T`` moves contents by; but it costs S small
filters instead of S inputs, it can be had in any layer, and each layer has extents of its own.

The extents η are what the layer's class names in ``learnable``, so that the evidence learns them
(`novacula.target.Target.learnable`). The noise of the S maps is a buffer that every pass in train mode draws anew: a
statistic of the network, for everything that looks at fixed weights.

References:
    Learning invariant weights in neural networks. T. F. A. van der Ouderaa and M. van der Wilk, 2022. arXiv:2202.12439.
    Group equivariant convolutional networks. T. Cohen and M. Welling, 2016. arXiv:1602.07576.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole, shown
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.invariances import Affine
from novacula.invariances.affine import AFFINE_NAMES, AffineName
from novacula.invariances.noise import Distribution, symmetric
from novacula.invariances.warp import affine_grid, inverted, sample, splat
from novacula.structure.grids import Grid, Shape, grids

Pool = Literal["mean", "max", "channels"]


class Transformed(nn.Module):
    """A convolution or dense layer with S transformed copies of each filter, as further rows or channels.

    Args:
        layer: The layer; its weights stay its own.
        shape: The images that a dense layer looks at, ``(C, H, W)``; of a convolution, its kernel's own.
        bank: The generators, S and the rest.
    """

    learnable = ("eta",)
    noise: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear, shape: Shape, bank: FilterBank) -> None:
        super().__init__()
        self.layer, self.shape, self.bank = layer, shape, bank
        like = layer.weight.detach()
        self.eta = like.new_full((len(bank.names),), bank.init)
        self.register_buffer("noise", bank.draw(like, generator(bank.seed, "filters")))

    def filters(self) -> Tensor:
        """The transformed copies ``|det A_s| W ∘ t_s``, shape ``(S, *weight.shape)``."""
        grid, size = self._maps()
        weight = self.layer.weight
        images = weight.reshape(1, -1, *self.shape[1:]).expand(len(grid), -1, -1, -1)
        return (sample(images, grid, "zeros") * size[:, None, None, None]).reshape(-1, *weight.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of S copies side by side, ``(N·S, O, …)``; or channels, ``(N, S·O, …)``."""
        if self.training:
            self.noise = self.bank.draw(self.noise, torch.default_generator)
        copies = self._dense(x) if isinstance(self.layer, nn.Linear) else self._convolved(x, self.layer)
        return copies.flatten(1, 2) if self.bank.pool == "channels" else copies.flatten(0, 1)

    def _dense(self, x: Tensor) -> Tensor:
        # (N, D) to (N, S, O).
        if self.training:
            filters = self.filters()
            bias = None if self.layer.bias is None else self.layer.bias.repeat(len(filters))
            return F.linear(x, filters.flatten(0, 1), bias).unflatten(1, (len(filters), -1))
        # The same by the transposed maps of inputs, and a plain call of the layer: what needs the gradient of each
        # example then meets a linear layer, and not a resampling of all filters for each of them.
        grid, size = self._maps()
        copies = splat(x.unflatten(1, self.shape), grid).flatten(2) * size[:, None]
        return self.layer(copies.flatten(0, 1)).unflatten(0, (len(x), -1))

    def _convolved(self, x: Tensor, layer: nn.Conv2d) -> Tensor:
        # (N, C, H, W) to (N, S, O, H', W').
        filters, groups = self.filters(), layer.groups
        # Channels of one group lie together: (G, S, O/G, …).
        whole = filters.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)
        out = F.conv2d(x, whole, None, layer.stride, layer.padding, layer.dilation, groups)
        out = out.unflatten(1, (groups, len(filters), -1)).transpose(1, 2).flatten(2, 3)
        return out if layer.bias is None else out + layer.bias[:, None, None]

    def _maps(self) -> tuple[Tensor, Tensor]:
        # Where the copies look, (S, H, W, 2), and |det A|, (S,).
        maps = Affine(eta=self.eta.clamp(-self.bank.most, self.bank.most), only=self.bank.names).maps(self.noise)
        inverse, shift = inverted(*maps, *self.shape[1:])
        return affine_grid(inverse, shift, *self.shape[1:]), torch.linalg.det(inverse).abs()

    def extra_repr(self) -> str:
        """The bank."""
        return str(self.bank)


class Pooled(nn.Module):
    """A layer whose outputs are pooled over the copies that lie side by side in its rows."""

    def __init__(self, layer: nn.Module, samples: int, pool: Pool) -> None:
        super().__init__()
        self.layer, self.samples, self.pool = layer, samples, pool

    def forward(self, x: Tensor) -> Tensor:
        """``(N·S, …)`` to ``(N, …)``."""
        copies = self.layer(x).unflatten(0, (-1, self.samples))
        return copies.mean(1) if self.pool == "mean" else copies.amax(1)


@dataclass(frozen=True)
class FilterBank:
    """Replace filters by transformed copies ``W ∘ t``, ``t ~ p(t | η)``, with extents η that the evidence learns.

    Args:
        generators: ``"affine"`` for all six of `Affine`, or a tuple of their names. Extents are those of `Affine`,
            about the filter's middle; a translation of 1 is half the filter's width or height.
        samples: S, copies of each filter; they come in opposite pairs.
        pool: ``"mean"`` or ``"max"`` over the copies, after the layer that the call names; ``"channels"`` keeps them
            as S·O channels, copy by copy, for the layers that follow.
        init: Where every extent starts.
        distribution: ``"uniform"`` within ± the extent, or ``"gaussian"`` with the same standard deviation.
        seed: Seed of the first noise; a pass in train mode draws it anew from torch's global generator.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.GELU(), nn.Linear(12, 10))
        >>> bank = FilterBank(("rotation",), samples=4)
        >>> other = bank(net, {"1": "2"}, torch.zeros(1, 1, 8, 8))
        >>> other(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    generators: Literal["affine"] | tuple[AffineName, ...] = "affine"
    samples: int = 8
    pool: Pool = "mean"
    init: float = 0.1
    distribution: Distribution = "uniform"
    seed: int = 0

    most: ClassVar[float] = 1.0  # beyond it a rotation comes round again, and contents leave their frame

    def __post_init__(self) -> None:
        check_whole("samples", self.samples)
        if self.pool not in ("mean", "max", "channels"):
            raise InputError("pool 'mean', 'max' or 'channels'", shown(self.pool), "pool='mean'")
        if not 0 <= self.init <= self.most:
            raise InputError("init within 0 and 1", shown(self.init), "init=0.1")
        Affine(only=self.names, distribution=self.distribution)

    @property
    def names(self) -> tuple[AffineName, ...]:
        """The generators, one for each extent."""
        return AFFINE_NAMES if self.generators == "affine" else self.generators

    def draw(self, like: Tensor, rng: torch.Generator) -> Tensor:
        """The noise of S maps, ``(S, K)``, spread evenly and in opposite pairs."""
        return symmetric(self.samples, (len(self.names),), like.new_empty(1), rng, self.distribution)

    def __call__(
        self, module: nn.Module, layers: Mapping[str, str] | Sequence[str], example_inputs: Tensor
    ) -> nn.Module:
        """A copy of a network with banks in the place of layers.

        Args:
            module: The network; it is not changed.
            layers: By the name of each layer, that of the layer after which its copies are pooled (an activation: what
                lies between works on each copy). With ``pool="channels"``, names alone.
            example_inputs: Inputs as the network takes them, ``(N, …)``, by which a dense layer's images are found.

        Returns:
            The network. The weights of a layer that is replaced or pooled after go by ``….layer.weight``.

        Raises:
            InputError: If a layer is not there, or neither a convolution with zeros around the image nor a dense
                layer that looks at an image.
        """
        pairs = dict(layers) if isinstance(layers, Mapping) else {}
        names = list(pairs) if pairs else _names(layers)
        if not names or bool(pairs) == (self.pool == "channels"):
            wanted = "names of layers" if self.pool == "channels" else "layers with those after which to pool"
            raise InputError(wanted, shown(layers), "['0'] for pool='channels', else {'0': '1'}")
        found, known = copy.deepcopy(module), grids(module, example_inputs)
        modules = dict(found.named_modules())
        for name in [*names, *pairs.values()]:
            if not name or name not in modules:
                raise InputError(f"a layer among {', '.join(k for k in modules if k)}", repr(name), "check the name")
        for name in names:
            layer = modules[name]
            found.set_submodule(name, Transformed(layer, _shape(name, layer, known.get(name)), self))  # pyright: ignore[reportArgumentType]  # `_shape` refuses the others
        for name in pairs.values():
            found.set_submodule(name, Pooled(found.get_submodule(name), self.samples, self.pool))
        return found


def _names(layers: Mapping[str, str] | Sequence[str]) -> list[str]:
    return [layers] if isinstance(layers, str) else list(layers)


def _shape(name: str, layer: nn.Module, grid: Grid | None) -> Shape:
    # The image that a filter is.
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode == "zeros":
            return (layer.in_channels // layer.groups, *layer.kernel_size)  # pyright: ignore[reportReturnType]  # two sides
        raise InputError("a convolution with zeros around the image", layer.padding_mode, "padding_mode='zeros'")
    if not isinstance(layer, nn.Linear):
        raise InputError("an nn.Conv2d or nn.Linear", f"a {type(layer).__name__} under {name!r}", "name another layer")
    if grid is None or grid.input is None:
        got = f"{name!r}, whose input is not seen to be a flattened image"
        raise InputError("a dense layer that looks at an image", got, "put nn.Flatten() before it, after images")
    return grid.input
