"""What Hamiltonian samplers share: chains that warm up, move, are recorded, and keep count of what went wrong.

A sampler differs from another in its transition alone, which it passes in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.params import flatten
from novacula.data.data import Data
from novacula.inference.hamiltonian.adaptation import Adaptation, MassKind, Schedule, WarmUp
from novacula.inference.hamiltonian.mass import Mass
from novacula.inference.hamiltonian.trajectory import Place, Transition, place_at
from novacula.inference.method import Info, Start
from novacula.inference.recorder import Recorder, draws_of
from novacula.posteriors.draws import Draws
from novacula.target import Density
from novacula.target.batch import Batch
from novacula.target.flat import FlatDensity, flat_density

Move: TypeAlias = Callable[[Place, Tensor, Mass, torch.Generator], Transition]
"""A transition from a place, with step sizes ``(M,)`` and a mass."""

_MANY = 0.05  # the share of trajectories that may reach the most doublings without a warning
_LOW = 0.75  # the share of the wanted acceptance below which there is one


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over the transitions after the warm-up, for each chain; shapes ``(M,)``."""

    transitions: int  # how many, of each chain
    accept: Tensor  # the sum of their acceptance statistics
    divergences: Tensor  # how many of them diverged
    saturated: Tensor  # how many stopped because the trajectory might not grow any more
    leapfrogs: Tensor  # the sum of their leapfrog steps
    depth: Tensor  # the sum of their doublings

    @classmethod
    def empty(cls, chains: int) -> Tally:
        """Nothing counted yet."""
        counts = (torch.zeros(chains, dtype=torch.int64) for _ in range(4))
        return cls(0, torch.zeros(chains, dtype=torch.float64), *counts)

    def plus(self, done: Transition, most_depth: int) -> Tally:
        """Count a transition of every chain."""
        depth = done.depth.cpu()
        return Tally(
            self.transitions + 1,
            self.accept + done.accept.cpu(),
            self.divergences + done.divergent.cpu(),
            self.saturated + ((depth >= most_depth) if most_depth else 0),
            self.leapfrogs + done.leapfrogs.cpu(),
            self.depth + depth,
        )


@dataclass(frozen=True, eq=False)
class ChainState:
    """M chains on their way."""

    place: Place  # where they stand
    adaptation: Adaptation  # what warm-up has learned
    recorder: Recorder  # the draws
    tally: Tally  # what went wrong, and what it cost
    potential: FlatDensity = field(metadata={"checkpoint": False})  # the log density of flat positions
    data: Data | None = field(metadata={"checkpoint": False})  # the training data; None for a plain log-density


@dataclass(frozen=True)
class Settings:
    """What samplers let their users choose alike; see `NUTS`."""

    warmup: int | None
    target_accept: float
    mass: MassKind
    rank: int
    keep: int
    step_size: float | None = None
    leapfrogs: int = 31
    """Of a typical trajectory, which tells whether compiling the density is worth it; by default of five doublings."""

    def check(self) -> None:
        """Refuse what cannot be."""
        if not 0 < self.target_accept < 1 or self.rank < 1 or (self.step_size is not None and not self.step_size > 0):
            raise InputError(
                "target_accept between 0 and 1, rank of 1 or more, and a positive step_size or none",
                f"target_accept={self.target_accept}, rank={self.rank}, step_size={self.step_size}",
                "leave them out for the defaults",
            )

    def warm_up(self, steps: int) -> WarmUp:
        """How to warm up in a run of some length."""
        warmup = steps // 2 if self.warmup is None else self.warmup
        return WarmUp(Schedule.of(warmup), self.mass, self.rank, self.target_accept, self.step_size)


