"""`HMC`: Hamiltonian Monte Carlo with trajectories of a fixed number of steps, on all data.

References:
    MCMC using Hamiltonian dynamics. R. M. Neal, 2011. arXiv:1206.1901.
    What are Bayesian neural network posteriors really like? P. Izmailov, S. Vikram, M. D. Hoffman, A. G. Wilson, 2021.
    arXiv:2104.14421.
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
from novacula.inference.hamiltonian.trajectory import Place, Transition, hmc
from novacula.inference.method import Batching, Info, Start
from novacula.posteriors.draws import Draws
from novacula.target import Density
from novacula.target.batch import Batch


@dataclass(frozen=True)
class HMC:
    """Hamiltonian trajectories of a fixed number of leapfrog steps, each accepted or rejected as a whole.

    Args:
        step_size: The leapfrog step, in units of the mass; None adapts it, for each chain.
        leapfrogs: Steps of a trajectory.
        warmup: Steps that adapt and are not kept; by default half of the run.
        target_accept: The acceptance that step sizes are adapted to.
        mass: ``"unit"``, ``"diagonal"`` (the scale of each coordinate) or ``"low_rank"`` (also a few directions).
        rank: How many directions a low-rank mass may have.
        keep: The most draws to keep of each chain.
        jitter: Step sizes vary by up to this share between trajectories, so that none keeps returning to its start.

    Raises:
        InputError: If a setting is outside its range.
    """

    step_size: float | None = None
    leapfrogs: int = 16
    warmup: int | None = None
    target_accept: float = 0.8
    mass: MassKind = "diagonal"
    rank: int = 8
    keep: int = 1000
    jitter: float = 0.2

    batching: Batching = field(default="full", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        self._settings.check()
        if self.leapfrogs < 1 or not 0 <= self.jitter < 1:
            raise InputError(
                "at least one leapfrog, and jitter in [0, 1)", f"{self.leapfrogs}, {self.jitter}", "leave them out"
            )

    @property
    def _settings(self) -> Settings:
        return Settings(
            self.warmup, self.target_accept, self.mass, self.rank, self.keep, self.step_size, self.leapfrogs
        )

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> ChainState:
        """Start where the chains start."""
        return start_chains(self._settings, target, data, rng, start)

    def step(self, target: Density, state: ChainState, batch: Batch, rng: torch.Generator) -> tuple[ChainState, Info]:
        """One transition of every chain."""

        def move(place: Place, step_size: Tensor, mass: Mass, rng: torch.Generator) -> Transition:
            return hmc(state.potential, place, step_size, mass, rng, leapfrogs=self.leapfrogs, jitter=self.jitter)

        return advance(self._settings, move, state, batch, rng, most_depth=0)

    def posterior(self, target: Density, state: ChainState) -> Draws:
        """The draws."""
        return draws_of_chains(self._settings, target, state, most_depth=0)
