"""Networks of one kind brought into the same order, by weights, by activations and by the loss half-way."""

from novacula.paths.matching.match import canonical, match, match_many
from novacula.paths.matching.widths import widen

__all__ = ["canonical", "match", "match_many", "widen"]
