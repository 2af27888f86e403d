"""One forward pass under hooks: the calls of a network's layers, as nodes of one graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.attention import plain_attention
from novacula.core.forward import Forward
from novacula.core.layers import first_names
from novacula.core.params import Params
from novacula.curvature.gradients.sites import Layer, Site


@dataclass(frozen=True, eq=False)
class Captured:
    """One recorded forward pass."""

    outputs: Tensor  # averaged outputs ``f̄ (B, C)``, with their graph
    sites: tuple[Site, ...]  # the calls of covered weights and biases, in the order of the calls
    covered: tuple[str, ...]  # the parameters that `per_example_gradients` returns
    params: Params  # the weights


def record(
    forward: Forward, params: Params, xs: Tensor, anchor: Tensor, names: frozenset[str], copies: bool
) -> tuple[Captured, bool]:
    """Run the network under hooks that keep every call of the layers a `Site` can describe; xs ``(B, S, …)``."""
    aliases = first_names(forward.module)
    sites: list[Site] = []
    versions: list[tuple[int, int]] = []

    def hook(layer: str, module: Layer) -> Callable[..., Tensor | None]:
        weight, bias = (
            name if name in names else None
            for name in (aliases.get(f"{layer}.{k}" if layer else k) for k in ("weight", "bias"))
        )

        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            if (weight is None and bias is None) or not torch.is_grad_enabled():  # a network's own constants
                return None
            x = args[0] if args else kwargs["input"]
            # Starting the graph here keeps weights out of it: backward computes no weight gradients.
            node = output if output.requires_grad else start(anchor, output)
            x = x.clone() if copies else x
            buffers = dict(module.named_buffers(recurse=False))
            sites.append(Site(layer, weight, bias, module, buffers, x, node, xs.shape[0], xs.shape[1]))
            versions.append((x._version, node._version))
            return node.clone() if copies else node

        return keep

    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        # The other attention kernels have no second derivative.
        stack.enter_context(plain_attention())
        for layer, module in forward.module.named_modules():
            if isinstance(module, Layer):
                handle = module.register_forward_hook(hook(layer, module), prepend=True, with_kwargs=True)
                stack.callback(handle.remove)
        outputs = forward.average(params, xs)
    intact = all((s.input._version, s.output._version) == v for s, v in zip(sites, versions, strict=True))
    return Captured(outputs, tuple(sites), tuple(n for n in params if n in names), params), intact


def start(anchor: Tensor, x: Tensor) -> Tensor:
    """Begin a graph at a tensor that does not require a gradient."""
    return _Start.apply(anchor, x)


class _Start(torch.autograd.Function):
    """The identity, as a place where a graph starts."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[None, None]:
        return None, None
