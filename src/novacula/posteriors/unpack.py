"""Posteriors out of a file: from the kind that was packed to what makes it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from novacula.core.errors import InputError
from novacula.posteriors.base import Point, Posterior
from novacula.posteriors.draws import Draws
from novacula.posteriors.dropout import DropoutPosterior
from novacula.posteriors.mixture import mixture
from novacula.posteriors.packed import Origin, Packed, packed_in

_KINDS: Mapping[str, Callable[[Packed, Origin], Posterior]] = {
    "point": Point.unpack,
    "draws": Draws.unpack,
    "dropout": DropoutPosterior.unpack,
}


def unpack(
    tensors: Mapping[str, Tensor], origin: Origin, other: Callable[[Packed, Origin], Posterior] | None = None
) -> Posterior:
    """The posterior whose packed parts a file holds; ``other`` makes parts of kinds that are not of this package."""
    parts = packed_in(tensors)
    if other is None and (unknown := {p.kind for p in parts} - set(_KINDS)):
        known = f"stored posteriors among {', '.join(_KINDS)}"
        hint = "read the run with the version that wrote it, and with the package of its method"
        raise InputError(known, ", ".join(sorted(unknown)), hint)
    return mixture([_KINDS.get(p.kind, other or _KINDS["point"])(p, origin) for p in parts])
