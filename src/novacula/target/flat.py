"""The log-density of all data as a function of flat positions, for samplers that take many gradients of it.

Several chains are evaluated at once, in chunks whose activations stay near the processor. The function and its gradient
are recorded and replayed (see `novacula.core.recording.record`), and compiled for a long run; where a network cannot be
recorded, the function itself is used. A row that has no density leaves the other rows as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.many import chunk_of, in_chunks, over_members
from novacula.core.params import Params, flatten, unflatten
from novacula.core.recording.record import Function, record
from novacula.data.data import Data
from novacula.priors.scales import flat_precision
from novacula.target import Density, Target

Potential: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Positions ``(M, P)`` to log-densities ``(M,)`` and their gradients ``(M, P)``."""

_AT_ONCE = 8_192  # transformed inputs that go through the network at once


def flat_density(
    target: Density, data: Data | None, like: Params, rng: torch.Generator, *, gradients: int = 0
) -> FlatDensity:
    """The log-density of all data over flat positions."""
    if not isinstance(target, Target) or data is None:
        return FlatDensity(target, like, ((torch.zeros(0), torch.zeros(0)),), 1, None, gradients)
    xs = target.scored(data.x, target.copies.train, rng).detach()
    size = max(1, _AT_ONCE // xs.shape[1])
    parts = tuple(zip(xs.split(size), data.y.split(size), strict=True))
    gaussian = None
    if target.prior.gaussian:
        with torch.no_grad():
            centre = target.prior.centre(like) or {k: torch.zeros_like(w) for k, w in like.items()}
            peak = target.prior.log_prob(centre)
        gaussian = (peak, flat_precision(target.prior.precision(like), like), flatten(centre))
    return FlatDensity(target, like, parts, data.n, gaussian, gradients)


@dataclass(frozen=True, eq=False)
class FlatDensity:
    """``q (M, P) → log p(q) (M,), ∇ log p(q) (M, P)``; gaussian ``(P,)``."""

    target: Density  # the target
    like: Params  # one point, which gives names, shapes and order
    parts: tuple[tuple[Tensor, Tensor], ...]  # the data in parts, inputs with their copies
    total: int  # N
    gaussian: tuple[Tensor, Tensor, Tensor] | None = None  # the prior's peak, precision and mean
    gradients: int = 0  # how often it will be called, about
    functions: dict[tuple[object, ...], Function] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)  # how many rows to take at once, by the number of rows

    def __call__(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate all rows; q ``(M, P)``."""
        size, rows, notes = self._rows_at_once(q), self._inputs, self.target.notes

        def of_chunk(start: int, stop: int) -> tuple[Tensor, Tensor]:
            # Chunks come in few sizes, as each is recorded anew: copies of the last row fill up what is missing.
            chunk = q[start:stop]
            wide = min(notes.at_most(size, rows), _rounded(len(chunk)))
            if wide == len(chunk):
                return self._rows(chunk)
            index = torch.arange(wide, device=q.device).clamp(max=len(chunk) - 1)
            value, gradient = self._rows(chunk[index])
            return value[: len(chunk)], gradient[: len(chunk)]

        found = in_chunks(of_chunk, len(q), size, notes, rows)
        if len(found) == 1:
            return found[0]
        return torch.cat([v for v, _ in found]), torch.cat([g for _, g in found])

    @property
    def _inputs(self) -> int:
        return self.parts[0][0].shape[:2].numel() if isinstance(self.target, Target) else 1

    def _rows_at_once(self, q: Tensor) -> int:
        if self.target.notes.looped:
            return 1
        if len(q) not in self.sizes:
            like = {k: w.expand(len(q), *w.shape) for k, w in self.like.items()}
            self.sizes[len(q)] = chunk_of(like, self._inputs)
        return self.sizes[len(q)]

    def _rows(self, q: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = self._part(q, 0)
        for i in range(1, len(self.parts)):
            v, g = self._part(q, i)
            value, gradient = value + v, gradient + g
        return value, gradient

    def _part(self, q: Tensor, i: int) -> tuple[Tensor, Tensor]:
        # Of several parts, those of one size share a recording, which takes the data as inputs.
        inputs = (q, *self.parts[i]) if len(self.parts) > 1 else (q,)
        key = (i == 0, *(x.shape for x in inputs))
        function = self.functions.get(key)
        if function is None:
            function = self.functions[key] = self._function(inputs, i == 0)
        value, gradient = function(*inputs)
        return value, gradient

    def _function(self, inputs: tuple[Tensor, ...], first: bool) -> Function:
        def plain(q: Tensor, *data: Tensor) -> tuple[Tensor, Tensor]:
            return self.value_and_gradient(q, *(data or self.parts[0]), with_prior=first)

        q = inputs[0]
        self.target.notes.hold(lambda i, j: plain(q[i:j], *inputs[1:]), len(q))
        plain(*inputs)  # finds out whether the network must be looped over, which makes too long a recording
        if len(q) > 1 and self.target.notes.looped:
            return plain
        # At another point too: a recording that froze a decision made at the first one would show there.
        moved = q + 0.1 * (1 + q.abs()) * torch.randn(q.shape, generator=torch.Generator().manual_seed(0)).to(q)
        # The other sizes are those of the few rows that go on when most are done.
        calls = 0 if self.functions else self.gradients
        return record(plain, inputs, (moved, *inputs[1:]), fold=True, calls=calls, fewer=len(q) > 1) or plain

    def value_and_gradient(self, q: Tensor, xs: Tensor, y: Tensor, *, with_prior: bool) -> tuple[Tensor, Tensor]:
        """Evaluate some rows on some data, without a recording; q ``(M, P)``, xs ``(B, S, …)``."""
        target = self.target

        def log_density(w: Params) -> Tensor:
            if not isinstance(target, Target):
                return target.log_density(w)
            value = target.likelihood.log_prob(target.forward.average(w, xs), y).sum() / target.likelihood_temperature
            if with_prior and self.gaussian is None:
                value = value + target.prior.log_prob(w)
            return value / target.temperature

        q = q.detach().requires_grad_()
        with torch.enable_grad():
            value = over_members(log_density, unflatten(q, self.like), target.notes)
            # A row whose density is not a number must not spoil the others: rows are independent, so their sum's
            # gradient is each row's own.
            (gradient,) = torch.autograd.grad(value.sum(), q)
        value = value.detach()
        if isinstance(target, Target) and with_prior and self.gaussian is not None:
            peak, precision, centre = self.gaussian
            away = q.detach() - centre
            slope = precision / target.temperature * away
            half = (0.5 * slope * away).sum(1)
            value, gradient = value + (peak / target.temperature - half.to(peak.dtype)), gradient - slope
        return value, gradient


def _rounded(n: int) -> int:
    # 1, 2, 3, 4, 6, 8, 12, 16, 24, …: at most half as much again.
    power = 1 << (n - 1).bit_length()
    return power * 3 // 4 if n <= power * 3 // 4 else power
