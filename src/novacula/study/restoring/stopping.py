"""Fitting an image while watching pixels that are held out, and stopping before too much noise is learned.

Pixels held out alone would stop too early: they hear nothing of their own noise, but nothing of their own texture
either, and pixels that are fitted gain from the one longer than they lose from the other. `Seen.risks` has the rule.

The outputs are averaged along the run with exponential weights, as single ones jitter by a decibel. The average with
the least risk is kept, and the run ends when none has been better for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step
from novacula.posteriors.base import Point, Posterior
from novacula.study.restoring.observing import Seen
from novacula.target import Density
from novacula.target.batch import Batch

_DECAY, _FIRST = 0.98, 50


@dataclass(frozen=True, eq=False)
class Fitting:
    """Weights, moments, and the best average so far, at step ``at``; ``trace`` has the risk of every step."""

    params: Params
    adam: AdamState
    average: Tensor | None = None
    best: Tensor | None = None
    best_params: Params = field(default_factory=dict)
    at: int = 0
    trace: tuple[float, ...] = ()

    @property
    def points(self) -> Params:
        """What the loop looks at, ``(1, *shape)``."""
        return self.params


@dataclass(frozen=True, eq=False)
class Watched:
    """Adam on the squared error of the pixels that are fitted."""

    draw: Callable[[Params], Tensor]  # the image of weights
    seen: Seen  # the observation
    lr: float  # learning rate
    patience: int  # steps without a better average after which the run ends
    watch: Callable[[Tensor], object] | None = None  # called with the average of every tenth step
    # the last state, for the caller: a run returns a posterior alone
    states: list[Fitting] = field(default_factory=list)

    batching: Batching = field(default="full", init=False, repr=False)

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> Fitting:
        """Start where the one member starts."""
        return Fitting(start.params, adam_init(start.params))

    def step(self, target: Density, state: Fitting, batch: Batch, rng: torch.Generator) -> tuple[Fitting, Info]:
        """One step, and a look at the pixels held out."""
        weights = {k: w[0].detach().requires_grad_() for k, w in state.params.items()}
        with torch.enable_grad():
            image = self.draw(weights)
            loss = self.seen.error(image, self.seen.fitted)
            grads = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        params, adam = adam_step(state.params, {k: g.unsqueeze(0) for k, g in grads.items()}, state.adam, self.lr)
        image = image.detach()
        average = image if state.average is None else torch.lerp(image, state.average, _DECAY)
        error = self.seen.risk(average)
        taken = len(state.trace) + 1
        new = replace(state, params=params, adam=adam, average=average, trace=(*state.trace, error))
        # The first averages hold the start.
        if taken <= _FIRST or error < state.trace[state.at - 1]:
            new = replace(new, best=average, best_params=state.params, at=taken)
        if self.watch is not None and taken % 10 == 0:
            self.watch(average)
        self.states[:] = [new]
        return new, Info(float(loss.detach()), {"risk": error}, done=taken - new.at > self.patience)

    def posterior(self, target: Density, state: Fitting) -> Posterior:
        """The weights at the best average."""
        return Point({k: w[0] for k, w in state.best_params.items()}, target)
