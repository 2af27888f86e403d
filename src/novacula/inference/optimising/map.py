"""`MAP`: the most probable weights, by Adam on minibatches with a one-cycle learning rate.

Networks train in train mode: BatchNorm by the statistics of each batch, dropout on (see `novacula.target.training`).
The running statistics belong to the run, each member has its own, and they come with its weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from novacula.core.checks.numbers import check_fields, check_positive, shown
from novacula.core.device import find_device
from novacula.core.errors import InputError
from novacula.core.modules.precision import Precision
from novacula.core.params import Params, unstack
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step, cooldown, one_cycle
from novacula.posteriors.base import Point, Posterior
from novacula.posteriors.mixture import mixture
from novacula.target import Density
from novacula.target.batch import WARM, Batch
from novacula.target.training import points, statistics_of, training_gradient

_SCHEDULES = {"one-cycle": one_cycle, "constant": lambda progress: 1.0, "cooldown": cooldown}


@dataclass(frozen=True, eq=False)
class MAPState:
    """The members' weights, their optimisers' state, and the statistics that layers keep of the batches."""

    params: Params
    adam: AdamState
    statistics: Params = field(default_factory=dict)

    @property
    def points(self) -> Params:
        """What each member holds, weights and statistics, ``(M, *shape)``."""
        return points(self.params, self.statistics)


@dataclass(frozen=True)
class MAP:
    """Maximise the log-posterior ``Σ log p(y|f̄(w, x)) + log p(w)`` over the weights.

    Args:
        lr: Peak learning rate of Adam.
        schedule: ``"one-cycle"``, ``"constant"``; or ``"cooldown"``, constant but for the first twentieth of the run
            and for the last 30 %, in which the rate falls to nought: for trainings in parts, each of which should end
            at rest and lose little time by it.
        precision: ``"bfloat16"`` lets the network compute in it while it trains, which pays on wide networks and
            processors that know it; weights and all scores stay in their own type.
        warm: The share of the run over which the prior's part rises from nothing to all of it. Networks that decay from
            the first step on may end at the origin with nothing learned, where the data's pull is weak at first. In a
            run that goes on from trained weights all of the prior counts from the first step on.
        device: Where gradients are computed, if not where the network is: a device that need not have float64, such as
            ``"mps"``. Weights and batches go there in every step, and gradients come back.

    Raises:
        InputError: If the rate is not positive, the share not in [0, 1], the schedule or precision unknown, or the
            device not there.
    """

    lr: float = 2e-3
    schedule: Literal["one-cycle", "constant", "cooldown"] = "one-cycle"
    precision: Precision = "full"
    warm: float = WARM
    device: str | None = field(default=None, repr=False)  # it decides nothing but rounding

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("lr", self.lr)
        if not 0 <= self.warm <= 1:
            raise InputError("warm as a share of the run, in [0, 1]", shown(self.warm), "leave it out for the default")

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> MAPState:
        """Start where the members start."""
        if self.device is not None:
            find_device(self.device, double=False)
        statistics = statistics_of(target, data, start.members, start.statistics)
        return MAPState(start.params, adam_init(start.params), statistics)

    def step(self, target: Density, state: MAPState, batch: Batch, rng: torch.Generator) -> tuple[MAPState, Info]:
        """One step of Adam on the negative log-posterior per example."""
        there = None if self.device is None else torch.device(self.device)
        losses, grads, statistics = training_gradient(
            target, state.params, state.statistics, batch.rising(self.warm), rng, self.precision, there
        )
        factor = _SCHEDULES[self.schedule](batch.progress)
        params, adam = adam_step(state.params, grads, state.adam, self.lr * factor)
        return MAPState(params, adam, statistics), Info(float(losses.mean()))

    def posterior(self, target: Density, state: MAPState) -> Posterior:
        """The point itself."""
        return mixture([Point(w, target) for w in unstack(state.points)])
