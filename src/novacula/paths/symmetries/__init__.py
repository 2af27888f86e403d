"""What may be done to a network's weights that leaves its function as it is."""

from novacula.paths.symmetries.collapse import Collapse
from novacula.paths.symmetries.groups import Element, Group
from novacula.paths.symmetries.result import Symmetries, Transformation, symmetries

__all__ = ["Collapse", "Element", "Group", "Symmetries", "Transformation", "symmetries"]
