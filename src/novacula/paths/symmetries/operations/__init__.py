"""What each operation of a network's graph says of axes: the core operations of PyTorch, by families.

An operation that is not here freezes the axes that it touches, and is named.
"""

from novacula.paths.symmetries.operations import algebra, chosen, elements, products, shapes

TABLE = {
    name: handler
    for family in (algebra, chosen, elements, products, shapes)
    for handler in vars(family).values()
    for name in getattr(handler, "handled", ())
}
"""The handlers by the names of operations."""
