"""The layers of a network: names of tied weights, calls of linear layers in one pass, and which of them is the last."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
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

    def weighted(self, x: Tensor, forward: Forward, f: Tensor, xs: Tensor, *, graph: bool) -> Tensor:
        """Positions summed with the weights that the first output gives them: x ``(B·S, …, D)`` to ``(B, D)``."""
        first = torch.zeros_like(f).index_fill_(1, torch.tensor([0], device=f.device), 1.0)
        options = {"create_graph": graph, "allow_unused": True, "materialize_grads": True}
        (slope,) = torch.autograd.grad(f, self.output, first, **options)
        steep = forward.units.steepened(torch.ones_like(f[:1]).unsqueeze(-1))[0, 0, 0]
        share = slope[..., :1] / steep
        return (share * x).unflatten(0, xs.shape[:2]).flatten(1, -2).sum(1)


def first_names(module: nn.Module) -> dict[str, str]:
    """Each name of a parameter → its first one, under which a tied weight is known."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(w), name) for name, w in module.named_parameters(remove_duplicate=False)}


def calls(
    forward: Forward, params: Params, xs: Tensor, layer: str | None = None, *, connected: bool = False
) -> tuple[list[Call], Tensor]:
    """The calls of linear layers, or of one layer, and the averaged outputs ``(B, C)``; xs ``(B, S, …)``."""
    # Connected, the network's outputs can be differentiated by those of the calls, whatever requires a gradient.
    found: list[Call] = []

    def hook(name: str) -> Callable[..., None]:
        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            if connected and not output.requires_grad:
                output.requires_grad_()
            found.append(Call(name, args[0] if args else kwargs["input"], output))

        return record

    with ExitStack() as stack:
        for name, module in forward.module.named_modules():
            if name == layer or (layer is None and isinstance(module, nn.Linear)):
                stack.callback(module.register_forward_hook(hook(name), with_kwargs=True).remove)
        if connected:
            stack.enter_context(torch.enable_grad())
        f = forward.average(params, xs)
    return found, f


def steady(forward: Forward, params: Params, xs: Tensor) -> dict[str, frozenset[int]]:
    """The layers that see as many rows for each example, whatever the batch is, and how many.

    A network that sends examples to parts of it by their values (a mixture of experts) has others.

    Args:
        forward: The network.
        params: The weights.
        xs: Inputs ``(B, S, …)``; up to 16 examples are looked at.

    Returns:
        Rows of each call for an example, by the layer's name.
    """
    patterns: list[dict[str, list[float]]] = []
    for part in (xs[:1, :1], xs[:2, :1], xs[:16, :1]):
        seen: dict[str, list[float]] = {}
        with ExitStack() as stack, torch.no_grad():
            for name, module in forward.module.named_modules():
                if next(module.parameters(recurse=False), None) is not None:
                    hook = _rows_of(name, len(part), seen)
                    stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            forward.average(params, part)
        patterns.append(seen)
    first = patterns[0]
    alike = [name for name in first if all(p.get(name) == first[name] for p in patterns)]
    return {name: frozenset(map(int, first[name])) for name in alike if all(r.is_integer() for r in first[name])}


def _rows_of(name: str, examples: int, seen: dict[str, list[float]]) -> Callable[..., None]:
    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("input")
        if isinstance(x, Tensor) and x.ndim:
            seen.setdefault(name, []).append(x.shape[0] / examples)

    return note


def check_rows(layer: str, rows: int, examples: int, expected: frozenset[int]) -> None:
    """Refuse a call whose rows are no multiple of the examples, or not the one that the layer is known to see."""
    if rows % examples or rows // examples not in expected:
        raise InputError(
            f"layer {layer!r} to see {', '.join(map(str, sorted(expected)))} rows of each example, as in other batches",
            f"{rows} rows of {examples} examples: the network sends examples to its parts by their values",
            "compute every part for all examples, with the weight zero for those that are not sent to it",
        )


def last_linear(forward: Forward, params: Params, xs: Tensor) -> tuple[str | None, int]:
    """The linear layer whose output is the network's, and of how many calls; xs ``(B, S, …)``."""
    found, f = calls(forward, params, xs)
    last = [call.layer for call in found if call.gives(forward, f, xs)]
    return (last[-1] if last else None), len(found)
