"""What each operation of a network's graph says of axes: the core operations of PyTorch, by families.

An operation that is not here freezes the axes that it touches, and is named.
"""

from novacula.paths.symmetries.operations import elements, products, shapes
from novacula.paths.symmetries.operations.values import (
    FILLS,
    SHAPES,
    TABLE,
    Fill,
    Place,
    Value,
    constant,
    filled,
    stop,
    unknown,
)

__all__ = [
    "FILLS",
    "SHAPES",
    "TABLE",
    "Fill",
    "Place",
    "Value",
    "constant",
    "elements",
    "filled",
    "products",
    "shapes",
    "stop",
    "unknown",
]
