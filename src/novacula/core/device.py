"""Where tensors are computed: which device is meant, whether it is there, and how an object gets to it.

A target is computed where its network lies, and data come to it (`novacula.data.placing`). Random numbers are always
drawn on the host, from named streams (`novacula.core.rng`), and moved: a run on another device meets the same numbers,
and differs by rounding alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from novacula.core.checks.numbers import shown
from novacula.core.errors import InputError
from novacula.core.params import Params

T = TypeVar("T")

_FAILURES = (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError)


HOST = torch.device("cpu")


def find_device(name: str | torch.device, *, double: bool = True) -> torch.device:
    """The device that a name means.

    Args:
        name: ``"auto"`` for an accelerator where there is one that has float64, else the processor; or a name of
            torch's, ``"cpu"``, ``"cuda"``, ``"cuda:1"``; or a device.
        double: Whether it must compute in float64; steps of training need not.

    Returns:
        The device, which is there.

    Raises:
        InputError: If it is no device, is not there, or does not compute in float64, in which log-determinants are
            taken.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if isinstance(name, str) and name == "auto":
        there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return there if there is not None and _missing(there) is None else HOST
    try:
        device = torch.device(name)
    except _FAILURES as error:
        raise InputError("a device of torch's", shown(name), "use 'auto', 'cpu' or 'cuda'") from error
    if (missing := _missing(device, torch.float64 if double else torch.float32)) is not None:
        there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        also = "" if there is None else f", {there.type}"
        raise InputError(
            f"a device that is there (cpu{also}) and has float64", f"{device}: {missing}", "use device='auto' or 'cpu'"
        )
    return device


def divided(
    name: str | torch.device | None, *, steps: bool = True
) -> tuple[torch.device | None, str | torch.device | None]:
    """A device without float64, to which ``steps`` of a training can go, and the host for all else.

    Returns:
        None and the device itself where there is no need, or no way.
    """
    if name is None or name == "auto" or not steps:
        return None, name
    device = find_device(name, double=False)
    return (None, name) if _missing(device) is None else (device, HOST)


def _missing(device: torch.device, dtype: torch.dtype = torch.float64) -> str | None:
    # What a device lacks, found by trying.
    if device.type == "meta":
        return "it holds no values"
    try:
        return None if float(torch.ones(1, dtype=dtype, device=device).sum()) == 1 else "it computes wrongly"
    except _FAILURES as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]


def device_of(params: Params) -> torch.device:
    """Where a network with these weights is, and all of it is computed."""
    return next(iter(params.values())).device


def on_device(value: T, device: str | torch.device | None, *, now: torch.device) -> T:
    """A copy on the device of this name; the value itself where none is named, or it is there now."""
    found = now if device is None else find_device(device)
    return value if found == now else moved(value, found)


def moved(value: T, device: torch.device) -> T:
    """A deep copy on a device.

    Args:
        value: Anything that can be deep-copied: a module, a target, a posterior.
        device: Where the copy's tensors will be.

    Returns:
        The copy; the value itself is not changed. Numbers in float64 come in float32 where the device has none. Tensors
        that require a gradient and are no parameters keep their graph, so that gradients reach them from the other
        device.

    Example:
        >>> moved({"w": torch.zeros(2)}, torch.device("cpu"))["w"].device
        device(type='cpu')
    """
    with _Moving(device):
        return copy.deepcopy(value)


class _Moving(TorchFunctionMode):
    """While it is active, `copy.deepcopy` makes copies on a device; `nn.Parameter` copies itself by `clone`."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.narrow = _missing(device) is not None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.__deepcopy__ and (args[0].requires_grad or args[0].device != self.device):
            return self._parameter(args[0]) if isinstance(args[0], torch.nn.Parameter) else self._placed(args[0])
        if func is Tensor.clone:
            return self._placed(func(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def _parameter(self, w: Tensor) -> Tensor:
        return torch.nn.Parameter(self._placed(w.detach().clone()), w.requires_grad)

    def _placed(self, t: Tensor) -> Tensor:
        return t.to(self.device, torch.float32 if self.narrow and t.dtype == torch.float64 else t.dtype)
