"""Warm-up of Hamiltonian samplers: step sizes that reach a wanted acceptance, and a mass that knows the scales.

Step sizes follow the acceptance of each chain by dual averaging. The mass is estimated anew at the end of each of a
series of windows, every one twice as long as the last, from that window's draws of all chains; draws are centred within
their chain, so that chains which have not met do not look like a spread. Before the windows chains find the posterior;
after them step sizes settle.

References:
    The no-U-turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo. M. D. Hoffman, A. Gelman, 2014.
    arXiv:1111.4246 (dual averaging, and the first step size).
    Stan reference manual, "Automatic parameter tuning" (the windows). Stan development team, 2024.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.inference.hamiltonian.mass import Mass, diagonal_mass, low_rank_mass, no_directions, unit_mass
from novacula.inference.hamiltonian.trajectory import Place, energy_at, leapfrog, normal
from novacula.target.flat import Potential

MassKind: TypeAlias = Literal["unit", "diagonal", "low_rank"]

_FIRST, _BASE, _LAST = 75, 25, 50  # Stan's: steps before the windows, in the first of them, and after them
_LEAST, _SETTLE = 50, 20  # a shorter warm-up adapts step sizes alone; steps they need at least after a new mass
_BUFFER = 200  # most draws of a window and chain that are kept to find directions


@dataclass(frozen=True)
class Schedule:
    """The parts of a warm-up."""

    warmup: int  # its steps
    start: int  # the step with which the first window begins
    ends: tuple[int, ...]  # the steps before which each window ends; the next begins there

    @classmethod
    def of(cls, warmup: int) -> Schedule:
        """Stan's schedule, for any length.

        In a warm-up of fewer than 150 steps the parts shrink, but not the last below 20 steps: Stan's would be 2 steps
        of 20, in which step sizes do not find the new mass. There is no window in fewer than 50.

        Returns:
            The parts.

        Example:
            >>> Schedule.of(1000).ends
            (100, 150, 250, 450, 950)
        """
        if warmup < _LEAST:
            return cls(warmup, warmup, ())
        first, base, last = _FIRST, _BASE, _LAST
        if first + base + last > warmup:
            first, last = int(0.15 * warmup), max(_SETTLE, int(0.1 * warmup))
            base = warmup - first - last
        ends, at, length, stop = [], first, base, warmup - last
        while at < stop:
            # A window after which the next would not fit is extended to the end.
            at = stop if at + 3 * length > stop else at + length
            ends.append(at)
            length *= 2
        return cls(warmup, first, tuple(ends))

    def window(self, step: int) -> tuple[int, int] | None:
        """The window that a step belongs to."""
        begin = self.start
        for end in self.ends:
            if begin <= step < end:
                return begin, end
            begin = end
        return None

    @property
    def longest(self) -> int:
        """The length of the longest window."""
        return max((b - a for a, b in zip((self.start, *self.ends), self.ends, strict=False)), default=0)


@dataclass(frozen=True, eq=False)
class DualAveraging:
    """Step sizes of M chains on their way to a wanted acceptance; log_step ``(M,)``."""

    log_step: Tensor  # the logarithms of the step sizes to use now, shape ``(M,)``, float64 as all here
    log_average: Tensor  # their weighted average so far: what to use in the end
    error: Tensor  # the running average of (wanted − met) acceptance
    centre: Tensor  # the values towards which log step sizes are drawn
    count: int  # updates so far

    @classmethod
    def of(cls, step_size: Tensor) -> DualAveraging:
        """Begin at given step sizes, and try larger ones first; step_size ``(M,)``."""
        log_step = step_size.double().log()
        return cls(log_step, log_step.clone(), torch.zeros_like(log_step), log_step + math.log(10), 0)

    def updated(self, accept: Tensor, target: float) -> DualAveraging:
        """Take account of a transition; accept ``(M,)``."""
        count = self.count + 1
        eta, weight = 1 / (count + 10), count**-0.75
        error = (1 - eta) * self.error + eta * (target - accept)
        log_step = self.centre - error * (math.sqrt(count) / 0.05)
        return DualAveraging(log_step, weight * log_step + (1 - weight) * self.log_average, error, self.centre, count)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What warm-up has learned so far; step_size ``(M,)``, mean ``(M, P)``, squares ``(P,)``, window ``(M, K, P)``."""

    step_size: Tensor  # the step sizes to use now, shape ``(M,)``
    mass: Mass  # the mass to use now
    averaging: DualAveraging  # how the step sizes are on their way
    count: int  # draws of each chain in the present window
    mean: Tensor  # their mean, shape ``(M, P)``
    squares: Tensor  # the sum of their squared distances to their chain's mean, over draws and chains; shape ``(P,)``
    window: Tensor  # room for the draws themselves, shape ``(M, K, P)``; K is 0 where they are not needed


