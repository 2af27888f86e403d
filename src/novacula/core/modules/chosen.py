"""Which parameters of a module are its weights, by patterns of their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from novacula.core.errors import InputError

_NAMED = 12  # parameters that an error names


def choose(module: nn.Module, patterns: Sequence[str]) -> None:
    """Let those parameters require a gradient whose names match a pattern, in a copy of a person's module.

    Raises:
        InputError: If a pattern matches none.
    """
    if isinstance(patterns, str):
        raise InputError("a list of patterns", repr(patterns), f"use parameters=[{patterns!r}]")
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            few = f"{', '.join(names[:_NAMED])}{' …' * (len(names) > _NAMED)}"
            raise InputError("patterns that match a parameter", f"{pattern!r} among {few}", "check the name")
    for name, w in module.named_parameters():
        w.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))
