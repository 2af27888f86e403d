"""Networks thinned at random: a draw is the weights and a set of masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from novacula.core.brief import brief
from novacula.core.params import Params, detach
from novacula.data.data import Data
from novacula.posteriors.base import BasePosterior
from novacula.posteriors.masks import Masks, check_share, masked
from novacula.posteriors.packed import Origin, Packed, ordered
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class DropoutPosterior(BasePosterior):
    """Networks thinned at random.

    Args:
        mode: The weights; no mask is on.
        masks: The masks, and the target whose network takes them.
        reservations: What the method warns of.
    """

    mode: Params
    masks: Masks
    reservations: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def target(self) -> Target:
        """The target; its network takes masks with the weights."""
        return self.masks.target

    @property
    def warnings(self) -> tuple[str, ...]:
        """Dropout that the draws leave out, and what else is as it was."""
        return (*self.masks.missed, *self.reservations)

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw masks, ``(n, *shape)``."""
        like = next(iter(self.mode.values()))
        drawn = self.masks.draw(n, like, rng)
        return {**{k: w.expand(n, *w.shape) for k, w in self.mode.items()}, **drawn}

    def bounded(self, room: int) -> DropoutPosterior:
        """Itself: the masks are drawn again."""
        return self

    def pack(self) -> Packed:
        """The weights, and the share that each layer drops."""
        shares = torch.tensor([p.p for p in self.masks.places], dtype=torch.float64)
        return Packed("dropout", self.mode, {"shares": shares})

    @classmethod
    def unpack(cls, packed: Packed, origin: Origin) -> DropoutPosterior:
        """The weights of a file, under masks of the same shares."""
        shares = packed.other("shares").tolist()
        masks = masked(origin.target, origin.inputs)
        if [p.p for p in masks.places] != shares:  # a share in the place of the layers' own
            masks = masked(origin.target, origin.inputs, shares[0])
        return cls(ordered(packed.weights, origin.target), masks)


def dropout_posterior(target: Target, params: Params, data: Data, *, p: float | None = None) -> DropoutPosterior:
    """Monte-Carlo dropout for a network that was trained elsewhere, with dropout.

    Args:
        target: The target; its network has dropout layers, in eval mode.
        params: The trained weights.
        data: Data whose first inputs show what the dropout layers see.
        p: The share that is dropped, in the place of the layers' own.

    Returns:
        The posterior.
    """
    check_share(p)
    target, data = target.prepare(data)
    return DropoutPosterior(detach(params), masked(target, data.x[:2], p))
