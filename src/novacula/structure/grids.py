"""Which dense layers of a network go from images to images, found by looking at one pass.

A flattened image is a view of the image, and so is an image of a vector. So a dense layer's input is an image where
some layer before saw an image in the same memory; its output is one where a later layer sees one in the same memory,
or in that of what elementwise layers (those without weights that keep the shape) made of it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Grid:
    """The images that a layer goes between: ``(C, H, W)`` of its input and its output, None where it is none."""

    input: Shape | None
    output: Shape | None


def grids(module: nn.Module, example_inputs: Tensor) -> dict[str, Grid]:
    """The images that layers see and give, by the layer's name.

    Args:
        module: The network.
        example_inputs: Inputs as it takes them, ``(N, …)``.

    Returns:
        An entry for every `nn.Linear` and `nn.Conv2d` that is called.

    Raises:
        InputError: If the network does not take the inputs.
    """
    if any(isinstance(w, nn.parameter.UninitializedParameter) for w in module.parameters()):
        raise InputError("a network with its weights", "lazy layers without a shape", "call it once on a batch before")
    trace = _Trace(len(example_inputs))
    network = copy.deepcopy(module).eval()
    with ExitStack() as stack, torch.no_grad():
        for name, layer in network.named_modules():
            if not any(layer.children()):
                stack.callback(layer.register_forward_hook(trace.hook(name)).remove)
        # A clone: a network may begin by flattening what it is given.
        x = example_inputs.clone()
        trace.see(x)
        try:
            network(x)
        except (RuntimeError, TypeError, ValueError) as error:
            hint = "pass a batch of inputs, data.x[:2]"
            raise InputError("example inputs that the network takes", str(error).splitlines()[0], hint) from error
    return {name: Grid(trace.image(x), trace.image(y)) for name, (x, y) in trace.layers.items()}


class _Trace:
    """What was seen in one pass; tensors are kept, so that no memory is used twice."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.layers: dict[str, tuple[Tensor, Tensor]] = {}
        self._kept: list[Tensor] = []
        self._shapes: dict[int, Shape] = {}
        self._from: dict[int, int] = {}

    def hook(self, name: str) -> Callable[..., None]:
        def seen(layer: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if not args or not isinstance(args[0], Tensor) or not isinstance(out, Tensor):
                return
            x = args[0]
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                self.layers.setdefault(name, (x, out))
            elif x.shape == out.shape and not any(True for _ in layer.parameters()) and _place(x) != _place(out):
                self._from[_place(out)] = _place(x)
            self.see(x)
            self.see(out)

        return seen

    def see(self, x: Tensor) -> None:
        self._kept.append(x)
        if x.ndim == 4 and x.is_contiguous() and len(x) == self.n:
            self._shapes.setdefault(self._root(x), (x.shape[1], x.shape[2], x.shape[3]))

    def image(self, x: Tensor) -> Shape | None:
        shape = self._shapes.get(self._root(x))
        fits = shape is not None and len(x) == self.n and x.numel() == self.n * math.prod(shape)
        return shape if fits else None

    def _root(self, x: Tensor) -> int:
        place = _place(x)
        while place in self._from:
            place = self._from[place]
        return place


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()
