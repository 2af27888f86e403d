"""Whether a network does better than the best constant prediction: else its evidence says nothing of its extents."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.likelihoods.base import Likelihood
from novacula.target.constant import worth_of

_DECAY = 0.9
_MUCH = 5


@dataclass(frozen=True, eq=False)
class Skill:
    """What a network gains over the best constant output, followed over minibatches; constant ``(C,)``."""

    constant: Tensor  # the constant, shape ``(C,)``
    gain: float = math.nan  # A running mean of the gain, in nats per example; NaN before the first batch
    needed: float = 0.1  # the gain that counts, `worth_of` the constant's loss

    @property
    def better(self) -> bool:
        """Whether the gain counts."""
        return self.gain > self.needed

    @property
    def much(self) -> bool:
        """Whether the gain is five times as large: half a nat of classes."""
        return self.gain > _MUCH * self.needed

    def update(self, likelihood: Likelihood, y: Tensor, loss: float) -> Skill:
        """Take a batch into account."""
        with torch.no_grad():
            base = -float(likelihood.log_prob(self.constant.expand(len(y), -1), y).mean())
        mix = 0.0 if math.isnan(self.gain) else _DECAY
        gain = base - loss if mix == 0 else mix * self.gain + (1 - mix) * (base - loss)
        needed = worth_of(base)
        return replace(self, gain=gain, needed=needed if mix == 0 else mix * self.needed + (1 - mix) * needed)
