"""Is a model linear-Gaussian? Then its evidence has a closed form."""

from __future__ import annotations

import torch

from novacula.core.data import Data
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.likelihoods import Normal
from novacula.priors import FanIn, Gaussian
from novacula.target import Target


def is_linear_gaussian(target: Target, params: Params, data: Data, *, seed: int, examples: int = 4) -> bool:
    """Whether outputs are affine in the weights, and prior and likelihood are Gaussian.

    Three collinear points in a random direction of weight space must give collinear outputs, at the inputs of a few
    examples and over steps that are large against the weights. A network that is non-linear but passes would have to be
    linear along that direction over that whole range.

    Args:
        target: The model.
        params: A point in weight space.
        data: The data; the first ``examples`` rows are used.
        seed: Seed of the direction.
        examples: How many inputs to try.

    Returns:
        True if so, to rounding.
    """
    if not isinstance(target.likelihood, Normal) or not isinstance(target.prior, Gaussian | FanIn):
        return False
    rng = generator(seed, "linearity")
    with torch.no_grad():
        xs = target.warp(data.x[:examples], 2, generator(seed, "linearity", "warp"))
        points = []
        direction = {k: torch.randn(w.shape, generator=rng, dtype=w.dtype) for k, w in params.items()}
        for step in (-3.0, 0.0, 3.0):
            points.append(target.forward.average({k: w + step * direction[k] for k, w in params.items()}, xs))
        bend = (points[0] + points[2] - 2 * points[1]).abs().max()
        size = torch.stack(points).abs().max()
    return bool(bend <= 50 * torch.finfo(bend.dtype).eps * size)
