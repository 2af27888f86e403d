"""Random transformations of inputs whose extents can be learned.

A network is invariant to a transformation as far as its outputs are averaged over it,
``f̄(x) = 1/S Σ_s f(T(x; u_s, eta))``.
The extents ``eta`` say how far that is: 0 is the identity, and for a compact group 1 is all of it. They are part of the
network's prior, so the evidence can choose them from the training data, by gradient.

`Affine` rotates, translates, scales, stretches and shears images; `Flip` mirrors them; `Deformation` bends them
locally; `Colour` changes brightness, contrast, saturation and hue; `Erasing` paints over a square; `TimeWarp` shifts
and slows signals; `Generators` learns in which directions maps go; `Custom` takes any differentiable function;
`Compose` applies several, one after another; `OnPart` transforms one of several inputs. All follow the `Invariance`
protocol: a frozen dataclass that draws noise, transforms inputs by it, and is replaced, not changed, when its extents
are: ``dataclasses.replace(invariance, eta=new)``.

`Trivial` is no invariance but an augmentation policy: it transforms the training data, has nothing to learn, and
predictions do not average over it.

The perturbation of data for experiments is apart, in `novacula.invariances.perturb`.
"""

from __future__ import annotations

from novacula.invariances.affine import Affine
from novacula.invariances.base import Invariance
from novacula.invariances.colour import Colour
from novacula.invariances.compose import Compose
from novacula.invariances.custom import Custom
from novacula.invariances.deformation import Deformation
from novacula.invariances.erasing import Erasing
from novacula.invariances.flip import Flip
from novacula.invariances.groups.generators import Generators
from novacula.invariances.on_part import OnPart
from novacula.invariances.signal import TimeWarp
from novacula.invariances.trivial import Trivial

__all__ = [
    "Affine",
    "Colour",
    "Compose",
    "Custom",
    "Deformation",
    "Erasing",
    "Flip",
    "Generators",
    "Invariance",
    "OnPart",
    "TimeWarp",
    "Trivial",
]
