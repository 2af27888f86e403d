"""Options that are numbers: of which kind and sign each is, by its name, so that every verb refuses the same."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Hashable
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from novacula.core.errors import InputError

LEAST: dict[str, int | None] = {
    "seed": None,
    "folds": 0,
    "epochs": 1,
    "steps": 1,
    "batch_size": 1,
    "chains": 1,
    "members": 1,
    "samples": 1,
    "copies": 1,
    "draws": 1,
    "chunk": 1,
    "trainings": 1,
    "limit": 1,
    "only": 1,
}
"""The least value of each whole number; None where there is none."""
POSITIVE = ("lr", "seconds", "temperature")
"""Finite numbers above zero."""


def check_numbers(**options: Any) -> None:
    """Refuse options that are no numbers of their kind.

    Args:
        options: Values by the names of `LEAST` and `POSITIVE`; None is left to whoever has a default for it.

    Raises:
        InputError: If a whole number is none, or too small, or a number is not finite and positive.

    Example:
        >>> check_numbers(epochs=None, folds=0, lr=1e-3)
        >>> check_numbers(epochs=1.5)
        Traceback (most recent call last):
        novacula.core.errors.InputError: expected epochs as a whole number of 1 or more; got 1.5. Try: epochs=1
    """
    for name, value in options.items():
        if value is None:
            continue
        if name in POSITIVE:
            check_positive(name, value)
        else:
            check_whole(name, value, LEAST[name])


def check_whole(name: str, value: Any, least: int | None = 1) -> None:
    """Refuse what is no whole number, or less than this one."""
    if isinstance(value, Integral) and not isinstance(value, bool) and (least is None or int(value) >= least):
        return
    wanted = "" if least is None else f" of {least} or more"
    raise InputError(f"{name} as a whole number{wanted}", shown(value), f"{name}={least or 0}")


def check_positive(name: str, value: Any) -> None:
    """Refuse what is no finite number above zero."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf:
        raise InputError(f"{name} as a finite number above zero", shown(value), f"{name}=1.0, for instance")


def shown(value: Any) -> str:
    """A value for a message: as it is written, or by its type where that is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def check_fields(settings: Any) -> None:
    """Refuse numbers, flags, words and literals of a dataclass that are not as their annotations say."""
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        if not field.init:
            continue
        value, hint = getattr(settings, field.name), hints[field.name]
        kinds = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
        if not any(_is_of(value, kind) for kind in kinds):
            got = f"{shown(value)} in {type(settings).__name__}(…)"
            raise InputError(_in_words(kinds, field.name), got, "leave it out for the default")


def _is_of(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, Hashable) and value in get_args(kind)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and value == value
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return isinstance(value, kind)
    return isinstance(value, kind) if kind in {bool, str, NoneType} else True


def _in_words(kinds: tuple[Any, ...], name: str) -> str:
    options = [str(option) for kind in kinds if get_origin(kind) is Literal for option in get_args(kind)]
    if options:
        return f"a {name} among {', '.join(options)}"
    words = {float: "a number", int: "a whole number", bool: "True or False", str: "a word", NoneType: "None"}
    return f"{name} as {' or '.join(words.get(kind) or f'a {kind.__name__}' for kind in kinds)}"


def check_within(name: str, value: Any, low: float = 0.0, high: float = 1.0) -> None:
    """Refuse what is no number between two others, themselves not included."""
    if not isinstance(value, Real) or isinstance(value, bool) or not low < float(value) < high:
        raise InputError(f"{name} between {low:g} and {high:g}", shown(value), f"{name}={(low + high) / 2:g}")


def check_callable(name: str, value: Any) -> None:
    """Refuse what cannot be called, and classes, which are to be called first; None is left alone."""
    if isinstance(value, type):
        raise InputError(f"{name} as a function", f"the class {value.__name__}", f"{value.__name__}()")
    if value is not None and not callable(value):
        raise InputError(f"{name} as a function", shown(value), "leave it out")


def as_path(value: Any, name: str = "a path") -> Path:
    """A path from a string or a path; refuses what is neither."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(name, shown(value), "pass a string or a pathlib.Path")
    return Path(value)
