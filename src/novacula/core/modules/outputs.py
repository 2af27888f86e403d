"""What networks give: the logits among several outputs, and whether they are probabilities already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_NAMES = "Alias Clone Permute ReshapeAlias Select Slice Squeeze T ToCopy Transpose Unsqueeze UnsafeView View"
_SHAPES = frozenset(_NAMES.split())  # operations that move numbers and change none


def logits_of(out: Any) -> Any:
    """The tensor that a likelihood is asked of: ``logits``, as a key or an attribute, where an object has them."""
    if not isinstance(out, Tensor):
        found = out.get("logits") if isinstance(out, Mapping) else getattr(out, "logits", None)
        if not isinstance(found, Tensor):
            return out
        out = found
    return out.unsqueeze(-1) if out.ndim == 1 else out


def squashed(f: Tensor) -> str:
    """What made probabilities of logits ``(N, C)``: ``softmax``, ``sigmoid``, ``normalisation`` or nothing."""
    # Autograd notes the function, be it a layer or not, behind operations that only change shapes.
    node, kind = f.grad_fn, "Alias"
    while node is not None and kind in _SHAPES:
        kind = node.name().rstrip("0123456789").removesuffix("Backward")
        node = node.next_functions[0][0] if kind in _SHAPES else node
    if kind in {"Softmax", "Sigmoid"}:
        return kind.lower()
    normal = f.ndim == 2 and f.shape[1] > 1 and bool((f >= 0).all())
    return "normalisation" if normal and torch.allclose(f.sum(1), torch.ones_like(f[:, 0]), atol=1e-4) else ""
