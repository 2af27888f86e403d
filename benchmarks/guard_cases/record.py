"""What a result becomes in the record: a flat table of numbers, exact, and of tensors, by their bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

import novacula as nv

FIRST, PROJECTIONS, LIST = 8, 4, 4
LEFT_OUT = frozenset({"seconds", "hyper_seconds"})
"""Times differ from run to run."""
KINDS = ("exact", "estimate", "lower bound", "upper bound")


def facts_of(result: Any) -> dict[str, Any]:
    """Flatten a result.

    Args:
        result: Numbers, tensors, arrays, estimates, and dictionaries, sequences and dataclasses of them. Text and
            other objects are left out.

    Returns:
        By path: a number, None, ``"nan"``, ``"inf"``, or a tensor's description.

    Raises:
        ValueError: If nothing is left.
    """
    found = dict(_flat("", result))
    if not found:
        raise ValueError("expected numbers, got none")
    return found


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case str() | bytes() | nv.Target() | torch.nn.Module():
            return
        case None | bool() | int():
            yield path, value
        case float():
            yield path, _float(value)
        case np.generic():
            yield from _flat(path, value.item())
        case Tensor():
            yield path, _tensor(value.detach().cpu().numpy())
        case np.ndarray():
            if value.dtype.kind in "fiub":
                yield path, _tensor(value)
        case nv.Estimate():
            parts = {k: getattr(value, k) for k in ("value", "stderr", "n", "temperature", "parts")}
            yield from _flat(path, {**parts, "kind": KINDS.index(value.kind)})
        case Mapping():
            for key, item in value.items():
                if key not in LEFT_OUT:
                    yield from _flat(f"{path}/{key}" if path else str(key), item)
        case tuple() if hasattr(value, "_asdict"):
            yield from _flat(path, value._asdict())
        case list() | tuple() if len(value) >= LIST and all(v is None or type(v) in (int, float) for v in value):
            yield path, _tensor(np.array(value, dtype=np.float64))  # shorter to record than one by one
        case list() | tuple():
            for i, item in enumerate(value):
                yield from _flat(f"{path}/{i}" if path else str(i), item)
        case _ if dataclasses.is_dataclass(value):
            yield from _flat(path, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})


def _float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _tensor(array: np.ndarray) -> dict[str, Any]:
    shape = list(array.shape)
    array = np.ascontiguousarray(array)
    floats = array.dtype.kind == "f"
    if floats:
        # All NaNs are one, whatever their bits.
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    fact: dict[str, Any] = {
        "shape": shape,
        "dtype": str(array.dtype),
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
    }
    if not floats:
        return fact
    finite = np.isfinite(array)
    flat = np.where(finite, array, 0).astype(np.float64).ravel()
    draw = np.random.default_rng(0)
    fact["finite"] = int(finite.sum())
    fact["norm"] = _digits(np.sqrt(np.sum(flat * flat)))
    fact["first"] = [_digits(v) for v in flat[:FIRST]]
    fact["projections"] = [_digits(np.sum(flat * draw.standard_normal(flat.size))) for _ in range(PROJECTIONS)]
    return fact


def _digits(value: Any) -> float:
    # The bits are in the hash; these serve comparisons with a tolerance.
    return float(f"{float(value):.12g}")
