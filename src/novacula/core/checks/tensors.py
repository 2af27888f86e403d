"""What sets a plain tensor of numbers apart from those that look like one and cannot be computed with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from novacula.core.errors import InputError


def check_plain(t: Tensor, what: str) -> None:
    """Refuse sparse, nested, quantised, complex and empty-handed tensors; the hint says how to make a plain one."""
    if t.is_nested:
        raise InputError(f"{what} as one tensor", "a nested tensor", "pad it: torch.nested.to_padded_tensor(t, 0.0)")
    if t.layout != torch.strided:
        kind = str(t.layout).removeprefix("torch.")
        raise InputError(f"{what} as a dense tensor", f"layout {kind}", "call to_dense()")
    if t.is_quantized:
        raise InputError(f"{what} as plain numbers", f"dtype {t.dtype}", "call dequantize()")
    if t.is_meta:
        raise InputError(f"{what} with values", "a tensor on the device 'meta', which has none", "load the values")
    if t.is_complex():
        raise InputError(f"real {what}", f"dtype {t.dtype}", "pass the real and imaginary parts as two features")


def check_same(first: Tensor, second: Tensor) -> None:
    """Refuse a network that gave two answers for the same inputs in eval mode."""
    if not torch.equal(first, second):
        raise InputError(
            "a deterministic network",
            "two calls with the same input that differ",
            "let noise be on in train mode alone (F.dropout(x, training=self.training)), or remove the sampling",
        )


def dtype_hint(x: Tensor, weights: Iterable[Tensor]) -> str:
    """What to try where inputs have another dtype than a network's weights; nothing where they have the same."""
    kinds = {w.dtype for w in weights if w.is_floating_point()}
    if not x.is_floating_point() or not kinds or x.dtype in kinds:
        return ""
    own = min(kinds, key=str)
    given = "pass nv.Data(x, y, dtype=torch.float64), or " if own == torch.float64 else ""
    return f"the network's weights are {own} and the inputs {x.dtype}: {given}make it network.float()"


def check_outputs(f: object, n: int, batch: str) -> None:
    """Refuse what is no tensor ``(N, C)`` of floats with C ≥ 1 as the outputs of N inputs; ``batch`` names these."""
    if not isinstance(f, Tensor):
        hint = "wrap the network in a module whose forward returns the logits alone, model(x).logits"
        raise InputError(f"network outputs of shape ({n}, C)", f"a {type(f).__name__}", hint)
    check_plain(f, f"network outputs for {batch}")
    if f.ndim != 2 or f.shape[0] != n or f.shape[1] == 0:
        raise InputError(
            f"network outputs of shape ({n}, C) for {batch}",
            str(tuple(f.shape)),
            "end the network with a Flatten or a Linear layer; where the inputs have an axis too many, x.flatten(1)",
        )
    if not f.is_floating_point():
        hint = "return the logits or means themselves, not classes made of them"
        raise InputError("network outputs that are floats", f"dtype {f.dtype}", hint)
