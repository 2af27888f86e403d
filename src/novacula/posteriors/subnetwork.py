"""A posterior over some of a network's weights, the others fixed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.params import Params, unstack
from novacula.posteriors.answers import Answer, How, Kind
from novacula.posteriors.base import BasePosterior, Posterior
from novacula.posteriors.parts import Part
from novacula.posteriors.quality import Diagnostics
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class SubnetworkPosterior(BasePosterior):
    """A posterior over some weights, the others fixed.

    Args:
        part: Which weights, and where the others are.
        inner: The posterior of the chosen ones. Its target's network is the same function, so that predictions of it
            are predictions of this.
    """

    part: Part
    inner: Posterior

    __repr__ = brief

    @property
    def target(self) -> Target:
        """The whole network's target."""
        return self.part.whole

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the chosen weights' posterior."""
        return self.inner.warnings

    @property
    def mode(self) -> Params:
        """All weights, the chosen ones at their mode."""
        chosen = {k: w.unsqueeze(0) for k, w in self.inner.mode.items()}
        return unstack(self.part.merge(chosen))[0]

    @property
    def size(self) -> int | None:
        """That of the chosen weights' posterior."""
        return self.inner.size

    @property
    def kind(self) -> Kind:
        """The chosen weights' posterior knows how it wants to be predicted."""
        return self.inner.kind

    @property
    def diagnostics(self) -> Diagnostics | None:
        """Those of the chosen weights' posterior."""
        return self.inner.diagnostics

    def outputs(self, x: Tensor, how: How) -> Answer:
        """The part's target is the same function, so that its posterior's outputs are these."""
        return self.inner.outputs(x, how)

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw the chosen weights, ``(n, *shape)``."""
        return self.part.merge(self.inner.sample(n, rng))
