"""The layers of a network: names of tied weights, calls of linear layers in one pass, and which of them is the last."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.forward import Forward
from novacula.core.params import Params


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer: its name, what went in and what came out."""

    layer: str
    input: Tensor
    output: Tensor

    def gives(self, forward: Forward, f: Tensor, xs: Tensor) -> bool:
        """Whether the outputs ``f (B, C)``, averaged over copies xs ``(B, S, …)``, are this call's."""
        rows = xs.shape[0] * xs.shape[1]
        same = self.output.shape == (rows, f.shape[1])
        return same and torch.equal(forward.units.outward(self.output).unflatten(0, xs.shape[:2]).mean(1), f)


def first_names(module: nn.Module) -> dict[str, str]:
    """Each name of a parameter → its first one, under which a tied weight is known."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(w), name) for name, w in module.named_parameters(remove_duplicate=False)}


def calls(forward: Forward, params: Params, xs: Tensor, layer: str | None = None) -> tuple[list[Call], Tensor]:
    """The calls of linear layers, or of one layer, and the averaged outputs ``(B, C)``; xs ``(B, S, …)``."""
    found: list[Call] = []

    def hook(name: str) -> Callable[..., None]:
        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            found.append(Call(name, args[0] if args else kwargs["input"], output))

        return record

    with ExitStack() as stack:
        for name, module in forward.module.named_modules():
            if name == layer or (layer is None and isinstance(module, nn.Linear)):
                stack.callback(module.register_forward_hook(hook(name), with_kwargs=True).remove)
        f = forward.average(params, xs)
    return found, f


def last_linear(forward: Forward, params: Params, xs: Tensor) -> tuple[str | None, int]:
    """The linear layer whose output is the network's, and of how many calls; xs ``(B, S, …)``."""
    found, f = calls(forward, params, xs)
    last = [call.layer for call in found if call.gives(forward, f, xs)]
    return (last[-1] if last else None), len(found)
