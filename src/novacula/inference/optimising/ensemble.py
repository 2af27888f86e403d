"""`Ensemble`: any method from several starts at once.

`Ensemble(MAP())` is a deep ensemble and `Ensemble(SWAG())` is MultiSWAG. The members are trained side by side, on the
same minibatches; what tells them apart is where they start.

References:
    Simple and scalable predictive uncertainty estimation using deep ensembles. B. Lakshminarayanan, A. Pritzel,
    C. Blundell, 2017. arXiv:1612.01474.
    Deep ensembles: a loss landscape perspective. S. Fort, H. Hu, B. Lakshminarayanan, 2019. arXiv:1912.02757 (that
    members differ mostly by their starts).
    Bayesian deep learning and a probabilistic perspective of generalization. A. G. Wilson, P. Izmailov, 2020.
    arXiv:2002.08791 (MultiSWAG).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from novacula.core.checks.numbers import check_fields, check_whole, shown
from novacula.core.errors import InputError
from novacula.core.rng import split
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Method, Others, Start, check_method
from novacula.inference.optimising.map import MAP
from novacula.inference.starts import starts
from novacula.posteriors.base import Posterior
from novacula.target import Density, Target
from novacula.target.batch import Batch


@dataclass(frozen=True)
class Ensemble:
    """Run a method from M starts: the given one, and others by it or at fresh draws of the network's initialisation.

    Args:
        method: What each member does. It decides the posterior: the mixture of the members'.
        members: M.
        start: Where all members but the first start: ``"fresh"``, at draws of the network's initialisation; ``"near"``
            the given weights, moved a little; by default near them where they have been trained, fresh otherwise.
        redraw: Parameters or layers, by name, that start at fresh draws while the others start near: a new head.

    Raises:
        InputError: If ``members`` is not positive, the method is itself an ensemble, or ``start`` is unknown.

    Example:
        >>> Ensemble(MAP(lr=1e-2), members=5).members
        5
    """

    method: Method = field(default_factory=MAP)
    members: int = 5
    start: Others = "auto"
    redraw: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        check_whole("members", self.members)
        check_method(self.method)
        if not isinstance(self.redraw, Sequence):
            raise InputError("redraw as a tuple of names", shown(self.redraw), 'redraw=("head",)')
        if isinstance(self.method, Ensemble):
            got = "an ensemble of ensembles"
            raise InputError("one or more members of a method", got, "use Ensemble(MAP(), members=5)")

    @property
    def batching(self) -> Batching:
        """The method's."""
        return self.method.batching

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> Any:
        """The method's first state, at more starts."""
        own = {k: w[0] for k, w in start.params.items()}
        held = {k: w[0] for k, w in start.statistics.items()}
        plain = not isinstance(target, Target)
        given = None if plain or all(torch.equal(own[k], w) for k, w in target.params().items()) else own
        total = start.members * self.members
        where = start.others if self.start == "auto" else self.start
        others = starts(target, total, split(rng), others=where, own=given, redraw=self.redraw, held=held)
        first = {**{k: w[: start.members] for k, w in others.items()}, **start.params, **start.statistics}
        both = {k: torch.cat([first[k], w[start.members :]]) for k, w in others.items()}
        params = {k: both.pop(k) for k in start.params}
        return self.method.init(target, data, rng, Start(params, start.steps, both))

    def step(self, target: Density, state: Any, batch: Batch, rng: torch.Generator) -> tuple[Any, Info]:
        """The method's step."""
        return self.method.step(target, state, batch, rng)

    def posterior(self, target: Density, state: Any) -> Posterior:
        """The mixture of the members' posteriors."""
        return self.method.posterior(target, state)
