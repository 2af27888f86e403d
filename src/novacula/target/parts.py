"""What a target's parts are told by, where somebody passes a class, a name or another part."""

from __future__ import annotations

from typing import Any

from novacula.core.checks.numbers import shown
from novacula.core.errors import InputError

# What each part has that no other has, and an example.
_PARTS = {
    "likelihood": ("factor", "likelihood=nv.Categorical()"),
    "prior": ("precision", "prior=nv.Gaussian()"),
    "invariance": ("noise", "invariance=nv.Affine(), or None"),
}


def check_part(name: str, given: Any) -> None:
    """Refuse what is no ``"likelihood"``, ``"prior"`` or ``"invariance"`` (None is one), as ``name`` says."""
    mark, example = _PARTS[name]
    if given is None and name == "invariance":
        return
    if isinstance(given, type) or getattr(given, mark, None) is None:
        got = f"the class {given.__name__}" if isinstance(given, type) else shown(given)
        raise InputError(f"{name} as one of novacula.{name}s, or alike", got, example)
