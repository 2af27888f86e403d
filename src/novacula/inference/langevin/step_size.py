"""How long a step of stochastic-gradient sampling may be: from the steepest direction, and the gradient's noise in it.

Along a direction of curvature λ (of the mean tempered negative log-density), steps of length h widen the stationary
distribution twice over: by their own length, by about ``hλ`` times a constant, and because a minibatch's gradient is
itself noisy, with the variance s² along it, by about ``hNs²`` times another. Both are worst where the curvature is
largest. That direction is found by power iteration on the way to the first draw: a Hessian-vector product is the
difference of two gradients of one minibatch, and the noise that of the gradients of its two halves.

References:
    Stochastic gradient descent as approximate Bayesian inference. S. Mandt, M. D. Hoffman, D. M. Blei, 2017.
    arXiv:1704.04289 (the stationary distribution with both noises).
    Automatic learning rate maximization by on-line estimation of the Hessian's eigenvectors. Y. LeCun, P. Y. Simard,
    B. Pearlmutter, 1993 (power iteration along the way).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.many import normal_like, per_member
from novacula.core.params import Params
from novacula.core.rng import generator, split
from novacula.target import Density
from novacula.target.batch import Batch
from novacula.target.many import loss_and_gradient

FIRST = 10
"""Looks at the very first step, which find the direction."""
EVERY = 10
"""Steps from one look to the next, later."""
_NEW_CURVATURE, _NEW_NOISE = 0.2, 0.05  # shares of the latest look in the running means


@dataclass(frozen=True, eq=False)
class StepSize:
    """What is known of every chain's steepest direction; curvature ``(M,)``, noise ``(M,)``."""

    direction: Params  # unit vectors, stacked as weights are
    curvature: Tensor  # the largest curvature λ of the mean tempered negative log-density, shape ``(M,)``
    noise: Tensor  # the variance s² of a minibatch's mean gradient along it, shape ``(M,)``
    looks: int = 0  # how often it was looked at

    @classmethod
    def unknown(cls, params: Params, rng: torch.Generator) -> StepSize:
        """Random directions."""
        random = normal_like(params, rng)
        length = _norm(random)
        return cls(_times(1 / length, random), torch.zeros_like(length), torch.zeros_like(length))

    def look(
        self, target: Density, params: Params, batch: Batch, rng: torch.Generator, scale: Params | None = None
    ) -> StepSize:
        """One power iteration."""
        seed = split(rng)
        roots = None if scale is None else {k: s.sqrt() for k, s in scale.items()}
        way = self.direction if roots is None else {k: roots[k] * v for k, v in self.direction.items()}
        size = torch.finfo(self.curvature.dtype).eps ** 0.5 * (1 + _norm(params)) / _norm(way)
        n = len(batch.x)
        half = _rows(batch, 0, n // 2) if n > 1 else batch
        _, here = loss_and_gradient(target, params, half, generator(seed, "first"))
        moved = {k: w + per_member(size, w) * way[k] for k, w in params.items()}
        # The same transformations, or their difference would pass for curvature.
        _, there = loss_and_gradient(target, moved, half, generator(seed, "first"))
        bent = {k: (there[k] - g) / per_member(size, g) for k, g in here.items()}
        if roots is not None:
            bent = {k: roots[k] * v for k, v in bent.items()}
        curvature, noise = _norm(bent), torch.zeros_like(self.noise)
        if 1 < n < batch.total:
            _, other = loss_and_gradient(target, params, _rows(batch, n // 2, n // 2 * 2), generator(seed, "second"))
            # The difference of halves has four times the variance of their mean; rows are drawn without replacement.
            noise = _dot({k: here[k] - g for k, g in other.items()}, way).square() / 4 * (1 - n / batch.total)
        elif n == 1 < batch.total:
            noise = _dot(here, way).square()  # nothing to compare it with: an upper bound
        known = curvature.isfinite() & noise.isfinite() & (curvature > 0)
        turned = _times(1 / torch.where(known, curvature, 1), bent)
        direction = {k: torch.where(per_member(known, v), turned[k], v) for k, v in self.direction.items()}
        new = 1.0 if self.looks < FIRST else _NEW_CURVATURE
        newer = max(1 / (1 + self.looks), _NEW_NOISE)
        return dataclasses.replace(
            self,
            direction=direction,
            curvature=torch.where(known, (1 - new) * self.curvature + new * curvature, self.curvature),
            noise=torch.where(known, (1 - newer) * self.noise + newer * noise, self.noise),
            looks=self.looks + 1,
        )

    def rate(self, total: int, length: float, noise: float) -> Tensor:
        """The longest step that keeps both effects small, ``(M,)``."""
        inverse = self.curvature / length + total * self.noise / noise
        return torch.where(inverse > 0, 1 / inverse, 1.0)


def _rows(batch: Batch, start: int, stop: int) -> Batch:
    return dataclasses.replace(batch, x=batch.x[start:stop], y=batch.y[start:stop])


def _times(numbers: Tensor, params: Params) -> Params:
    return {k: per_member(numbers, w) * w for k, w in params.items()}


def _dot(a: Params, b: Params) -> Tensor:
    return torch.stack([(v * b[k]).reshape(len(v), -1).sum(1) for k, v in a.items()]).sum(0)


def _norm(params: Params) -> Tensor:
    return _dot(params, params).sqrt()
