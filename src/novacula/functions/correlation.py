"""How alike a random network's outputs are at two inputs: what a prior over functions holds to be the same.

    ρ(x, x') = Σ_c E f_c(x) f_c(x') / √(Σ_c E f_c(x)² · Σ_c E f_c(x')²)

over networks drawn from the prior, uncentred, as outputs have the mean 0 under a prior of the last layer that is
symmetric: the kernel of the Gaussian process that a wide network is, in units of its variances. A network that holds an
image and its translation to be the same has a correlation near 1 between them.

References:
    Bayesian deep learning and a probabilistic perspective of generalization. A. G. Wilson, P. Izmailov, 2020.
    arXiv:2002.08791.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.stats import t as student
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.rng import generator
from novacula.functions.result import Interval
from novacula.functions.samplers.network import check_inputs
from novacula.priors import FanIn
from novacula.priors.base import Prior
from novacula.target import Target
from novacula.target.many import prior_outputs

_GROUPS = 20  # of networks, each left out once


class Correlation(NamedTuple):
    """Mean over pairs, with the interval that a finite number of networks leaves, and each pair's, ``(N,)``."""

    mean: Interval
    pairs: Tensor


def correlation(
    network: nn.Module, inputs: Tensor, others: Tensor, n: int = 1_000, *, prior: Prior | None = None, seed: int = 0
) -> Correlation:
    """How alike outputs are at inputs and at others, input by input.

    Args:
        network: Any module from ``(N, …)`` to ``(N, C)``.
        inputs: Inputs ``(N, …)``.
        others: As many: translations of the first, say, or inputs of another class.
        n: Networks to draw, 40 or more.
        prior: Prior over weights; `FanIn` by default.
        seed: Seed of the draws.

    Returns:
        Correlations from −1 to 1; the interval of the mean is a jackknife's over groups of networks.

    Raises:
        InputError: If inputs repeat, there are not as many others, or n is below 40.
        NonFiniteError: If outputs are not finite.

    Example:
        >>> x = torch.tensor([[1.0, 0.0]])
        >>> found = correlation(nn.Linear(2, 1, bias=False), x, -x)
        >>> round(found.mean.value, 4)
        -1.0
    """
    check_whole("n", n, 2 * _GROUPS)
    check_inputs(inputs)
    if not isinstance(others, Tensor) or others.shape != inputs.shape:
        got = f"shape {tuple(others.shape)}" if isinstance(others, Tensor) else type(others).__name__
        raise InputError(f"others of shape {tuple(inputs.shape)}, one for each input", got, "inputs.roll(1, -1)")
    target = Target(network, prior=prior or FanIn())
    f = prior_outputs(target, torch.cat([inputs, others]), n, generator(seed, "correlation")).double()
    if not bool(torch.isfinite(f).all()):
        raise NonFiniteError("finite outputs", "NaN or infinity", "use a prior with smaller weights")
    a, b = f.unflatten(1, (2, -1)).unbind(1)
    moments = torch.stack([(a * b).sum(2), a.square().sum(2), b.square().sum(2)])  # (3, n, N)
    groups = torch.stack([part.sum(1) for part in moments.tensor_split(_GROUPS, 1)])  # (G, 3, N)
    whole = groups.sum(0)
    pairs, without = _ratio(whole), _ratio((whole - groups).transpose(0, 1)).mean(1)
    error = math.sqrt((_GROUPS - 1) * float(without.var(correction=0)))
    value, half = float(pairs.mean()), float(student.ppf(0.975, _GROUPS - 1)) * error
    return Correlation(Interval(value, max(-1.0, value - half), min(1.0, value + half)), pairs)


def _ratio(moments: Tensor) -> Tensor:
    # Where an output is always zero, nothing is said of it.
    both, first, second = moments
    return both / (first * second).sqrt().clamp_min(torch.finfo(both.dtype).tiny)
