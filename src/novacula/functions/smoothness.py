"""How rough random functions of real inputs are: along straight paths between inputs, and around inputs.

Of outputs f at T points of a path, scaled by their root mean square over all paths:

- total variation ``Σ_t |f_{t+1} − f_t|``, summed over outputs;
- spectral energy: the share of ``Σ_k k |c_k|²`` over ``Σ_k |c_k|²``, of the cosine coefficients ``c_k`` after the mean
  was taken away: the mean number of half-waves on a path;
- the size of the gradient, ``‖∂f/∂x‖`` by the root mean square of f, by autograd at the inputs themselves;
- the critical sample ratio: the share of inputs whose label changes within a radius, in random directions.

References:
    Sensitivity and generalization in neural networks. R. Novak et al., 2018. arXiv:1802.08760 (gradients, paths).
    On the spectral bias of neural networks. N. Rahaman et al., 2019. arXiv:1806.08734.
    A closer look at memorization in deep networks. D. Arpit et al., 2017. arXiv:1706.05394 (critical samples).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.fft import dct
from torch import Tensor, nn

from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.many import over_members
from novacula.core.rng import generator
from novacula.functions.result import Interval, mean_interval
from novacula.functions.samplers.network import check_inputs
from novacula.priors import FanIn
from novacula.priors.base import Prior
from novacula.target import Target
from novacula.target.many import outputs


class Roughness(NamedTuple):
    """Means over networks with 95 % intervals, as the module says; each scaled so that a factor of f does not count."""

    variation: Interval
    half_waves: Interval
    gradient: Interval
    critical: Interval


def roughness(
    network: nn.Module,
    inputs: Tensor,
    n: int = 100,
    *,
    prior: Prior | None = None,
    points: int = 64,
    radius: float = 0.1,
    directions: int = 8,
    seed: int = 0,
) -> Roughness:
    """How rough the functions of random networks are.

    Args:
        network: Any module from ``(N, …)`` to ``(N, C)``; one output above zero is a label, of several the largest.
        inputs: Inputs ``(N, …)``, two or more; paths lead from each to the next.
        n: Networks to draw, two or more.
        prior: Prior over weights; `FanIn` by default.
        points: T, of each path.
        radius: Of critical samples, in units of the inputs' root mean square norm.
        directions: Random directions that are tried around each input, the same for all networks; more find more.
        seed: Seed of the draws.

    Returns:
        Four measures with their intervals over networks.

    Raises:
        InputError: If inputs repeat or are fewer than two, or a number is out of range.
    """
    check_whole("n", n, 2)
    check_whole("points", points, 3)
    check_whole("directions", directions)
    check_positive("radius", radius)
    if len(check_inputs(inputs)) < 2:
        raise InputError("two inputs or more, between which paths lead", "one", "pass more rows")
    target, rng = Target(network, prior=prior or FanIn()), generator(seed, "roughness")
    weights = target.prior.sample(target.params(), n, rng)
    at = torch.linspace(0, 1, points, dtype=inputs.dtype).view(-1, *[1] * inputs.ndim)
    paths = torch.lerp(inputs[:-1], inputs[1:], at).flatten(0, 1)  # (T · (N − 1), …)
    f = outputs(target, weights, paths).double().unflatten(1, (points, -1))  # (n, T, P, C)
    size = f.square().mean((1, 2, 3)).sqrt().clamp_min(torch.finfo(f.dtype).tiny)
    variation = f.diff(dim=1).abs().sum((1, 3)).mean(1) / size
    energy = torch.from_numpy(dct(f.numpy(), axis=1, norm="ortho"))[:, 1:].square().sum((2, 3))
    waves = (energy * torch.arange(1, points)).sum(1) / energy.sum(1).clamp_min(torch.finfo(f.dtype).tiny)

    def steep(w: dict[str, Tensor]) -> Tensor:
        def rows(x: Tensor) -> Tensor:
            return target.forward(w, x).sum(0)

        return torch.func.jacrev(rows)(inputs).flatten(2).square().sum((0, 2)).mean().sqrt()

    gradient = over_members(steep, weights, target.notes).double() / size
    length = radius * inputs.flatten(1).square().sum(1).mean().sqrt()
    around = torch.randn(directions, *inputs.shape, generator=rng, dtype=inputs.dtype)
    around = around / around.flatten(2).norm(dim=2).view(directions, -1, *[1] * (inputs.ndim - 1)) * length
    everywhere = torch.cat([inputs[None], inputs + around]).flatten(0, 1)
    labels = _labels(outputs(target, weights, everywhere)).unflatten(1, (directions + 1, -1))
    critical = (labels[:, 1:] != labels[:, :1]).any(1).double().mean(1)
    far = float("inf")
    return Roughness(
        *(mean_interval(v, 0.0, far) for v in (variation, waves, gradient)), critical=mean_interval(critical)
    )


def _labels(f: Tensor) -> Tensor:
    return f[..., 0] > 0 if f.shape[2] == 1 else f.argmax(2)
