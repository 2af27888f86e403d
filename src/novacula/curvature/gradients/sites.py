"""Where a network multiplies by a weight: one `Site` for every call of a linear, convolution or normalisation layer.

Linear and convolution layers are the same product. With ``a_t (I,)`` the inputs that a position ``t`` sees (the
features of a token, the unfolded patch of a pixel) and ``W (O, I)`` the weight as a matrix, the output at the position
is ``W a_t + bias``. The gradient of anything with respect to W is then ``Σ_t b_t a_tᵀ``, where ``b_t (O,)`` is its
gradient with respect to the output at ``t``. Grouped convolutions are G such products side by side. Normalisation
layers scale, ``w ⊙ x̂_t + bias``, and their gradient is ``Σ_t b_t ⊙ x̂_t``.

References:
    A Kronecker-factored approximate Fisher matrix for convolution layers. R. Grosse and J. Martens, 2016.
    arXiv:1602.01407.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from novacula.core.params import Params

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d
Product: TypeAlias = nn.Linear | Convolution
Channelwise: TypeAlias = nn.GroupNorm | nn.modules.batchnorm._NormBase
Scale: TypeAlias = Channelwise | nn.LayerNorm | nn.RMSNorm
Layer: TypeAlias = Product | Scale


@dataclass(frozen=True, eq=False)
class Site:
    """One call of one layer, with the tensors that went in and came out."""

    layer: str  # the layer's name in the network
    weight: str | None  # the weight's name among the parameters (its first name where it is tied)
    bias: str | None  # the same for the bias
    module: Layer  # the layer
    buffers: Params  # the layer's buffers during the call
    input: Tensor  # what the layer was given
    output: Tensor  # what it returned; a node of the graph that leads to the network's outputs
    examples: int  # B, the number of examples
    copies: int  # S, the number of transformed copies of each

    @property
    def product(self) -> bool:
        """Whether the layer multiplies by a matrix (rather than scaling)."""
        return isinstance(self.module, Product)

    @property
    def factors(self) -> tuple[int, int, int]:
        """The shape ``(G, O, I)`` of the weight as G matrices."""
        rows, groups = self.module.weight.shape[0], self.module.groups if isinstance(self.module, Convolution) else 1
        return groups, rows // groups, self.module.weight.numel() // rows

    @property
    def regular(self) -> bool:
        """Whether the call's first axis can be the examples' (otherwise the site has no per-example form)."""
        convolution = isinstance(self.module, Convolution)
        shaped = self.output.ndim == self.module.weight.ndim if convolution else self.output.ndim >= 2
        return shaped and self.output.shape[0] % (self.examples * self.copies) == 0

    def inputs(self, *, average: bool = False) -> Tensor:
        """What each position of a linear or convolution layer sees, ``(B, S, G, T, I)``."""
        x = self._group(self.input)
        if average and self.copies > 1:
            x = x.mean(1, keepdim=True)
        b, s, m = x.shape[:3]
        if not isinstance(self.module, Convolution):
            return x.reshape(b, s, 1, -1, x.shape[-1])
        patches = unfold(x.flatten(0, 2), self.module).unflatten(1, (self.module.groups, -1))
        patches = patches.unflatten(0, (b, s, m)).movedim(2, -2)
        return patches.flatten(-2).transpose(-1, -2)

    def cotangents(self, gradient: Tensor, *, total: bool = False) -> Tensor:
        """Gradients with respect to the output of a linear or convolution layer, position by position."""
        g = self._group(gradient)
        if total and self.copies > 1:
            g = g.sum(1, keepdim=True)
        b, s = g.shape[:2]
        if not isinstance(self.module, Convolution):
            return g.reshape(b, s, 1, -1, g.shape[-1])
        g = g.flatten(4).unflatten(3, (self.module.groups, -1)).movedim(2, -2)
        return g.flatten(-2).transpose(-1, -2)

    def weight_gradients(self, gradients: Sequence[Tensor]) -> Tensor:
        """Per-example gradients with respect to the weight, ``(B, K, *weight.shape)``."""
        layer, shape = self.module, self.module.weight.shape
        if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            return self._image_gradients(layer, gradients)
        if not self.product:
            x = functional_call(self.module, {**self.buffers, **self._unit()}, (self.input,))
            return torch.stack([self._total(g * x) for g in gradients], 1)
        a = merge(self.inputs())
        b = torch.stack([merge(self.cotangents(g)).transpose(-1, -2) for g in gradients], 2)  # (B, G, K, O, T)
        products = b.flatten(2, 3) @ a
        return products.unflatten(2, b.shape[2:4]).transpose(1, 2).reshape(b.shape[0], b.shape[2], *shape)

    def bias_gradients(self, gradients: Sequence[Tensor]) -> Tensor:
        """Per-example gradients with respect to the bias, ``(B, K, *bias.shape)``."""
        return torch.stack([self._total(g) for g in gradients], 1)

    def _image_gradients(self, layer: nn.Conv2d, gradients: Sequence[Tensor]) -> Tensor:
        # im2col and a product for each copy need fewer passes over memory than products over all copies' positions,
        # unless the gradients are larger than what they are made of.
        padding = (int(layer.padding[0]), int(layer.padding[1]))
        a = F.unfold(self.input, layer.kernel_size, layer.dilation, padding, layer.stride)
        a = a.unflatten(0, (self.examples, -1)).unflatten(2, (layer.groups, -1))  # (B, S, G, I, T)
        b = torch.stack([g.flatten(2).unflatten(1, (layer.groups, -1)) for g in gradients], 2).flatten(2, 3)
        b = b.unflatten(0, (self.examples, -1))  # (B, S, G, K O, T)
        i, ko, t = a.shape[3], b.shape[3], a.shape[4]
        if i * ko <= t * (i + ko):
            products = (b @ a.mT).sum(1)
        else:
            products = b.movedim(1, 3).flatten(3) @ a.movedim(1, 3).flatten(3).mT
        k = len(gradients)
        return products.unflatten(2, (k, -1)).transpose(1, 2).reshape(self.examples, k, *layer.weight.shape)

    def _group(self, x: Tensor) -> Tensor:
        # The first axis holds examples, copies and perhaps more: frames of a video, tokens of a flattened sequence.
        return x.unflatten(0, (self.examples, self.copies, -1))

    def _total(self, x: Tensor) -> Tensor:
        # Sum over positions: channels come second in images, features last in tables and sequences.
        x = x.unflatten(0, (self.examples, -1))
        if isinstance(self.module, nn.Linear):
            features = 1
        elif isinstance(self.module, nn.LayerNorm | nn.RMSNorm):
            features = len(self.module.normalized_shape)
        else:
            return x.sum((1, *range(3, x.ndim)))
        return x.sum(tuple(range(1, x.ndim - features)))

    def _unit(self) -> Params:
        # Weight one and bias zero: the layer then returns what it would scale.
        named = self.module.named_parameters(recurse=False)
        units = {"weight": torch.ones_like, "bias": torch.zeros_like}
        return {name: units[name](w, dtype=self.input.dtype) for name, w in named if name in units}


def merge(positions: Tensor) -> Tensor:
    """Treat the copies as further positions: positions ``(B, S, G, T, ·)`` to ``(B, G, S · T, ·)``."""
    return positions.squeeze(1) if positions.shape[1] == 1 else positions.transpose(1, 2).flatten(2, 3)


def unfold(x: Tensor, layer: Convolution) -> Tensor:
    """The patches that a convolution multiplies by its weight, ``(N, channels · kernel, T)``."""
    x = F.pad(x, _padding(layer), mode=_MODES[layer.padding_mode])
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        # A view: windows of the dilated kernel's span, then every d-th element of each.
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    spatial = len(kernel)
    order = [0, 1, *range(2 + spatial, 2 + 2 * spatial), *range(2, 2 + spatial)]
    return x.permute(order).flatten(1, 1 + spatial).flatten(2)


_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


def _padding(layer: Convolution) -> list[int]:
    # As F.pad takes it: last axis first, left and right.
    if layer.padding == "valid":
        return [0, 0] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        pairs = [(t // 2, t - t // 2) for t in totals]
    else:
        pairs = [(int(p), int(p)) for p in layer.padding]
    return [side for pair in reversed(pairs) for side in pair]
