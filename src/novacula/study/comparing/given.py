"""Models that are to be compared, as a person gives them."""

from __future__ import annotations

from collections.abc import Mapping

from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.target import Target
from novacula.target.given import TargetLike, as_target


def models_of(models: Mapping[str, TargetLike], data: Data) -> dict[str, Target]:
    """Targets by name; refuses what is no mapping, and losses of different kinds."""
    if not isinstance(models, Mapping) or not models:
        got = "none" if isinstance(models, Mapping) else f"a {type(models).__name__}"
        raise InputError("at least one model, by name", got, "pass {'name': nv.Target(...)}")
    found = {name: as_target(model, data) for name, model in models.items()}
    kinds = {"density" if t.likelihood.normalised else t.likelihood.loss for t in found.values()}
    if len(kinds) > 1:
        raise InputError("models with losses of one kind", ", ".join(sorted(kinds)), "compare densities")
    return found
