"""Going on with less when memory runs out: halve the chunk and say so."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from novacula.core.errors import InputError, NovaculaWarning

R = TypeVar("R")

AT_ONCE = 1_024
"""Transformed inputs that go through the network at once, of at most `NUMBERS` numbers together."""
NUMBERS = 2**22


def inputs_at_once(shape: Sequence[int], copies: int = 1) -> int:
    """How many inputs, with their copies, go through a network at once: fewer of large ones.

    Args:
        shape: The shape of one input.
        copies: Transformed copies of each.

    Returns:
        At least 1.

    Example:
        >>> inputs_at_once((1, 28, 28)), inputs_at_once((3, 64, 64)), inputs_at_once((3, 64, 64), 8)
        (1024, 341, 42)
    """
    return max(1, min(AT_ONCE, NUMBERS // max(1, math.prod(shape))) // copies)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch's errors of GPU and CPU, `MemoryError`, or what `with_halving` makes of these."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, InputError):
        return error.__cause__ is not None and is_out_of_memory(error.__cause__)
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def with_halving(
    function: Callable[[int, int], R],
    total: int,
    size: int,
    *,
    what: str = "examples",
    halved: Callable[[int], None] | None = None,
) -> list[R]:
    """Work through ``0..total`` in chunks, and halve the chunk whenever memory runs out.

    Chunks that are done are kept. The results must not depend on where the chunks are cut.

    Args:
        function: Called as ``function(start, stop)`` for consecutive chunks.
        total: How many items there are.
        size: How many items to take at once at the start.
        what: What the items are, for the warning.
        halved: Called with the new size whenever the chunk is halved, to remember it.

    Returns:
        The results in order.

    Raises:
        InputError: If ``size`` is not positive, or memory does not suffice for one item.
        RuntimeError: What ``function`` raises that is not about memory.
        MemoryError: Never; it is caught like every other sign that memory ran out.

    Example:
        >>> with_halving(lambda start, stop: list(range(start, stop)), 5, 2)
        [[0, 1], [2, 3], [4]]
    """
    if size < 1:
        raise InputError(f"at least one of the {what} at once", str(size), "use 1 or more, or leave it out")
    done, found = 0, []
    while done < total:
        try:
            found.append(function(done, min(done + size, total)))
        except (RuntimeError, MemoryError, InputError) as error:
            if not is_out_of_memory(error):
                raise
            at_once = min(size, total - done)
            if at_once == 1:
                raise InputError(
                    f"memory for one of the {what}",
                    "out of memory",
                    "use a smaller network, or fewer samples or copies",
                ) from error
            size = at_once // 2
            if halved is not None:
                halved(size)
            warnings.warn(
                f"out of memory with {at_once} {what} at once: going on with {size}", NovaculaWarning, stacklevel=2
            )
            continue
        done = min(done + size, total)
    return found
