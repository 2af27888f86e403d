"""Short representations: what an object is, and how large what it holds; never the weights or the data themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 60
"""Characters up to which a value is shown as it is."""


def brief(self: Any) -> str:
    """A dataclass in one line, to be written ``__repr__ = brief`` in its body.

    Fields that have their default are left out; tensors, arrays and networks are shown by kind and size.

    Args:
        self: An instance of a dataclass.

    Returns:
        ``Name(field=…, …)``.

    Example:
        >>> import torch
        >>> @dataclasses.dataclass(eq=False)
        ... class Known:
        ...     mode: dict[str, torch.Tensor]
        ...     warnings: tuple[str, ...] = ()
        ...     __repr__ = brief
        >>> Known({"w": torch.zeros(3, 2), "b": torch.zeros(2)})
        Known(mode={'w', 'b': 8 numbers})
    """
    shown = [
        f"{field.name}={short(value)}"
        for field in dataclasses.fields(self)
        if field.repr and not _is_default(field, value := getattr(self, field.name))
    ]
    return f"{type(self).__name__}({', '.join(shown)})"


def short(value: Any) -> str:
    """A value in few words."""
    if _is_array(value):
        return _array(value)
    if callable(getattr(value, "named_parameters", None)):
        return f"<{type(value).__name__} of {sum(w.numel() for w in value.parameters()):,} parameters>"
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list | tuple) and (len(value) > 3 or any(map(_is_large, value))):
        kinds = {type(item).__name__ for item in value}
        return f"<{len(value)} × {kinds.pop() if len(kinds) == 1 else 'values'}>"
    if _is_large(value):
        return f"<{type(value).__name__}>"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _mapping(value: Mapping[Any, Any]) -> str:
    if value and all(map(_is_array, value.values())):
        numbers = sum(_size(v) for v in value.values())
        names = ", ".join(map(repr, value)) if len(value) <= 4 else f"{len(value)} arrays"
        return f"{{{names}: {numbers:,} numbers}}"
    names = ", ".join(f"{k!r}: …" for k in list(value)[:4])
    return f"{{{names}{', …' if len(value) > 4 else ''}}}"


def _array(value: Any) -> str:
    if _size(value) == 1 and "meta" not in str(getattr(value, "device", "")):
        number = value.item()
        return f"{number:.6g}" if isinstance(number, float) else repr(number)
    dtype = str(value.dtype).removeprefix("torch.")
    return f"<{dtype} {tuple(value.shape)}>"


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and callable(getattr(value, "item", None))


def _size(value: Any) -> int:
    size = 1
    for n in value.shape:
        size *= int(n)
    return size


def _is_large(value: Any) -> bool:
    # What would not be short itself: arrays, mappings of them, and dataclasses that have a long text.
    if _is_array(value) or (isinstance(value, Mapping) and len(value) > 0):
        return True
    return dataclasses.is_dataclass(value) and len(repr(value)) > LONGEST


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return isinstance(value, Sequence | Mapping) and len(value) == 0
    plain = isinstance(value, str | int | float | tuple) and type(value) is type(field.default)
    return value is field.default or (plain and value == field.default)
