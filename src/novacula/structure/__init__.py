"""Networks whose structure can be learned: which symmetry a layer has.

A person's module comes in, and a module comes out whose further tensors, hyperparameters or weights, say how much of
each structure there is; the evidence decides.

| name | what it gives |
| --- | --- |
| `FilterBank` | layers whose filters are transformed copies of one another, with learned extents |
"""

from novacula.structure.filters import FilterBank

__all__ = ["FilterBank"]
