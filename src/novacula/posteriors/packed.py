"""What a run folder holds of one posterior: a kind, weights, and what else is needed to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.target import Density, Target


@dataclass(frozen=True, eq=False)
class Packed:
    """A posterior as tensors."""

    kind: str  # its kind, by which `novacula.posteriors.unpack` finds what makes it again
    weights: Params  # weights, or draws of them, by parameter
    others: dict[str, Tensor] = field(default_factory=dict)  # other tensors

    def other(self, name: str) -> Tensor:
        """A tensor beside the weights; an InputError where the file has lost it."""
        if name not in self.others:
            got = f"{', '.join(self.others) or 'nothing'} beside its weights"
            raise InputError(f"{name} of a stored posterior ({self.kind})", got, "the file is damaged: restore it")
        return self.others[name]

    def tensors(self, place: int) -> dict[str, Tensor]:
        """As a file has them: ``<place>/<kind>/<parameter>`` and ``<place>/<name>``."""
        weights = {f"{place}/{self.kind}/{k}": w for k, w in self.weights.items()}
        return weights | {f"{place}/{k}": v for k, v in self.others.items()}


@dataclass(frozen=True, eq=False)
class Origin:
    """What a run knows beside the tensors: the target, a few inputs like those it takes, the posterior's warnings."""

    target: Target
    inputs: Tensor
    known: tuple[str, ...]


def packed_in(tensors: Mapping[str, Tensor]) -> list[Packed]:
    """The posteriors of a file, in their order."""
    keys = [key.split("/", 2) for key in tensors]
    kinds = {int(key[0]): key[1] for key in keys if len(key) == 3}
    found = {i: Packed(kind, {}) for i, kind in sorted(kinds.items())}
    for (place, *name), value in zip(keys, tensors.values(), strict=True):
        part = found[int(place)]
        (part.weights if len(name) == 2 else part.others)[name[-1]] = value
    return list(found.values())


def ordered(found: Params, target: Density) -> Params:
    """Weights in the order of the target's own, which is that of vectors of weights."""
    return {k: found[k] for k in sorted(found, key=[*target.params(), *found].index)}
