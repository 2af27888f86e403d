"""Gaussian posteriors over weights, given by their moments: diagonal, and low-rank plus diagonal.

    w ~ N(m, diag(s²))                    `DiagonalGaussian`, what mean-field methods leave;
    w ~ N(m, diag(s²) + F Fᵀ)             `LowRankGaussian`, what SWAG leaves, with F of shape (P, R).

A draw of the second costs R numbers more than one of the first, and no matrix of P × P is ever made (but for
`LowRankGaussian.covariance`, for small networks).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.many import normal_like
from novacula.core.params import Params, flatten, unflatten
from novacula.posteriors.base import BasePosterior
from novacula.target import Density


@dataclass(frozen=True, eq=False)
class DiagonalGaussian(BasePosterior):
    """``N(m, diag(s²))``.

    Args:
        mode: m.
        sd: s, of the same shapes.
        target: The target whose posterior it stands for.
        warnings: Reservations a reader must know.
    """

    mode: Params
    sd: Params
    target: Density
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw weights, ``(n, *shape)``."""
        noise = normal_like({k: w.expand(n, *w.shape) for k, w in self.mode.items()}, rng)
        return {k: w + self.sd[k] * noise[k] for k, w in self.mode.items()}

    def scaled(self, scale: float) -> DiagonalGaussian:
        """The same mean, and the covariance times a positive factor."""
        root = _positive(scale) ** 0.5
        return replace(self, sd={k: root * s for k, s in self.sd.items()})


@dataclass(frozen=True, eq=False)
class LowRankGaussian(BasePosterior):
    """``N(m, diag(s²) + F Fᵀ)``.

    Args:
        mode: m.
        variance: s², of the same shapes.
        factor: Fᵀ, shape ``(R, P)``, in the order of `novacula.core.params.flatten`.
        target: The target whose posterior it stands for.
        warnings: Reservations a reader must know.
    """

    mode: Params
    variance: Params
    factor: Tensor
    target: Density
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw weights, ``(n, *shape)``."""
        independent = normal_like({k: w.expand(n, *w.shape) for k, w in self.mode.items()}, rng)
        shape = (n, len(self.factor))
        common = torch.randn(shape, generator=rng, device=rng.device, dtype=self.factor.dtype).to(self.factor.device)
        shared = unflatten(common @ self.factor, self.mode)
        return {k: w + self.variance[k].sqrt() * independent[k] + shared[k] for k, w in self.mode.items()}

    def scaled(self, scale: float) -> LowRankGaussian:
        """The same mean, and the covariance times a positive factor."""
        root = _positive(scale) ** 0.5
        return replace(self, variance={k: scale * v for k, v in self.variance.items()}, factor=root * self.factor)

    def covariance(self) -> Tensor:
        """The dense covariance ``(P, P)``, float64, for small networks."""
        factor = self.factor.double()
        return torch.diag(flatten(self.variance).double()) + factor.T @ factor


def _positive(scale: float) -> float:
    if not 0 < scale < float("inf"):
        raise InputError("a scale above zero", str(scale), "use 1 for the covariance as it is")
    return scale
