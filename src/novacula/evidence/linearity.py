"""Is a model linear-Gaussian? Then its evidence has a closed form."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.target import Target


def is_linear_gaussian(
    target: Target, params: Params, data: Data, *, seed: int, names: Sequence[str] | None = None, examples: int = 16
) -> bool:
    """Whether outputs are affine in the weights, and prior and likelihood are Gaussian.

    Five collinear points in a random direction of weight space must give collinear outputs, at the inputs of random
    examples and over steps from a tenth of the weights' size to many times it. A network that is not affine but passes
    would have to be so along that direction over that whole range.

    Returns:
        True if so, to rounding.
    """
    if not target.likelihood.quadratic or not target.prior.gaussian:
        return False
    rng = generator(seed, "linearity")
    chosen = torch.randperm(data.n, generator=rng)[:examples].to(data.x.device)
    direction = {
        k: torch.randn(w.shape, generator=rng, dtype=torch.float64).to(w) * (1 + w.detach().square().mean().sqrt())
        for k, w in params.items()
        if names is None or k in names
    }
    with torch.no_grad():
        xs = target.scored(data.x[chosen], 2, generator(seed, "linearity", "warp"))
        origin = target.forward.average(dict(params), xs)
        bend, size = 0.0, float(origin.abs().max())
        for step in (0.1, 3.0):
            ahead, behind = (
                target.forward.average({**params, **{k: params[k] + sign * step * d for k, d in direction.items()}}, xs)
                for sign in (1.0, -1.0)
            )
            bend = max(bend, float((ahead + behind - 2 * origin).abs().max()) / step)
            size = max(size, float((ahead - origin).abs().max()) / step)
    # Of sums of P products in floating point; written so that NaN counts as not linear.
    return bend <= 100 * torch.finfo(origin.dtype).eps * size
