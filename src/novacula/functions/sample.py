"""Drawing functions: how probable is each function before any data, for a network or anything else that labels inputs.

References:
    Deep learning generalizes because the parameter-function map is biased towards simple functions. G. Valle-Pérez,
    C. Q. Camargo, A. A. Louis, 2019. arXiv:1805.08522.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.rng import generator
from novacula.functions.counting import Table
from novacula.functions.result import FunctionSample, bits_of
from novacula.functions.samplers.network import Networks, Sampler, as_sampler, check_inputs
from novacula.functions.samplers.weights import Drawn, Format
from novacula.functions.strings import pack

BLOCK = 2**14
"""Functions of one random stream: results do not depend on how many are drawn after them."""
_MOST = 10**9


def cube(d: int) -> Tensor:
    """All ``2^d`` inputs of zeros and ones, in the order of binary numbers, the first input being the highest digit.

    Args:
        d: How many inputs a function has, 1 to 20.

    Returns:
        Inputs of float32, ``(2^d, d)``.

    Raises:
        InputError: If d is out of range.

    Example:
        >>> cube(2).tolist()
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    check_whole("d", d)
    if d > 20:
        raise InputError("a cube of at most 20 dimensions", str(d), "draw inputs at random instead")
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=d)))


def sample(
    network: nn.Module | Sampler,
    inputs: Tensor,
    n: int,
    *,
    prior: Drawn | None = None,
    format: Format = "float32",
    seed: int = 0,
    limit: int = 2**23,
    start: FunctionSample | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FunctionSample:
    """Draw functions and count them.

    Args:
        network: Any `nn.Module`, of which one output above zero is class 1 and of several the largest is the class; or
            a sampler, a function of ``(inputs, n, generator)`` that gives labels ``(n, N)``.
        inputs: The inputs on which functions are told apart, ``(N, …)``: a `cube`, or some rows of data.
        n: How many functions to draw.
        prior: A network's prior over weights; None for its own initialisation.
        format: The number format that weights are held in.
        seed: Seed of the draws.
        limit: Distinct functions that memory is given to, about 100 bytes each; beyond, the rarest are dropped and
            ``undercount`` says how much that may cost a count.
        start: An earlier sample of the same network, inputs and seed, to go on from: what is found is what one call for
            all n would have found. It holds whole blocks of 16,384 functions.
        progress: Called with the functions drawn so far and n.

    Returns:
        The functions with their counts.

    Raises:
        InputError: If inputs repeat or are no finite floats, n is none that ends in a lifetime, labels are none, or
            the earlier sample is of other inputs, does not end with a block, or holds n functions or more.

    Example:
        >>> found = sample(nn.Linear(2, 1), cube(2), 1_000, seed=1)
        >>> found.n, len(found.counts) <= 14
        (1000, True)
    """
    check_whole("n", n)
    check_whole("limit", limit, 2)
    if n > _MOST:
        hours = n / 4e4 / 3600
        raise InputError(f"at most {_MOST:,} functions", f"{n:,}, about {hours:,.0f} hours", "draw fewer, or evidence")
    drawn, began = as_sampler(network, prior, format), time.process_time()
    check_inputs(inputs)
    done = 0 if start is None else _checked_start(start, n, len(inputs))
    classes = 2 if start is None else start.classes
    table = None if start is None else Table.of(start.keys, start.counts, start.undercount, limit)
    for first in range(done, n, BLOCK):
        many = min(BLOCK, n - first)
        rng = generator(seed, "functions", first // BLOCK)
        labels = _checked(drawn(inputs, many, rng), many, len(inputs))
        if table is None:
            # A network's outputs bound its classes; a sampler's labels must not outgrow those of a byte.
            classes = 2 if labels.dtype == bool else drawn.classes(inputs) if isinstance(drawn, Networks) else 256
            table = Table(pack(labels[:1], bits_of(classes)).shape[1], limit)
        if labels.dtype != bool and labels.max() >= 2 ** bits_of(classes):
            raise InputError(f"labels below {classes}", str(labels.max()), "give booleans, or labels 0 to 255")
        table.add(pack(labels, bits_of(classes)))
        if progress is not None:
            progress(first + many, n)
    assert table is not None  # n is 1 or more
    table.settle()
    tied = drawn.tied[0] + (start.tied or 0 if start else 0) if isinstance(drawn, Networks) else None
    _warn_of_ties(tied, n)
    order = np.argsort(-table.counts, kind="stable")
    return FunctionSample(
        counts=table.counts[order],
        keys=table.keys[order],
        n=n,
        inputs=len(inputs),
        classes=classes,
        undercount=table.undercount,
        tied=tied,
        seconds=time.process_time() - began + (start.seconds if start else 0.0),
    )


def _checked_start(start: FunctionSample, n: int, inputs: int) -> int:
    if start.inputs != inputs:
        raise InputError(f"an earlier sample on {inputs} inputs", f"one on {start.inputs}", "leave start out")
    if start.n % BLOCK or start.n >= n:
        whole = f"an earlier sample of a multiple of {BLOCK:,} functions, below n = {n:,}"
        raise InputError(whole, f"one of {start.n:,}", "leave start out, or draw more")
    return start.n


def _checked(labels: object, n: int, inputs: int) -> np.ndarray:
    found = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    whole = found.dtype == bool or np.issubdtype(found.dtype, np.integer)
    if found.shape != (n, inputs) or not whole:
        got = f"shape {found.shape}, {found.dtype}"
        raise InputError(f"labels of shape ({n}, {inputs}), booleans or whole numbers", got, "give labels")
    if found.dtype != bool and (found.min() < 0 or found.max() > 255):
        raise InputError("labels from 0 to 255", f"{found.min()} to {found.max()}", "number the labels from 0 on")
    return found


def _warn_of_ties(tied: int | None, n: int) -> None:
    if tied:
        warnings.warn(
            f"{tied} of {n} functions have outputs that decide nothing (zero, or two classes alike); these count as the"
            " lower class: biases, or inputs other than zero, would decide",
            NovaculaWarning,
            stacklevel=3,
        )
