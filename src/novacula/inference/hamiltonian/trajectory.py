"""Hamiltonian trajectories by the leapfrog rule, and the transition of Hamiltonian Monte Carlo; all chains in lockstep.

With whitened momenta (see `novacula.inference.hamiltonian.mass`) one step is ``z += ½ε Lᵀg; q += ε L z; z += ½ε Lᵀg``.
It is reversible, keeps volume, and its energy error is of second order in ε; a Metropolis step removes the error's
bias.

The potential is asked about any number of rows. Where there is no density it returns values that are not finite rather
than raise; it may reuse the memory of what it returns for its next answer.

References:
    MCMC using Hamiltonian dynamics. R. M. Neal, 2011. arXiv:1206.1901.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.inference.hamiltonian.mass import Mass
from novacula.target.flat import Potential

DIVERGENCE = 1000.0
"""An energy error beyond which a trajectory has left the posterior: Stan's threshold, in nats."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where M chains stand; position ``(M, P)``, log_density ``(M,)``, gradient ``(M, P)``."""

    position: Tensor  # shape ``(M, P)``
    log_density: Tensor  # shape ``(M,)``
    gradient: Tensor  # of the log density, shape ``(M, P)``


@dataclass(frozen=True, eq=False)
class Transition:
    """One transition of M chains; accept ``(M,)``, divergent ``(M,)``, leapfrogs ``(M,)``, depth ``(M,)``."""

    place: Place  # where they stand now
    accept: Tensor  # the mean Metropolis probability along the trajectory, shape ``(M,)``, float64
    divergent: Tensor
    leapfrogs: Tensor  # leapfrog steps taken, shape ``(M,)``
    depth: Tensor  # completed doublings of NUTS, shape ``(M,)``; 0 for a trajectory of fixed length


def place_at(potential: Potential, position: Tensor) -> Place:
    """Evaluate the density where chains stand; position ``(M, P)``."""
    log_density, gradient = potential(position)
    return Place(position.clone(), log_density.clone(), gradient.clone())


def energy_at(place: Place, momentum: Tensor) -> Tensor:
    """The joint log density ``log p(q) − ½|z|²`` up to a constant: momentum ``(M, P)`` to ``(M,)``."""
    return place.log_density.double() - momentum.square().sum(1).double() / 2


def normal(like: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal numbers, drawn where the generator lives."""
    return torch.randn(like.shape, generator=rng, dtype=like.dtype, device=rng.device).to(like.device)


def leapfrog(
    potential: Potential, place: Place, momentum: Tensor, step_size: Tensor, mass: Mass, steps: int
) -> tuple[Place, Tensor]:
    """Places and momenta after some steps; a chain whose log density is not finite stops there, at ``−inf``."""
    end = Place(place.position.clone(), place.log_density.clone(), place.gradient.clone())
    end_momentum = momentum.clone()
    q, z, rows = end.position.clone(), momentum.clone(), None
    stepper = mass.stepper(step_size)
    z.add_(stepper.force(place.gradient), alpha=0.5)
    for step in range(steps):
        stepper.drift_(q, z)
        log_density, g = potential(q)
        finite = torch.isfinite(log_density)
        if not bool(finite.all()):
            before = torch.arange(len(q), device=q.device) if rows is None else rows
            end.log_density[before[~finite]] = -torch.inf
            rows = before[finite]
            q, z, g, log_density = q[finite], z[finite], g[finite], log_density[finite]
            stepper = mass.stepper(step_size[rows])
            if len(rows) == 0:
                break
        # The second half of a kick and the first half of the next are one.
        z.add_(stepper.force(g), alpha=1.0 if step < steps - 1 else 0.5)
        if step == steps - 1:
            at = slice(None) if rows is None else rows
            end.position[at], end.log_density[at], end.gradient[at], end_momentum[at] = q, log_density, g, z
    return end, end_momentum


def hmc(
    potential: Potential,
    place: Place,
    step_size: Tensor,
    mass: Mass,
    rng: torch.Generator,
    *,
    leapfrogs: int,
    jitter: float = 0.0,
) -> Transition:
    """One transition of Hamiltonian Monte Carlo: fresh momenta, a trajectory of fixed length, a Metropolis step."""
    momentum = normal(place.position, rng)
    u = torch.rand(2, len(step_size), generator=rng, dtype=torch.float64, device=rng.device).to(momentum.device)
    jittered = step_size * (1 + jitter * (2 * u[0] - 1)).to(step_size.dtype)
    end, end_momentum = leapfrog(potential, place, momentum, jittered, mass, leapfrogs)
    gain = (energy_at(end, end_momentum) - energy_at(place, momentum)).nan_to_num(nan=-torch.inf)
    accept = gain.clamp(max=0).exp()
    moved = u[1] < accept
    row = moved[:, None]
    return Transition(
        Place(
            torch.where(row, end.position, place.position),
            torch.where(moved, end.log_density, place.log_density),
            torch.where(row, end.gradient, place.gradient),
        ),
        accept,
        gain < -DIVERGENCE,
        torch.full_like(moved, leapfrogs, dtype=torch.int64),
        torch.zeros_like(moved, dtype=torch.int64),
    )
