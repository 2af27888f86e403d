"""The log-density of all data as a function of flat positions, for samplers that take many gradients of it.

All chains are evaluated at once. The function and its gradient are recorded once, as the list of the tensor operations
that they come to, and replayed: that saves the bookkeeping of autograd and of modules, which takes longer than the
arithmetic of a small network. A recording is held against the function itself before it is used; where it fails or
differs, or where the network cannot be recorded, the function itself is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from novacula.core.data import Data
from novacula.core.params import Params, unflatten
from novacula.inference.members import over_members, owner_of
from novacula.target import Density, Target

Potential: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions ``(M, P)`` to log-densities ``(M,)`` and their gradients ``(M, P)``."""

_AT_ONCE = 8_192  # transformed inputs that go through the network at once


def flat_density(target: Density, data: Data | None, like: Params, rng: torch.Generator) -> FlatDensity:
    """The log-density of all data over flat positions.

    Args:
        target: The target.
        data: The training data; None for a plain log-density.
        like: One point, which gives names, shapes and order.
        rng: Randomness of the transformations, which are drawn once: the density is a fixed function.

    Returns:
        The function.
    """
    if not isinstance(target, Target) or data is None:
        return FlatDensity(target, like, ((torch.zeros(0), torch.zeros(0)),), 1)
    xs = target.warp(data.x, target.copies.train, rng).detach()
    size = max(1, _AT_ONCE // xs.shape[1])
    return FlatDensity(target, like, tuple(zip(xs.split(size), data.y.split(size), strict=True)), data.n)


@dataclass(frozen=True, eq=False)
class FlatDensity:
    """``q (M, P) → log p(q) (M,), ∇ log p(q) (M, P)``.

    Args:
        target: The target.
        like: One point, which gives names, shapes and order.
        parts: The data in parts, inputs with their copies.
        total: N.
        recorded: Recordings by number of rows and part; filled as they are needed.
    """

    target: Density
    like: Params
    parts: tuple[tuple[Tensor, Tensor], ...]
    total: int
    recorded: dict[tuple[int, int], Callable[[Tensor], tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def __call__(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate all rows.

        Args:
            q: Positions, shape ``(M, P)``.

        Returns:
            Log-densities and gradients, detached.
        """
        value, gradient = self._part(q, 0)
        for i in range(1, len(self.parts)):
            v, g = self._part(q, i)
            value, gradient = value + v, gradient + g
        return value, gradient

    def _part(self, q: Tensor, i: int) -> tuple[Tensor, Tensor]:
        key = (q.shape[0], i)
        function = self.recorded.get(key)
        if function is None:
            function = self.recorded[key] = self._record(q, i)
        return function(q)

    def _record(self, q: Tensor, i: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        def plain(points: Tensor) -> tuple[Tensor, Tensor]:
            return self._value_and_gradient(points, i)

        expected = plain(q)
        try:
            replay = make_fx(plain)(q)
            # At another point too: a recording that froze a decision made at the first one would show there.
            moved = q + 0.1 * (1 + q.abs())
            same = all(
                torch.allclose(a, b, rtol=1e-4, atol=1e-5 * (1 + float(b.abs().max())), equal_nan=True)
                for point, answer in ((q, expected), (moved, plain(moved)))
                for a, b in zip(replay(point), answer, strict=True)
            )
        except Exception:
            return plain
        return _without_grad(replay) if same else plain

    def _value_and_gradient(self, q: Tensor, i: int) -> tuple[Tensor, Tensor]:
        xs, y = self.parts[i]

        def log_density(w: Params) -> Tensor:
            if not isinstance(self.target, Target):
                return self.target.log_density(w)
            # The prior counts once, with the first part.
            fit = self.target.likelihood.log_prob(self.target.forward.average(w, xs), y).sum()
            value = fit / self.target.likelihood_temperature
            return (value + self.target.prior.log_prob(w) if i == 0 else value) / self.target.temperature

        q = q.detach().requires_grad_()
        with torch.enable_grad():
            value = over_members(log_density, unflatten(q, self.like), owner_of(self.target))
            # A row whose density is not a number must not spoil the others: rows are independent, so their sum's
            # gradient is each row's own.
            (gradient,) = torch.autograd.grad(value.sum(), q)
        return value.detach(), gradient


def _without_grad(function: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def call(q: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return function(q)

    return call
