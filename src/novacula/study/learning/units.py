"""A target between the units of raw data: what `learn` does where nobody has brought them to standard ones.

Tables are standardised by column. Images and signals keep their zero, which padding and borders stand for: they are
divided by their largest value where none is negative, and by their root mean square otherwise. Targets are standardised
where the likelihood has Gaussian noise of one size, which then is in the units of the targets, as the evidence is. A
network with hyperparameters of its own (a width, say) has been written for the units that it gets, which stay.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from novacula.core.units import Units
from novacula.data.data import Data
from novacula.data.lazy import some_rows
from novacula.data.standardise import Standardiser
from novacula.invariances.measured import measured
from novacula.target import Target


def between_units(target: Target, data: Data, *, noise: bool = True) -> Target:
    """The target between scales measured on the data; as it is, where data or target have been scaled already."""
    if target.invariance is not None:
        target = dataclasses.replace(target, invariance=measured(target.invariance, some_rows(data.x)))
    own = target.forward.units
    if data.scaling is not None or own.x_sd.numel() or own.y_sd.numel() or target.forward.learnable():
        return target
    scale, nothing = Standardiser.fit(data), torch.empty(0)
    x_mean, x_sd = (scale.x_mean, scale.x_sd) if data.x.ndim == 2 else (torch.zeros(1), _size(data.x))
    if data.parts is not None:  # ids and masks have no scale, and images come in one
        x_mean = x_sd = nothing
    y_mean, y_sd = (scale.y_mean, scale.y_sd) if target.likelihood.quadratic else (nothing, nothing)
    if not x_sd.numel():
        x_mean = nothing
    found = target.in_units(Units(x_mean, x_sd, y_mean, y_sd))
    return found if noise else dataclasses.replace(found, likelihood=target.likelihood)


def _size(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        return torch.empty(0)
    wide = some_rows(x).detach().double()
    size = wide.amax() if bool((wide >= 0).all()) else wide.square().mean().sqrt()
    return (size if size > 0 else torch.ones(())).reshape(1)
