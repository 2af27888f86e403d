"""Layers of several parts, whose outputs are added; each part has weights, and so precisions, of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

from torch import Tensor, nn

from novacula.core.errors import InputError

Layer = TypeVar("Layer", bound=nn.Module)


class Parted(nn.Module):
    """A layer of several parts: attributes of these names, None where a part is gone."""

    parts: ClassVar[tuple[str, ...]]


def parts(module: nn.Module) -> dict[str, dict[str, list[str]]]:
    """The parts of layers that have several.

    Args:
        module: What `relax` or `share` gave.

    Returns:
        By the layer's name, for each part, the names of its tensors.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, Parted):
            prefix = f"{name}." if name else ""
            found[name] = {
                part: [f"{prefix}{part}.{k}" for k, _ in layer.get_submodule(part).named_parameters()]
                for part in layer.parts
                if getattr(layer, part) is not None
            }
    return found


def keep(module: nn.Module, layers: Mapping[str, str]) -> nn.Module:
    """A network with one part alone in some of its relaxed layers.

    Args:
        module: What `relax` or `share` gave; it is not changed.
        layers: By the layer's name, the part that it keeps.

    Returns:
        A copy without the others.

    Raises:
        InputError: If a layer has no such part.
    """
    found, known = copy.deepcopy(module), parts(module)
    for name, part in layers.items():
        if part not in known.get(name, {}):
            told = "; ".join(f"{layer}: {', '.join(of)}" for layer, of in known.items())
            raise InputError(
                f"parts of layers that have several ({told})", f"{name!r}: {part!r}", "see nv.structure.parts"
            )
        for other in known[name].keys() - {part}:
            setattr(found.get_submodule(name), other, None)
    return found


def shares(module: nn.Module, effective: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The effective number of parameters of layers that have several, by part.

    Args:
        module: What `relax` or `share` gave.
        effective: What `novacula.evidence.effective` gave, by tensor.

    Returns:
        By the layer's name, the number for each part.
    """
    return {
        layer: {part: sum(effective.get(name, 0.0) for name in names) for part, names in known.items()}
        for layer, known in parts(module).items()
    }


def total(made: Sequence[Tensor | None]) -> Tensor:
    """The sum of what the parts that are there made: `keep` leaves one at least."""
    first, *others = [v for v in made if v is not None]
    for v in others:
        first = first + v
    return first


def silent(layer: Layer, like: Tensor) -> Layer:
    """A layer with weights of nought, in the dtype and on the device of others."""
    for w in layer.parameters():
        nn.init.zeros_(w)
    return layer.to(like)
