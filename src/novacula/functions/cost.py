"""What drawing functions will cost, found by drawing a few."""

from __future__ import annotations

import time
from typing import NamedTuple

from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.rng import generator
from novacula.functions.samplers.network import Sampler, as_sampler, check_inputs
from novacula.functions.samplers.weights import Drawn, Format

_LONG = 0.1  # seconds that a trial should take to be told from its overhead
_ROW = 100  # bytes of a function in the table, about, and as many again while it is sorted


class Cost(NamedTuple):
    """Seconds, and bytes at most: where functions come again, fewer are kept."""

    seconds: float
    bytes: int


def cost(
    network: nn.Module | Sampler,
    inputs: Tensor,
    n: int,
    *,
    prior: Drawn | None = None,
    format: Format = "float32",
    seed: int = 0,
    limit: int = 2**23,
) -> Cost:
    """Estimate what `sample` would take, by drawing 16 functions, 64, 256 … until they take a tenth of a second.

    Args:
        network: As `sample` takes it; so are all others.
        inputs: The inputs.
        n: How many functions are to be drawn; 0 costs nothing.
        prior: The prior.
        format: The number format.
        seed: Seed of the trial, whose functions are not counted.
        limit: Distinct functions that memory is given to.

    Returns:
        Seconds of wall-clock time, within a factor of about two, and bytes at most.

    Raises:
        InputError: If inputs repeat or are no finite floats, or n is no whole number.

    Example:
        >>> from novacula.functions import cube
        >>> cost(nn.Linear(2, 1), cube(2), 1_000).bytes
        400000
    """
    check_whole("n", n, 0)
    drawn = as_sampler(network, prior, format)
    check_inputs(inputs)
    drawn(inputs, 1, generator(seed, "cost"))  # what is done once
    trial, took = 16, 0.0
    while n:
        began = time.perf_counter()
        drawn(inputs, min(trial, n), generator(seed, "cost", trial))
        took = time.perf_counter() - began
        if took > _LONG or trial >= min(n, 2**14):
            break
        trial *= 4
    each = 2 * (_ROW + len(inputs) * (len(inputs) > 8 * _ROW))
    return Cost(took * n / min(trial, max(n, 1)), 2 * each * min(n, limit))
