"""What a unit of an extent is, where its transformation is a function of the user's own.

The extents of the house's transformations are reckoned alike: at 1 a warp has moved an image beyond recognition, and a
step or a threshold of .02 means the same for all of them. A user's extent may be in samples, decibels or years. Its
unit is found by trying: that at which inputs would be twice their spread from where they were, if they went on as they
set out,

    u_i = 2 s / r_i,        r_i² = E ‖∂T(x; noise, eta)/∂eta_i‖² / D,        s² = E ‖x − E x‖² / D,

with the derivatives' squares by Hutchinson's random signs. The sign of an extent carries no meaning where the noise is
symmetric and the transformation that of the other sign under the opposite noise, which is found by trying, too.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor

from novacula.core.rng import generator
from novacula.invariances.base import Invariance
from novacula.invariances.compose import Compose
from novacula.invariances.custom import Custom
from novacula.invariances.on_part import OnPart

_ROWS, _PROBES = 64, 64  # the unit to a fifth, which is as well as it need be known


def unit_of(invariance: Invariance | None) -> Tensor:
    """The units of extents, shape ``(K,)``; ones of the house's own."""
    if isinstance(invariance, Compose):
        return torch.cat([unit_of(part) for part in invariance.parts])
    if isinstance(invariance, OnPart):
        return unit_of(invariance.invariance)
    found = getattr(invariance, "unit", None)
    return torch.ones(0 if invariance is None else len(invariance.names)) if found is None else found


def measured(invariance: Invariance, x: Tensor, seed: int = 0) -> Invariance:
    """The same invariance, with units of extents and the meaning of signs as 64 of the inputs ``(N, …)`` show them."""
    x = x[:_ROWS].detach()
    if isinstance(invariance, Compose):
        return Compose(parts=tuple(measured(part, x, seed) for part in invariance.parts), eta=invariance.eta)
    if isinstance(invariance, OnPart) and invariance.layout is not None:
        inner = measured(invariance.invariance, invariance.layout.split(x)[invariance.part], seed)
        return dataclasses.replace(invariance, invariance=inner)
    if not isinstance(invariance, Custom) or invariance.unit is not None:
        return invariance
    noise = invariance.noise(len(x), x, generator(seed, "noise"))
    return dataclasses.replace(invariance, unit=_unit(invariance, x, noise, seed), signed=_signed(invariance, x, noise))


def _unit(invariance: Custom, x: Tensor, noise: Tensor, seed: int) -> Tensor:
    # Where nothing is told, by extents that do nothing or have no derivative, the unit is 1.
    eta = invariance.eta.detach().clone().requires_grad_()
    with torch.enable_grad():
        out = dataclasses.replace(invariance, eta=eta)(x, noise)
    squares, rng = torch.zeros_like(eta), generator(seed, "probes")
    for _ in range(_PROBES if out.requires_grad else 0):
        signs = (torch.randint(0, 2, out.shape, generator=rng) * 2 - 1).to(out)
        squares += torch.autograd.grad(out, eta, signs, retain_graph=True)[0].square()
    rate = (squares / _PROBES / out.numel()).sqrt()
    wide = x.double()
    spread = (wide - wide.mean(0)).square().mean().sqrt().to(eta)
    unit = 2 * spread / rate
    return torch.where(torch.isfinite(unit) & (unit > 0), unit, torch.ones_like(unit)).detach()


def _signed(invariance: Custom, x: Tensor, noise: Tensor) -> tuple[bool, ...]:
    # An extent's own number of the noise is known where there is one for each.
    extents = len(invariance.names)
    if noise.shape[1:] != (extents,):
        return (True,) * extents
    # At extents of nought there is nothing to see.
    eta = torch.where(invariance.eta == 0, torch.full_like(invariance.eta, 0.1), invariance.eta).detach()
    ahead = dataclasses.replace(invariance, eta=eta)(x, noise)
    found = list[bool]()
    for i in range(extents):
        flip = torch.ones(extents, dtype=eta.dtype, device=eta.device)
        flip[i] = -1
        back = dataclasses.replace(invariance, eta=eta * flip)(x, noise * flip.to(noise))
        found.append(not torch.allclose(ahead, back, rtol=1e-4, atol=1e-4 * float(ahead.abs().amax()) + 1e-12))
    return tuple(found)


def within(invariance: Invariance, i: int, value: float) -> float:
    """The magnitude of the nearest admissible value of the i-th extent."""
    eta = invariance.eta.detach().clone()
    eta[i] = value
    return float(cast(Any, invariance).magnitude(invariance.project(eta))[i])
