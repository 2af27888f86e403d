"""The families, and all their networks."""

from __future__ import annotations

from torch import nn

from menagerie import (
    convolutional,
    hugging_face,
    implicit,
    layers,
    mobile,
    sequences,
    sets,
    transformers_of_images,
)
from menagerie.verbs import VERBS
from zoo import Case

FAMILIES: dict[str, tuple[Case, ...]] = {
    "Convolutional": convolutional.SPECIMENS,
    "For phones": mobile.SPECIMENS,
    "Of patches": transformers_of_images.SPECIMENS,
    "Of `transformers`": hugging_face.SPECIMENS,
    "Sequences": sequences.SPECIMENS,
    "Sets, graphs, mixtures": sets.SPECIMENS,
    "Implicit, tied, made": implicit.SPECIMENS,
    "Rare layers and parameters": layers.SPECIMENS,
}
ALL: dict[str, Case] = {case.name: case for family in FAMILIES.values() for case in family}
COSTLY = ("multi-swag", "csgld", "sghmc", "hmc", "nuts", "smc")
"""Methods that are tried on one network in ten."""


def verbs_of(name: str) -> tuple[str, ...]:
    """What is asked of a network: all, but for costly methods of most, and drop-out where no layer is for it."""
    layers = (m for m in ALL[name].make().modules() if isinstance(m, nn.modules.dropout._DropoutNd))
    drops = any(layer.p > 0 for layer in layers)
    left = {"dropout": drops, **dict.fromkeys(COSTLY, list(ALL).index(name) % 10 == 1)}
    return tuple(verb for verb in VERBS if left.get(verb, True))
