"""How fast probability falls with complexity: the line that bounds it from above.

Coding theorems bound the probability of an output by its complexity, ``P(f) ≤ 2^(a − b K(f))``, and leave open how far
below a function lies. So the line is not fitted through the points: of all lines that no point lies above, it is the
one closest to the most probable function of each complexity. The most frequent of many rare functions is more frequent
than it is probable, which flattens the line; resampling the counts does so again, so a bootstrap gives no interval.

References:
    Input-output maps are strongly biased towards simple outputs. K. Dingle, C. Q. Camargo, A. A. Louis, 2018. Nature
    Communications 9.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.rng import derive
from novacula.functions.lz import lz_bits
from novacula.functions.result import FunctionSample, Interval, mean_interval
from novacula.functions.sample import sample
from novacula.functions.samplers.network import Sampler
from novacula.functions.samplers.weights import Drawn


class Bound(NamedTuple):
    """``log₂ P ≤ intercept + slope · K``."""

    slope: float
    intercept: float


def complexity_bound(found: FunctionSample, complexity: object, *, least: int = 10) -> Bound:
    """The line that bounds log-probability from above.

    Args:
        found: Functions with their counts.
        complexity: A number for each, ``(F,)``: `lz_bits` of ``found.labels``, for instance.
        least: How often a function must have been drawn to count.

    Returns:
        Slope and intercept of the line that minimises ``Σ_K (a + b K − log₂ P_K)`` above all, P_K being the largest
        share of draws at complexity K; compare lines of several ``least`` and numbers of draws.

    Raises:
        InputError: If there is no number for each function, or fewer than two complexities were drawn often enough.
    """
    check_whole("least", least)
    k = np.asarray(complexity, float)
    if k.shape != found.counts.shape or not np.isfinite(k).all():
        raise InputError(f"{len(found.counts)} finite complexities", f"shape {k.shape}", "lz_bits(found.labels)")
    often = found.counts >= least
    k, counts = k[often], found.counts[often]
    if len(np.unique(k)) < 2:
        got = f"{len(np.unique(k))} of functions drawn {least} times"
        raise InputError("two complexities or more", got, "draw more functions, or lower least")
    return _line(k, np.log2(counts / found.n))


def slope_interval(
    network: nn.Module | Sampler,
    inputs: Tensor,
    n: int = 100_000,
    *,
    prior: Drawn | None = None,
    replicas: int = 4,
    least: int = 10,
    seed: int = 0,
) -> Interval:
    """The slope of `complexity_bound` against `lz_bits`, with an interval from samples that are drawn anew.

    The line depends on how many functions were drawn, and the interval is of that line: compare networks of other
    widths and depths at one n.

    Args:
        network: A network or sampler, as `sample` takes it.
        inputs: The inputs.
        n: Functions of each sample.
        prior: The prior.
        replicas: Independent samples, two or more.
        least: How often a function must have been drawn to count.
        seed: Seed of the draws.

    Returns:
        The mean slope and its 95 % interval, of Student's t.

    Raises:
        InputError: As `sample` and `complexity_bound` have them, or if there is one replica.
    """
    check_whole("replicas", replicas, 2)
    slopes = []
    for i in range(replicas):
        found = sample(network, inputs, n, prior=prior, seed=derive(seed, "replica", i))
        often = replace(found, counts=found.counts[found.counts >= least], keys=found.keys[found.counts >= least])
        slopes.append(complexity_bound(often, lz_bits(often.labels), least=least).slope)
    return mean_interval(torch.tensor(slopes), -math.inf, math.inf)


def _line(k: np.ndarray, log: np.ndarray) -> Bound:
    each, where = np.unique(k, return_inverse=True)
    best = np.full(len(each), -np.inf)
    np.maximum.at(best, where, log)
    found = linprog(
        [len(each), each.sum()], A_ub=-np.stack([np.ones_like(each), each], 1), b_ub=-best, bounds=[(None, None)] * 2
    )
    return Bound(float(found.x[1]), float(found.x[0]))
