"""What every random transformation of inputs provides."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from novacula.invariances import checks
from novacula.invariances.noise import DISTRIBUTIONS
from novacula.invariances.warp import PADDINGS


class Invariance(Protocol):
    """A distribution over transformations of inputs, ``x' = T(x; noise, eta)``, differentiable in ``eta``.

    The network's outputs are averaged over it, ``f̄(x) = E f(T(x))``: the function is invariant as far as the extents
    ``eta`` reach. ``eta = 0`` is the identity; ``eta = 1`` the whole group where the group is compact (±180°).
    The signs of symmetric extents do not matter.

    Implementations are frozen dataclasses (``eq=False``). ``learnable`` names the fields to learn. A class that derives
    from this one has every extent admissible and signs without meaning, unless it says otherwise.

    Attributes:
        eta: Extents, shape ``(K,)``.
        names: A name for each extent.
        averages_predictions: Whether outputs are averaged over it wherever they count: in training, scores and
            predictions. False for a policy that augments the training data alone (`Trivial`): each input of a training
            step meets one transformation, and what is scored or predicted is taken as it is.
    """

    learnable: ClassVar[tuple[str, ...]] = ("eta",)
    averages_predictions: ClassVar[bool] = True

    @property
    def eta(self) -> Tensor: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` transformations of inputs like ``x (N, …)``, with leading axis ``n``.

        Where n = N·S, the S copies of one input lie side by side, and may be spread evenly.
        """
        ...

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Transform ``x (n, …)`` by ``noise (n, …)``, one draw for each input; differentiable in ``eta``."""
        ...

    def project(self, eta: Tensor) -> Tensor:
        """The nearest admissible extents (for instance rotation at most ±180°); eta ``(K,)``."""
        return eta

    def magnitude(self, eta: Tensor) -> Tensor:
        """The extents without the signs that carry no meaning (those of symmetric noise); eta ``(K,)``."""
        return eta.abs()

    def describe(self) -> dict[str, float]:
        """The extents in the field's units, for people: ``rotation_degrees``, ``translation_x`` …."""
        ...


class Chosen(Invariance, Protocol):
    """An invariance with one extent for each chosen name: ``only``, some of those that are ``known``."""

    known: ClassVar[tuple[str, ...]]
    turns: ClassVar[str] = ""  # the extent whose whole group is ±180°, if one is

    only: tuple[Any, ...]
    init: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "only", checks.choose(self.only, self.known))
        for name, known in (("distribution", DISTRIBUTIONS), ("padding", PADDINGS)):
            checks.option(name, getattr(self, name, known[0]), known)
        object.__setattr__(self, "eta", checks.extents(self.eta, [self.init] * len(self.only), self.only))

    @property
    def names(self) -> tuple[str, ...]:
        """What was chosen, one name for each extent."""
        return self.only

    def project(self, eta: Tensor) -> Tensor:
        """Limit what turns to ±180°; eta ``(K,)``."""
        turns = torch.tensor([name == self.turns for name in self.only], device=eta.device)
        return torch.where(turns, eta.clamp(-1, 1), eta)
