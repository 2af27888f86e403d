"""A device that is not there: tensors on it say so, and no operation mixes them with those of the host.

Numbers live on the host, in a tensor that each of these wraps. What a tensor says of its device, which factory makes
it, and what may meet what, are as on a graphics card: an operation of tensors on two devices is refused, but for
scalars of the host, as torch has it. A copy to the host is only what asks for one (``.cpu()``, ``.to``, ``.item()``),
and these are counted.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
aten = torch.ops.aten
_DOUBLE: ContextVar[bool] = ContextVar("double", default=True)


@functools.cache
def device() -> torch.device:
    """The device, known to torch from the first call on."""
    _setup_privateuseone_for_python_backend(NAME)
    getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    return torch.device(NAME, 0)


class Elsewhere(Tensor):
    """A tensor on the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool = False) -> Elsewhere:
        if held.dtype == torch.float64 and not _DOUBLE.get():
            raise TypeError(f"Cannot convert a tensor to float64: {NAME} does not have it")
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device(),
            requires_grad=requires_grad,
        )
        made.held = held
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing is left to do."""

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held})"

    def tolist(self) -> Any:
        """Numbers for the host, as a card gives them."""
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refused, as on a card."""
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


_MOVES = {aten._to_copy.default}
_COPIES = {aten.copy_.default}
_JOINS = {aten.cat.default, aten.stack.default}
_CHOICES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
_READS = {aten._local_scalar_dense.default}


def _is_there(where: Any) -> bool:
    return where is not None and torch.device(where).type == NAME


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    there = [t for t in tensors if isinstance(t, Elsewhere)]
    here = [t for t in tensors if not isinstance(t, Elsewhere)]
    asked = kwargs.get("device")
    goes = _is_there(asked) if asked is not None else bool(there)
    strangers = [t for t in here if t.ndim or func in _JOINS]
    if func in _CHOICES and isinstance(args[0], Elsewhere):
        # Torch takes the indices of a choice there itself.
        strangers = [t for t in args[2:] if isinstance(t, Tensor) and t.ndim and not isinstance(t, Elsewhere)]
    if func not in _MOVES | _COPIES and there and strangers:
        shapes = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} of {shapes}")
    inner_args, inner_kwargs = tree_map(lambda t: t.held if isinstance(t, Elsewhere) else t, (args, kwargs))
    if asked is not None:
        inner_kwargs["device"] = "cpu"
    if isinstance(inner_kwargs.get("generator"), torch.Generator) and goes:
        raise RuntimeError(f"Expected a {NAME!r} generator, found one of the host: {func}")
    out = func(*inner_args, **inner_kwargs)
    if not goes or func in _READS:
        return out
    if func._schema.name.endswith("_") and func._schema.arguments[0].alias_info is not None and out is inner_args[0]:
        return args[0]
    known = {id(t.held): t for t in there}
    return tree_map(lambda t: known.get(id(t)) or Elsewhere(t) if isinstance(t, Tensor) else t, out)


class _Factories(TorchDispatchMode):
    """Tensors that are made or moved there: no argument of theirs is there yet."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_there(kwargs.get("device")):
            return _call(func, args, kwargs)
        return func(*args, **kwargs)


class _Literals(TorchFunctionMode):
    """Tensors of numbers, which torch makes on the host and moves where no mode sees it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device")):
            where = kwargs.pop("device")
            return func(*args, **kwargs).to(where)
        if func is Tensor.new_tensor and _is_there(kwargs.get("device", args[0].device)):
            where = kwargs.pop("device", args[0].device)
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(where)
        return func(*args, **kwargs)


@contextmanager
def present(*, double: bool = True) -> Iterator[torch.device]:
    """The device is there while this lasts; it may have no float64, as Apple's has none."""
    where, before = device(), _DOUBLE.set(double)
    try:
        with _Factories(), _Literals():
            yield where
    finally:
        _DOUBLE.reset(before)
