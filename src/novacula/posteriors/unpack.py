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


def unpack(tensors: Mapping[str, Tensor], origin: Origin) -> Posterior:
    """The posterior whose packed parts a file holds."""
    parts = packed_in(tensors)
    if unknown := {p.kind for p in parts} - set(_KINDS):
        known = f"stored posteriors among {', '.join(_KINDS)}"
        raise InputError(known, ", ".join(sorted(unknown)), "read the run with the version that wrote it")
    return mixture([_KINDS[p.kind](p, origin) for p in parts])
