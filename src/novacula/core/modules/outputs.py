"""Outputs of networks that return more than a tensor: the logits among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def logits_of(out: Any) -> Any:
    """The tensor that a likelihood is asked of: ``logits``, as a key or an attribute, where an object has them."""
    if isinstance(out, Tensor):
        return out
    found = out.get("logits") if isinstance(out, Mapping) else getattr(out, "logits", None)
    return found if isinstance(found, Tensor) else out
