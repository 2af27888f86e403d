"""`NUTS`: the no-U-turn sampler, with step sizes and mass learned in a warm-up.

Every step takes all data. The draws of the posterior are as exact as the chains are long: there is no bias from step
sizes, and what the chains have not found shows in `Draws.diagnostics`. It is the reference for cheaper methods.

References:
    The no-U-turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo. M. D. Hoffman, A. Gelman, 2014.
    arXiv:1111.4246.
    A conceptual introduction to Hamiltonian Monte Carlo. M. Betancourt, 2017. arXiv:1701.02434.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.inference.hamiltonian.adaptation import MassKind
from novacula.inference.hamiltonian.chains import ChainState, Settings, advance, draws_of_chains, start_chains
from novacula.inference.hamiltonian.mass import Mass
from novacula.inference.hamiltonian.nuts_tree import nuts
from novacula.inference.hamiltonian.trajectory import Place, Transition
from novacula.inference.method import Batching, Info, Start
from novacula.posteriors.draws import Draws
from novacula.target import Density
from novacula.target.batch import Batch


@dataclass(frozen=True)
class NUTS:
    """Hamiltonian trajectories that stop when they turn back.

    Args:
        warmup: Steps that adapt and are not kept; by default half of the run.
        target_accept: The acceptance that step sizes are adapted to; closer to 1 means smaller steps.
        max_depth: The most doublings of a trajectory, which then has ``2^max_depth − 1`` steps.
        mass: ``"unit"``, ``"diagonal"`` (the scale of each coordinate) or ``"low_rank"`` (also a few directions).
        rank: How many directions a low-rank mass may have.
        keep: The most draws to keep of each chain.

    Raises:
        InputError: If a setting is outside its range.
    """

    warmup: int | None = None
    target_accept: float = 0.8
    max_depth: int = 10
    mass: MassKind = "diagonal"
    rank: int = 8
    keep: int = 1000

    batching: Batching = field(default="full", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        self._settings.check()
        if not 1 <= self.max_depth <= 20:
            raise InputError("max_depth from 1 to 20", str(self.max_depth), "use 10")

    @property
    def _settings(self) -> Settings:
        return Settings(self.warmup, self.target_accept, self.mass, self.rank, self.keep)

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> ChainState:
        """Start where the chains start."""
        return start_chains(self._settings, target, data, rng, start)

    def step(self, target: Density, state: ChainState, batch: Batch, rng: torch.Generator) -> tuple[ChainState, Info]:
        """One transition of every chain."""

        def move(place: Place, step_size: Tensor, mass: Mass, rng: torch.Generator) -> Transition:
            return nuts(state.potential, place, step_size, mass, rng, max_depth=self.max_depth)

        return advance(self._settings, move, state, batch, rng, most_depth=self.max_depth)

    def posterior(self, target: Density, state: ChainState) -> Draws:
        """The draws."""
        return draws_of_chains(self._settings, target, state, most_depth=self.max_depth)
