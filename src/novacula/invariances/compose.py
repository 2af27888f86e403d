"""Several invariances, one after another."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.invariances import checks
from novacula.invariances.base import Invariance


@dataclass(frozen=True, eq=False, init=False)
class Compose(Invariance):
    """The transformation that applies the first part, then the second, and so on.

    Each part interpolates for itself, so two parts that warp images blur them twice; `Affine` combines its own
    generators in one interpolation. Where a part is a policy that augments the training data alone (`Trivial`), the
    whole is one, and nothing of it is learned.

    Args:
        invariances: The parts, in the order in which they are applied.
        parts: The same as a tuple, for `dataclasses.replace`.
        eta: All extents, the parts' own one after another, shape ``(K,)``; by default those that the parts have.

    Attributes:
        parts: The parts, holding their pieces (views) of ``eta``.
        eta: All extents.

    Raises:
        InputError: If there is no part, or ``eta`` does not fit.

    Example:
        >>> from novacula.invariances import Affine, Colour
        >>> both = Compose(Affine(only=("rotation",)), Colour(only=("contrast",)))
        >>> both.names
        ('rotation', 'contrast')
        >>> dataclasses.replace(both, eta=torch.tensor([0.5, 0.25])).describe()
        {'rotation_degrees': 90.0, 'contrast': 0.25}
    """

    parts: tuple[Invariance, ...]
    eta: Tensor = None  # type: ignore[assignment]  # filled in below

    def __init__(self, *invariances: Invariance, parts: tuple[Invariance, ...] = (), eta: Tensor | None = None) -> None:
        every = (*invariances, *parts)
        if not every or any(isinstance(part, type) or getattr(part, "eta", None) is None for part in every):
            got = ", ".join(getattr(part, "__name__", type(part).__name__) for part in every) or "none"
            raise InputError("one or more invariances", got, "use Compose(Affine(), Colour())")
        object.__setattr__(self, "parts", every)
        joined = torch.cat([part.eta for part in every]) if eta is None else eta
        object.__setattr__(self, "eta", checks.extents(joined, [], self.names))
        pieces = self._split(self.eta)
        bound = tuple(_replace_eta(part, piece) for part, piece in zip(every, pieces, strict=True))
        object.__setattr__(self, "parts", bound)
        if not all(part.averages_predictions for part in self.parts):
            object.__setattr__(self, "averages_predictions", False)
            object.__setattr__(self, "learnable", ())

    @property
    def names(self) -> tuple[str, ...]:
        """The parts' names; those that several parts share are prefixed by part and position, ``affine1_scale``."""
        return tuple(name for names in self._unique([part.names for part in self.parts]) for name in names)

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` transformations: x ``(N, …)`` to ``(n, total)``."""
        return torch.cat([part.noise(n, x, rng).flatten(1) for part in self.parts], 1)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Apply the parts in turn; x ``(n, …)``, noise ``(n, total)``."""
        # A part alone knows the shape of its noise; one throw-away draw tells it.
        rng = torch.Generator(x.device)
        shapes = [part.noise(1, x, rng).shape[1:] for part in self.parts]
        sizes = [math.prod(shape) for shape in shapes]
        checks.noise(noise, (x.shape[0], sum(sizes)))
        for part, piece, shape in zip(self.parts, noise.split(sizes, 1), shapes, strict=True):
            x = part(x, piece.reshape(-1, *shape))
        return x

    def project(self, eta: Tensor) -> Tensor:
        """Project each part's extents; eta ``(K,)``."""
        return torch.cat([part.project(piece) for part, piece in zip(self.parts, self._split(eta), strict=True)])

    def magnitude(self, eta: Tensor) -> Tensor:
        """Extents without the signs that carry no meaning; eta ``(K,)``."""
        return torch.cat([part.magnitude(piece) for part, piece in zip(self.parts, self._split(eta), strict=True)])

    def describe(self) -> dict[str, float]:
        """The parts' extents for people."""
        described = [part.describe() for part in self.parts]
        keys = self._unique([tuple(d) for d in described])
        return {key: v for ks, d in zip(keys, described, strict=True) for key, v in zip(ks, d.values(), strict=True)}

    def _split(self, eta: Tensor) -> tuple[Tensor, ...]:
        # Not `Tensor.split`: its views may not outlive an optimiser's step in place.
        ends = [0, *accumulate(len(part.names) for part in self.parts)]
        return tuple(eta[start:end] for start, end in pairwise(ends))

    def _unique(self, names: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        seen = Counter(name for part in names for name in part)
        prefixes = [f"{type(part).__name__.lower()}{i}_" for i, part in enumerate(self.parts, 1)]
        return [
            tuple(p + name if seen[name] > 1 else name for name in part)
            for p, part in zip(prefixes, names, strict=True)
        ]


def _replace_eta(part: Invariance, eta: Tensor) -> Invariance:
    # The protocol says that parts are dataclasses, which its type cannot express.
    return dataclasses.replace(cast(Any, part), eta=eta)
