"""Calling a module with tensors in the place of its parameters and buffers, whatever they share.

`torch.func.functional_call` puts tensors in and takes them out name by name. Where two names lead to the *same layer*
(a layer that is used in two places), it takes out what it has just put in, and leaves it in the module. So each place
gets its tensor once here: names of one layer count as one, and a tensor that different layers share (tied weights) is
put into each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

Others = Mapping[str, tuple[str, ...]]
"""By the first name of a tensor, its names in other layers."""


def others_of(module: nn.Module) -> Others:
    """The further names of tensors that different layers of a module share."""
    first: dict[int, str] = {}
    found: dict[str, tuple[str, ...]] = {}
    for prefix, layer in module.named_modules():  # each layer once, by its first name
        for key, tensor in [*layer._parameters.items(), *layer._buffers.items()]:
            name = f"{prefix}.{key}" if prefix else key
            if tensor is not None and first.setdefault(id(tensor), name) != name:
                found[first[id(tensor)]] = (*found.get(first[id(tensor)], ()), name)
    return found


def call_with(
    module: nn.Module,
    point: dict[str, Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    others: Others | None = None,
) -> Any:
    """What a module gives with these tensors in the place of its own.

    Args:
        module: The module; it has its own tensors back afterwards.
        point: Tensors by their first names. A buffer that the module sets to another tensor is that one afterwards.
        args: What it is called with.
        kwargs: The same, by name.
        others: What `others_of` gives, if it is known.

    Returns:
        Its output.
    """
    others = others_of(module) if others is None else others
    whole = point
    if others:
        whole = {**point, **{name: w for k, w in point.items() for name in others.get(k, ())}}
    out = functional_call(module, whole, args, dict(kwargs or {}), tie_weights=False)
    point.update({k: whole[k] for k in point})
    return out
