"""A network whose dropout layers multiply by stored masks, wherever in the network they are.

A mask before a linear layer is the same as a scaling of the columns of its weight, but before a convolution, before two
consumers or on a residual branch there are no weights that would do the same. So the masks are tensors of their own: in
a copy of the network every dropout layer multiplies by a buffer, which is 1 unless `torch.func.functional_call` is
given another. The parameters, and with them the prior, stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from novacula.core.errors import InputError
from novacula.core.forward import Forward
from novacula.core.modules.call import call_with
from novacula.core.params import Params
from novacula.core.rng import global_draws
from novacula.target import Target

_CHANNELS = nn.Dropout1d | nn.Dropout2d | nn.Dropout3d


class Masked(nn.Module):
    """A dropout layer that multiplies by stored masks, one for each of its calls in a forward pass."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.call, self.calls = 0, calls
        for i in range(calls):
            self.register_buffer(mask_name(i), torch.ones(()))
        # A hook tells torch's fused transformer layers that they must call this one.
        self.register_forward_pre_hook(_nothing)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the mask of this call; x ``(rows, …)``."""
        call, self.call = self.call, self.call + 1
        if call >= self.calls:
            raise RuntimeError(f"a dropout layer is called more than the {self.calls} times of when it was looked at")
        mask = getattr(self, mask_name(call))
        if mask.ndim == 0:
            return x
        # The rows are the examples, or some rows of each (tokens, frames), and so are the mask's.
        return (x.unflatten(0, (-1, mask.shape[-x.ndim])) * mask).flatten(0, 1)


def mask_name(call: int) -> str:
    """The name of a mask in its layer."""
    return f"mask_{call}" if call else "mask"


@dataclass(frozen=True)
class Place:
    """A mask of the network."""

    layer: str  # the layer's name
    name: str  # the buffer's name
    p: float  # the share that is dropped
    shape: tuple[int, ...]  # the mask's shape, of one example's rows


@dataclass(frozen=True, eq=False)
class Masks:
    """A target whose network takes masks, and what they are like."""

    target: Target  # the target
    places: tuple[Place, ...]  # the masks
    missed: tuple[str, ...] = ()  # reservations: dropout that no mask replaces

    def draw(self, n: int, like: Tensor, rng: torch.Generator) -> Params:
        """Draw masks: 0 with probability p, else ``1/(1 − p)``, ``(n, *shape)``."""
        found: Params = {}
        for place in self.places:
            uniform = torch.rand((n, *place.shape), generator=rng, device=rng.device)
            found[place.name] = (uniform >= place.p).to(like) / ((1 - place.p) or 1.0)
        return found


def masked(target: Target, x: Tensor, p: float | None = None) -> Masks:
    """The target whose network takes masks."""
    network = target.forward.over(target.forward.module).module  # a copy
    layers = _layers(network, p)
    missed = _missed(target.forward.over(network), x)
    places = tuple(place for name, layer in layers.items() for place in _places(network, target, name, layer, x, p))
    found = {id(layer): Masked(sum(q.layer == name for q in places)) for name, layer in layers.items()}
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in found:
                setattr(parent, name, found[id(child)])
    network.register_forward_pre_hook(_restart)
    forward = target.forward.over(network)
    with torch.no_grad():
        forward(target.params(), x)
    for name, layer in forward.module.named_modules():
        if isinstance(layer, Masked) and layer.call != layer.calls:
            raise InputError("dropout layers that are called", f"layer {name!r}, bypassed", "use layers of your own")
    return Masks(dataclasses.replace(target, forward=forward), places, missed)


def _layers(network: nn.Module, p: float | None) -> Mapping[str, _DropoutNd]:
    # The layers that drop something, by name.
    own = {name: m for name, m in network.named_modules() if isinstance(m, _DropoutNd)}
    for name, layer in own.items():
        if not isinstance(layer, nn.Dropout | _CHANNELS) and layer.p > 0:
            raise InputError(
                "dropout that multiplies by a mask",
                f"layer {name!r}, {type(layer).__name__}",
                "use nn.Dropout, or nn.Dropout1d, 2d, 3d for channels",
            )
    active = {n: m for n, m in own.items() if isinstance(m, nn.Dropout | _CHANNELS) and (m.p if p is None else p) > 0}
    if not active:
        raise InputError(
            "a network with dropout layers",
            f"{type(network).__name__} with {len(own)} of them, none of which drops anything",
            "add nn.Dropout(0.1) before some layers; p=0.1 gives a share to layers whose own is 0",
        )
    return active


def _places(
    network: nn.Module, target: Target, name: str, layer: _DropoutNd, x: Tensor, p: float | None
) -> list[Place]:
    # What the layer sees of one example, call by call.
    seen: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0].detach())

    handle = layer.register_forward_pre_hook(keep)
    with torch.no_grad():
        call_with(network, target.params(), *target.forward.arguments(x[:2]))
        both, seen = seen, []
        call_with(network, target.params(), *target.forward.arguments(x[:1]))
        one, seen = seen, []
    handle.remove()
    found: list[Place] = []
    for call, (a, b) in enumerate(zip(one, both, strict=True)):
        # The first example's rows come first, and are its own.
        tolerance = torch.finfo(a.dtype).eps ** 0.5
        if (
            len(b) != 2 * len(a)
            or b.shape[1:] != a.shape[1:]
            or not torch.allclose(b[: len(a)], a, tolerance, tolerance)
        ):
            raise InputError(
                "a dropout layer that sees the inputs on its first axis",
                f"layer {name!r}, which sees {tuple(b.shape)} for two inputs and {tuple(a.shape)} for one",
                "reorder the axes before it (batch_first=True), or set its p to 0",
            )
        shape = tuple(a.shape)
        if isinstance(layer, _CHANNELS):
            if a.ndim < 3:
                raise InputError(
                    "channels and positions before channel dropout", f"layer {name!r} sees {shape}", "use nn.Dropout"
                )
            shape = (*shape[:2], *[1] * (a.ndim - 2))
        found.append(Place(name, f"{name}.{mask_name(call)}", float(layer.p if p is None else p), shape))
    return found


def _missed(forward: Forward, x: Tensor) -> tuple[str, ...]:
    # Dropout inside of attention and recurrent layers, and whatever else is random in train mode.
    inner: list[str] = []
    quiet = forward.module
    for name, layer in quiet.named_modules():
        if isinstance(layer, _DropoutNd):
            layer.p = 0.0
        elif isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.dropout > 0:
            inner.append(name)
            layer.dropout = 0.0
        if not isinstance(layer, nn.modules.batchnorm._NormBase):
            layer.training = True
    with torch.no_grad(), global_draws(x.device, seed=0):
        first, second = (forward(forward.params(), x[:2]) for _ in range(2))
    found: list[str] = []
    if inner:
        found.append(f"the draws leave out the dropout inside of {', '.join(inner)}")
    if not torch.equal(first, second):
        found.append("the draws leave out what else is random in train mode (dropout as a function, other noise)")
    return tuple(found)


def _restart(module: nn.Module, args: Any) -> None:
    # With the network's next forward pass calls count from 0. Bound to no module, so that copies of it keep this.
    for layer in module.modules():
        if isinstance(layer, Masked):
            layer.call = 0


def _nothing(module: nn.Module, args: Any) -> None:
    pass


def check_share(p: float | None) -> None:
    """Refuse a share that is not in (0, 1)."""
    if p is not None and not 0 < p < 1:
        raise InputError("a share in (0, 1) to drop", f"p={p}", "use 0.1, or leave it out for the layers' own")
