"""The families, and all their networks."""

from __future__ import annotations

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
