"""Networks whose structure can be learned: which symmetry a layer has, which weights tasks share.

A person's module comes in, and a module comes out whose further tensors, hyperparameters or weights, say how much of
each structure there is; the evidence decides.

| name | what it gives |
| --- | --- |
| `FilterBank` | layers whose filters are transformed copies of one another, with learned extents |
| `relax` | layers between dense ones and convolutions, and beyond convolutions |
| `share` | a network for several tasks, with shared and private weights in each layer |
| `soften` | a trained network on its way to equivariant weights |
| `parts`, `shares` | the tensors of such layers by part, and the effective number of parameters of each |
| `keep` | one part of them alone |
| `prune` | the weights that a network needs least taken away, and what that costs |
"""

from novacula.structure.filters import FilterBank
from novacula.structure.parts import keep, parts, shares
from novacula.structure.prune import prune
from novacula.structure.pruned import Level, Pruned
from novacula.structure.relaxed import relax
from novacula.structure.soften import soften
from novacula.structure.tasks import share

__all__ = ["FilterBank", "Level", "Pruned", "keep", "parts", "prune", "relax", "share", "shares", "soften"]
