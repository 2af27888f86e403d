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

from dataclasses import dataclass, field
from typing import Any, get_args

import torch

from novacula.core.errors import InputError
from novacula.core.rng import split
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Method, Start
from novacula.inference.optimising.map import MAP
from novacula.inference.starts import From, members_of_network, starts
from novacula.posteriors.base import Posterior
from novacula.target import Density, Target
from novacula.target.batch import Batch


@dataclass(frozen=True)
class Ensemble:
    """Run a method from M starts: the given one, and fresh draws of the network's initialisation.

    A network that was trained before is no fresh draw: its members start near its weights.

    Args:
        method: What each member does. It decides the posterior: the mixture of the members'.
        members: M.
        start: Where members after the first start: at ``"fresh"`` draws, near the ``"given"`` weights (so far apart as
            `novacula.inference.starts.NOISE` says), or as a look at the data tells.

    Raises:
        InputError: If ``members`` is not positive, the method is itself an ensemble, or ``start`` is none of these.

    Example:
        >>> Ensemble(MAP(lr=1e-2), members=5).members
        5
    """

    method: Method = field(default_factory=MAP)
    members: int = 5
    start: From = "auto"

    def __post_init__(self) -> None:
        if self.members < 1 or isinstance(self.method, Ensemble):
            got = "an ensemble of ensembles" if isinstance(self.method, Ensemble) else f"members={self.members}"
            raise InputError("one or more members of a method", got, "use Ensemble(MAP(), members=5)")
        if self.start not in get_args(From):
            raise InputError(f"a start among {', '.join(get_args(From))}", repr(self.start), "leave it at 'auto'")

    @property
    def batching(self) -> Batching:
        """The method's."""
        return self.method.batching

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> Any:
        """The method's first state, at more starts."""
        members, seed = start.members * self.members, split(rng)
        if isinstance(target, Target):
            own = {k: w[0] for k, w in start.params.items()}
            others = members_of_network(target, data, own, members, self.start, seed)
        else:
            others = starts(target, members, seed)
        params = {k: torch.cat([w, others[k][start.members :]]) for k, w in start.params.items()}
        return self.method.init(target, data, rng, Start(params, start.steps))

    def step(self, target: Density, state: Any, batch: Batch, rng: torch.Generator) -> tuple[Any, Info]:
        """The method's step."""
        return self.method.step(target, state, batch, rng)

    def posterior(self, target: Density, state: Any) -> Posterior:
        """The mixture of the members' posteriors."""
        return self.method.posterior(target, state)