@dataclass(frozen=True)
class WarmUp:
    """How to warm up."""

    schedule: Schedule  # when
    mass: MassKind  # what kind of mass to learn
    rank: int  # how many directions a low-rank mass may have
    target_accept: float  # the acceptance wanted
    step_size: float | None = None  # A step size to keep to; None to adapt it

    def begin(self, potential: Potential, place: Place, rng: torch.Generator) -> Adaptation:
        """The first state."""
        q = place.position
        unit = unit_mass(q)
        mass = no_directions(unit, self.rank) if self.mass == "low_rank" else unit
        room = min(self.schedule.longest, _BUFFER) if self.mass == "low_rank" else 0
        first = torch.full_like(place.log_density, 1.0 if self.step_size is None else self.step_size)
        if self.step_size is None:
            first = reasonable_step_size(potential, place, mass, first, rng)
        return Adaptation(
            first,
            mass,
            DualAveraging.of(first),
            0,
            torch.zeros_like(q),
            torch.zeros_like(q[0]),
            q.new_zeros(q.shape[0], room, q.shape[1]),
        )

    def next(
        self, now: Adaptation, step: int, potential: Potential, place: Place, accept: Tensor, rng: torch.Generator
    ) -> Adaptation:
        """Learn from a transition; accept ``(M,)``."""
        if step >= self.schedule.warmup:
            return now
        averaging = now.averaging.updated(accept, self.target_accept)
        now = self._step_sizes(dataclasses.replace(now, averaging=averaging), averaging.log_step)
        window = None if self.mass == "unit" else self.schedule.window(step)
        if window is not None:
            now = self._remember(now, place.position, step - window[0], window[1] - window[0])
            if step + 1 == window[1]:
                now = self._new_mass(now, potential, place, rng)
        if step + 1 == self.schedule.warmup:
            now = self._step_sizes(now, now.averaging.log_average)
        return now

    def _step_sizes(self, now: Adaptation, log_step: Tensor) -> Adaptation:
        if self.step_size is not None:
            return now
        return dataclasses.replace(now, step_size=log_step.exp().to(now.step_size.dtype))

    def _remember(self, now: Adaptation, q: Tensor, index: int, length: int) -> Adaptation:
        count = now.count + 1
        before = q - now.mean
        mean = now.mean + before / count
        squares = now.squares + (before * (q - mean)).sum(0)
        room = now.window.shape[1]
        every = math.ceil(length / room) if room else 1
        if room and index % every == 0:
            now.window[:, index // every] = q
        return dataclasses.replace(now, count=count, mean=mean, squares=squares)

    def _new_mass(self, now: Adaptation, potential: Potential, place: Place, rng: torch.Generator) -> Adaptation:
        n, room = now.count * len(now.mean), now.window.shape[1]
        variance = now.squares / max(1, n - len(now.mean))
        mass: Mass = diagonal_mass(variance, n)
        if room:
            kept = math.ceil(now.count / math.ceil(now.count / room))
            mass = low_rank_mass(now.window[:, :kept], variance, n, self.rank)
        step_size = now.step_size
        if self.step_size is None:
            step_size = reasonable_step_size(potential, place, mass, step_size, rng)
        mean, squares = torch.zeros_like(now.mean), torch.zeros_like(now.squares)
        return Adaptation(step_size, mass, DualAveraging.of(step_size), 0, mean, squares, now.window)


def reasonable_step_size(
    potential: Potential, place: Place, mass: Mass, step_size: Tensor, rng: torch.Generator
) -> Tensor:
    """Double or halve step sizes until one leapfrog step is accepted with a probability that crosses 0.8, ``(M,)``."""
    momentum = normal(place.position, rng)
    sign = torch.zeros_like(step_size)
    rows = torch.arange(len(step_size), device=step_size.device)
    step_size = step_size.clone()
    for _ in range(80):
        here = Place(place.position[rows], place.log_density[rows], place.gradient[rows])
        end, end_momentum = leapfrog(potential, here, momentum[rows], step_size[rows], mass, 1)
        gain = energy_at(end, end_momentum) - energy_at(here, momentum[rows])
        way = torch.where(gain > math.log(0.8), 1.0, -1.0).to(sign)
        sign[rows] = torch.where(sign[rows] == 0, way, sign[rows])
        rows = rows[way == sign[rows]]
        if len(rows) == 0:
            return step_size
        step_size[rows] *= 2.0 ** sign[rows]
    raise InputError(
        "a density that changes with the parameters, smoothly",
        f"no step size for {len(rows)} of {len(step_size)} chains between {float(step_size.min()):.0e} and "
        f"{float(step_size.max()):.0e}",
        "check that the density is proper and its gradient right where the chains start",
    )