def start_chains(
    settings: Settings, target: Density, data: Data | None, rng: torch.Generator, start: Start
) -> ChainState:
    """The first state."""
    warm_up = settings.warm_up(start.steps)
    recorder = Recorder.of(start, warmup=warm_up.schedule.warmup, keep=settings.keep)
    like = {k: w[0] for k, w in start.params.items()}
    potential = flat_density(target, data, like, rng, gradients=start.steps * settings.leapfrogs)
    place = place_at(potential, flatten(start.params, batch_dims=1))
    bad = ~(torch.isfinite(place.log_density) & torch.isfinite(place.gradient).all(1))
    if bool(bad.any()):
        chain = int(bad.nonzero()[0])
        raise NonFiniteError(
            "a finite log density and gradient where every chain starts",
            f"log density {float(place.log_density[chain])} at the start of chain {chain}"
            + ("" if torch.isnan(place.log_density[chain]) else ", or a gradient that is not finite"),
            "start where the prior has mass, and parametrise so that all real numbers are allowed",
        )
    return ChainState(
        place, warm_up.begin(potential, place, rng), recorder, Tally.empty(start.members), potential, data
    )


def advance(
    settings: Settings, move: Move, state: ChainState, batch: Batch, rng: torch.Generator, *, most_depth: int
) -> tuple[ChainState, Info]:
    """One transition of every chain."""
    warm_up = settings.warm_up(batch.steps)
    used = state.adaptation
    done = move(state.place, used.step_size, used.mass, rng)
    adaptation = warm_up.next(used, batch.step, state.potential, done.place, done.accept, rng)
    tally = state.tally
    if batch.step >= warm_up.schedule.warmup:
        tally = tally.plus(done, most_depth)
    recorder = state.recorder.record(batch.step, done.place.position, done.place.log_density)
    metrics = {
        "accept": float(done.accept.mean()),
        "step_size": float(used.step_size.double().log().mean().exp()),
        "leapfrogs": float(done.leapfrogs.double().mean()),
        "divergences": float(tally.divergences.sum()),
    }
    if most_depth:
        metrics["depth"] = float(done.depth.double().mean())
    moved = dataclasses.replace(state, place=done.place, adaptation=adaptation, recorder=recorder, tally=tally)
    return moved, Info(-float(done.place.log_density.double().mean()), metrics)


def draws_of_chains(settings: Settings, target: Density, state: ChainState, *, most_depth: int) -> Draws:
    """The draws, and what the sampler has to say about them."""
    t = state.tally
    n = max(1, t.transitions)
    stats = {
        "divergences": t.divergences,
        "accept": t.accept / n,
        "step_size": state.adaptation.step_size.double().cpu(),
        "leapfrogs": t.leapfrogs.double() / n,
    }
    if most_depth:
        stats["depth"] = t.depth.double() / n
    warnings = _warnings(settings, t, most_depth) if t.transitions else []
    return draws_of(target, state.recorder, state.data, stats=stats, warnings=warnings)


def _warnings(settings: Settings, t: Tally, most_depth: int) -> list[str]:
    found: list[str] = []
    n = t.transitions * len(t.accept)
    divergences, saturated, accept = int(t.divergences.sum()), int(t.saturated.sum()) / n, float(t.accept.sum()) / n
    if divergences:
        found.append(
            f"{divergences:,} of {n:,} transitions after the warm-up diverged: where the density bends too sharply for "
            f"the step size, draws are missing. Try target_accept closer to 1 (it is {settings.target_accept:g}), or "
            "parameters on another scale"
        )
    if saturated > _MANY:
        found.append(
            f"{saturated:.0%} of trajectories reached max_depth={most_depth} before they turned: chains move slowly. "
            'Try a longer warm-up, mass="low_rank", or a larger max_depth'
        )
    if accept < _LOW * settings.target_accept:
        hint = "a longer warm-up" if settings.step_size is None else "a smaller step_size, or None to adapt it"
        found.append(
            f"acceptance after the warm-up is {accept:.2f}, far below target_accept={settings.target_accept:g}. "
            f"Try {hint}"
        )
    return found
