"""Outputs of networks that return more than a tensor: the logits among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def logits_of(out: Any) -> Any:
    """The tensor that a likelihood is asked of.

    Args:
        out: A tensor; or an object with ``logits``, as a dictionary's key or an attribute (the ``ModelOutput`` of the
            transformers library, the named tuples of torchvision's networks with auxiliary heads in train mode).

    Returns:
        The logits; what is neither, as it is.
    """
    if isinstance(out, Tensor):
        return out
    found = out.get("logits") if isinstance(out, Mapping) else getattr(out, "logits", None)
    return found if isinstance(found, Tensor) else out
