"""Inputs of several parts: dictionaries and tuples of arrays, as one tensor with a layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.modules.parts import Parts
from novacula.data.arrays import check_finite, to_tensor
from novacula.data.inputs import as_inputs


def several(x: Any) -> bool:
    """Whether inputs are several parts: a dictionary, or a tuple of arrays of one length (a list holds rows)."""
    if isinstance(x, Mapping):
        return True
    if not isinstance(x, tuple) or len(x) < 2 or not all(isinstance(v, Tensor | np.ndarray) for v in x):
        return False
    return all(v.ndim > 0 and len(v) == len(x[0]) for v in x)


def as_one(x: Any, *, tokens: bool, dtype: torch.dtype | None, columns: Sequence[str]) -> tuple[Tensor, Parts | None]:
    """Inputs as one tensor, and the layout of several parts; None for a single one."""
    if several(x):
        return as_parts(x, dtype=dtype)
    return as_inputs(x, tokens=tokens, dtype=dtype, columns=columns), None


def joined(parts: Parts | None, x: Any) -> Any:
    """Inputs of several parts as one tensor, with the layout of other ones; those of one are left as they are."""
    if not several(x):
        return x
    if parts is None:
        got = f"parts {', '.join(map(str, x))}" if isinstance(x, Mapping) else f"{len(x)} parts"
        raise InputError("inputs of one part, as those of training", got, "pass the one tensor")
    made, own = as_parts(x, dtype=None, least=1)
    return parts.join(own.split(made) if parts.named else tuple(own.split(made).values()))


def as_parts(x: Any, *, dtype: torch.dtype | None, least: int = 2) -> tuple[Tensor, Parts]:
    """Inputs of several parts side by side, ``(N, 1, D)``, and their layout.

    Whole numbers and booleans stay such (ids, masks); bytes of images become floats in [0, 1], and other numbers floats
    as those of a single input do.

    Returns:
        The tensor and the layout.

    Raises:
        InputError: If there is no part, a part is no array of finite numbers, or lengths differ.
    """
    items = {str(k): v for k, v in (x.items() if isinstance(x, Mapping) else enumerate(x))}
    if not items:
        raise InputError("inputs of one or more parts", "an empty dictionary", "pass {'input_ids': …}")
    found = {name: _part(v, name, dtype, least) for name, v in items.items()}
    lengths = {name: len(v) for name, v in found.items()}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{n} in {k}" for k, n in lengths.items())
        raise InputError("as many rows in every part", got, "check how they were paired")
    if dtype is None:  # floats of one width, of which a tensor keeps its own
        widest = torch.float64 if any(v.dtype == torch.float64 for v in found.values()) else None
        found = {k: v.to(widest) if widest is not None and v.is_floating_point() else v for k, v in found.items()}
    values = found if isinstance(x, Mapping) else tuple(found.values())
    parts = Parts.of(values)
    return parts.join(values), parts


def _part(value: Any, name: str, dtype: torch.dtype | None, least: int) -> Tensor:
    if isinstance(value, Mapping):
        got = f"a dictionary under {name!r}"
        raise InputError("parts that are arrays", got, "flatten the dictionary: one array a key")
    t = to_tensor(value, f"part {name!r}", least=least)
    if not t.is_floating_point() and not (t.dtype == torch.uint8 and t.ndim >= 3):
        return t.contiguous()
    if t.ndim == 1:
        check_finite(t, f"part {name!r}")
        return t.to(dtype or (t.dtype if isinstance(value, Tensor) else torch.get_default_dtype()))
    return as_inputs(value, tokens=False, dtype=dtype, columns=(), least=least)
