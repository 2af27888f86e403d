"""Mass matrices: the linear map that makes a posterior look round to Hamiltonian dynamics.

A mass is given by a factor of its inverse, ``M⁻¹ = L Lᵀ``, which should be like the posterior's covariance. All
momenta here are whitened, ``z = Lᵀ p``: then ``z ~ N(0, I)``, the kinetic energy is ``½|z|²``, positions move by
``dq = ε L z`` and momenta by ``dz = ε Lᵀ ∇ log p``. U-turn criteria become plain inner products of whitened momenta,
whatever the mass.

References:
    Stan reference manual, "Automatic parameter tuning" (shrinkage of estimated variances). Stan development team, 2024.
    Nonparametric eigenvalue-regularized precision or covariance matrix estimator. C. Lam, 2016. The Annals of
    Statistics 44(3) (directions from one part of the data, their variances from the other).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

_LEAST = 1e-8  # a standardised variance; chains that stand still would have 0


class Stepper(Protocol):
    """The linear parts of a leapfrog step, prepared for given step sizes."""

    def drift_(self, position: Tensor, momentum: Tensor) -> None:
        """Add ``ε L z`` to positions, in place; shapes ``(A, P)``."""
        ...

    def force(self, gradient: Tensor) -> Tensor:
        """``ε Lᵀ g``, shape ``(A, P)``; half of it is added to momenta before and after a drift."""
        ...


@dataclass(frozen=True, eq=False)
class DiagonalMass:
    """Independent coordinates, ``L = diag(scale)``; scale ``(P,)``."""

    scale: Tensor  # the sds by which coordinates are measured, shape ``(P,)``

    def stepper(self, step_size: Tensor) -> Stepper:
        """Prepare leapfrog steps; step_size ``(A,)``."""
        full = step_size.to(self.scale.dtype)[:, None] * self.scale
        return _DiagonalStepper(full)


@dataclass(frozen=True, eq=False)
class LowRankMass:
    """A diagonal and a few directions, ``M⁻¹ = D^½ (I + U (Λ − I) Uᵀ) D^½`` and ``L = D^½ (I + U (Λ^½ − I) Uᵀ)``."""

    scale: Tensor  # the square roots of D, shape ``(P,)``
    directions: Tensor  # orthonormal columns U, shape ``(P, R)``; unused columns are 0
    variances: Tensor  # Λ, shape ``(R,)``; 1 for unused columns

    def stepper(self, step_size: Tensor) -> Stepper:
        """Prepare leapfrog steps; step_size ``(A,)``."""
        full = step_size.to(self.scale.dtype)[:, None] * self.scale
        return _LowRankStepper(full, self.directions * (self.variances.sqrt() - 1), self.directions.mT)


Mass: TypeAlias = DiagonalMass | LowRankMass


@dataclass(frozen=True, eq=False)
class _DiagonalStepper:
    scale: Tensor

    def drift_(self, position: Tensor, momentum: Tensor) -> None:
        position.addcmul_(self.scale, momentum)

    def force(self, gradient: Tensor) -> Tensor:
        return gradient * self.scale


@dataclass(frozen=True, eq=False)
class _LowRankStepper:
    scale: Tensor
    weighted: Tensor
    transposed: Tensor

    def drift_(self, position: Tensor, momentum: Tensor) -> None:
        position.addcmul_(self.scale, torch.addmm(momentum, momentum @ self.weighted, self.transposed))

    def force(self, gradient: Tensor) -> Tensor:
        force = gradient * self.scale
        return force.addmm_(force @ self.weighted, self.transposed)


def unit_mass(like: Tensor) -> DiagonalMass:
    """The identity; like ``(M, P)``."""
    return DiagonalMass(torch.ones_like(like[0]))


def diagonal_mass(variance: Tensor, n: int) -> DiagonalMass:
    """A diagonal mass from estimated variances, shrunk as Stan does: ``(n v + 5 · 10⁻³) / (n + 5)``."""
    return DiagonalMass(((n * variance + 5e-3) / (n + 5)).sqrt())


def no_directions(mass: DiagonalMass, rank: int) -> LowRankMass:
    """A diagonal mass in the form of a low-rank one, to be filled later."""
    unused = mass.scale.new_zeros(len(mass.scale), rank)
    return LowRankMass(mass.scale, unused, torch.ones_like(unused[0]))


def low_rank_mass(draws: Tensor, variance: Tensor, n: int, rank: int) -> LowRankMass:
    """A mass that knows the directions in which the standardised draws vary much more or less than in most.

    Draws are centred within their chain and standardised by the shrunk variances. One half of them (of the chains,
    where there are two or more) proposes directions, the eigenvectors of its covariance; the other half tells their
    variances λ, and the mean variance of all directions that the first half does not reach. Where there are more
    weights than draws, most directions of large variance in the first half are chance; in the second they are not
    large. The median of the variances becomes part of the diagonal, and relative to it λ is shrunk to
    ``λ^(n/(n + 5))``; directions with λ outside [1/2, 2] are kept, the ``rank`` most extreme of them.

    Returns:
        The mass; unused directions are padded.
    """
    scale = diagonal_mass(variance, n).scale
    x = ((draws - draws.mean(1, keepdim=True)) / scale).flatten(0, 1).to(torch.float64)
    first, second = x.tensor_split(2)
    u = _eigenvectors(first)
    lam = (second @ u).square().mean(0).clamp(min=_LEAST)
    missed = u.shape[0] - u.shape[1]
    left = ((second.square().sum(1).mean() - lam.sum()) / max(1, missed)).clamp(min=_LEAST)
    most = torch.cat([lam, left.expand(missed)]).median()
    lam = (lam / most) ** (len(second) / (len(second) + 5))
    extreme = lam.log().abs()
    order = extreme.argsort(descending=True)[:rank]
    order = order[extreme[order] > math.log(2)]
    mass = no_directions(DiagonalMass((scale * most.sqrt()).to(scale.dtype)), rank)
    mass.directions[:, : len(order)] = u[:, order].to(scale.dtype)
    mass.variances[: len(order)] = lam[order].to(scale.dtype)
    return mass


def _eigenvectors(x: Tensor) -> Tensor:
    # Of xᵀx, from the smaller of the two Gram matrices; directions in which x does not vary at all are left out.
    n, p = x.shape
    if p <= n:
        return torch.linalg.eigh(x.mT @ x).eigenvectors
    values, vectors = torch.linalg.eigh(x @ x.mT)
    real = values > values[-1] * n * torch.finfo(x.dtype).eps
    return (x.mT @ vectors[:, real]) / values[real].sqrt()
