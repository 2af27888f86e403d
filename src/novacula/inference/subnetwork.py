"""`Subnetwork`: a posterior over some of a network's weights, the others fixed where training left them.

Which weights are random is chosen by ``which``:

- ``"last_layer"``: the linear layer whose output is the network's,
- a tuple of patterns such as ``("2.*", "*.bias")``: the tensors whose names match one (`fnmatch`),
- ``("largest_variance", n)``: the n single weights whose marginal variance under a diagonal Laplace approximation,
  ``1/(H_ii + Λ_ii)``, is largest. Weights of curvature 0, which change no prediction on the training data (those of a
  pixel that is always black, say), come last: theirs is the prior's variance, and nothing else.

The method that makes the posterior sees a *target of its own*: the same likelihood, invariance and temperature, the
prior of the chosen weights, and a network that is a function of these alone. Any method runs on it unchanged, whether
its steps see minibatches or all data; samplers mix much faster in fewer dimensions.

The fixed weights are found first, in `Subnetwork.init`: by an optimiser on minibatches, in a run of its own, or (with
``optimiser=None``) they are the weights of the start, for networks that were trained elsewhere:
``infer(Subnetwork(NUTS(), optimiser=None), target, data, init=weights, steps=…)``. The run that follows belongs to the
method alone, its steps, schedule, checkpoints and progress. A resumed run repeats the first part, which is a function
of the seed.

Several chains share the first one's fixed weights, so that they sample one posterior and can be compared; the first
starts at the trained values of the chosen weights, the others at those of their own starts. ``separate=True`` gives
each a network of its own, for ensembles of partially random networks: ``Ensemble(Subnetwork(…, separate=True))``.

References:
    Bayesian deep learning via subnetwork inference. E. Daxberger, E. Nalisnick, J. U. Allingham, J. Antorán,
    J. M. Hernández-Lobato, 2021. arXiv:2010.14689.
    Do Bayesian neural networks need to be fully stochastic? M. Sharma, S. Farquhar, E. Nalisnick, T. Rainforth, 2023.
    arXiv:2211.06291.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.params import Params, stack, unstack
from novacula.core.rng import split
from novacula.data.data import Data
from novacula.inference.dropout import Dropout
from novacula.inference.loop import run
from novacula.inference.method import Batching, Info, Method, Start, check_method
from novacula.inference.optimising.map import MAP
from novacula.posteriors.base import Posterior, network_target
from novacula.posteriors.mixture import mixture
from novacula.posteriors.parts import Part, Which, check_which, part_of
from novacula.posteriors.subnetwork import SubnetworkPosterior
from novacula.target import Density, Target
from novacula.target.batch import Batch


@dataclass(frozen=True, eq=False)
class SubnetworkState:
    """The method's states, one for each part (one for all members, or one for each)."""

    inner: tuple[Any, ...]  # the states
    parts: tuple[Part, ...] = field(metadata={"checkpoint": False})  # the parts


@dataclass(frozen=True)
class Subnetwork:
    """Run a method on some of the weights.

    Args:
        method: What makes the posterior of the chosen weights.
        which: ``"last_layer"``, a tuple of patterns of names, or ``("largest_variance", n)``.
        optimiser: What finds the fixed weights; None to take them from the start.
        epochs: Passes over the data that the optimiser takes.
        batch_size: Examples in a step of the optimiser.
        separate: Whether each member has fixed weights of its own.

    Raises:
        InputError: If ``which`` is none of the three, a number is not positive, or the method is itself a subnetwork.

    Example:
        >>> Subnetwork(MAP(), which=("largest_variance", 100)).which
        ('largest_variance', 100)
    """

    method: Method
    which: Which = "last_layer"
    optimiser: Method | None = field(default_factory=MAP)
    epochs: int = 50
    batch_size: int = 128
    separate: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        for method in (self.method, self.optimiser or self.method):
            check_method(method)
        check_which(self.which)
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(
                "positive epochs and batch_size", f"{self.epochs}, {self.batch_size}", "leave them out for the defaults"
            )
        if isinstance(self.method, Subnetwork | Dropout):
            name = type(self.method).__name__
            raise InputError("a method whose draws are weights of the whole part", name, "use MeanField, SWAG or NUTS")

    @property
    def batching(self) -> Batching:
        """The method's."""
        return self.method.batching

    def init(self, target: Density, data: Data, rng: torch.Generator, start: Start) -> SubnetworkState:
        """Find the fixed weights, and start the method on the others."""
        whole = network_target(target, "Subnetwork")
        members, seed = (start.members if self.separate else 1), split(rng)
        trained = {k: w[:members] for k, w in [*start.params.items(), *start.statistics.items()]}
        if self.optimiser is not None:
            trained = self._train(whole, data, trained, seed)
        parts = tuple(part_of(whole, w, data, self.which) for w in unstack(trained))
        inner = []
        for m, part in enumerate(parts):
            mine = part.select({k: w[m : m + 1] for k, w in trained.items()})
            if not self.separate and start.members > 1:
                others = part.select({k: w[1:] for k, w in start.params.items()})
                mine = {k: torch.cat([w, others[k]]) for k, w in mine.items()}
            inner.append(self.method.init(part.target, data, rng, Start(mine, start.steps)))
        return SubnetworkState(tuple(inner), parts)

    def step(
        self, target: Target, state: SubnetworkState, batch: Batch, rng: torch.Generator
    ) -> tuple[SubnetworkState, Info]:
        """The method's step."""
        found = [self.method.step(p.target, s, batch, rng) for p, s in zip(state.parts, state.inner, strict=True)]
        infos = [info for _, info in found]
        metrics = {k: sum(i.metrics[k] for i in infos) / len(infos) for k in infos[0].metrics}
        info = Info(sum(i.loss for i in infos) / len(infos), metrics, all(i.done for i in infos))
        return SubnetworkState(tuple(s for s, _ in found), state.parts), info

    def posterior(self, target: Target, state: SubnetworkState) -> Posterior:
        """The posterior of all weights."""
        found: list[Posterior] = []
        for part, inner in zip(state.parts, state.inner, strict=True):
            chosen = self.method.posterior(part.target, inner)
            found += [SubnetworkPosterior(part, c) for c in chosen.parts]
        return mixture(found)

    def _train(self, target: Target, data: Data, start: Params, seed: int) -> Params:
        assert self.optimiser is not None
        outcome = run(
            self.optimiser, target, data, start=start, epochs=self.epochs, batch_size=self.batch_size, seed=seed
        )
        found = self.optimiser.posterior(target, outcome.state)
        return stack([p.mode for p in found.parts])
