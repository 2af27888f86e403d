"""What strict JSON can hold of a value, and of an object's attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Turn a value into what strict JSON can hold.

    Args:
        value: Dictionaries, sequences, numbers, strings, paths, numpy scalars and arrays, nested at will.

    Returns:
        The same with string keys, lists and Python numbers; NaN and infinities become None, other objects their
        ``str``.

    Example:
        >>> plain({"a": (1, float("nan")), 3: np.ones(2)})
        {'a': [1, None], '3': [1.0, 1.0]}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def record(of: object, *names: str, **more: Any) -> dict[str, Any]:
    """Attributes by name, and more beside them, as `plain` has them.

    Args:
        of: Any object.
        names: Which of its attributes.
        more: Further values by name.

    Returns:
        Plain values, in this order.
    """
    return plain({name: getattr(of, name) for name in names} | more)
