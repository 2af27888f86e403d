"""The option ``--threads``, of every verb that computes, and how many threads a network is worth.

Measured on two cores that did nothing else (``python -m benchmarks.threads``): of networks of up to 2 · 10⁶ operations
an example, a step of 50 takes .86 to 1.14 as long on two threads as on one, for 1.7 to 2.1 times the processor's time;
of one of 2.5 · 10⁷, .65. On a busy machine threads wait for one another by spinning: eight epochs of the README's first
command then took 243 s on two and 57 s on one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from novacula.core.errors import InputError

if TYPE_CHECKING:
    from torch.nn import Module

    from novacula.data import Data
    from novacula.target import Target

LARGE = 10**7
"""Operations of a forward pass on one example from which on threads are worth their waiting."""


def set_threads(threads: int | None) -> None:
    """Let torch compute with so many threads; None leaves its own choice."""
    if threads is None:
        return
    if threads < 1:
        raise InputError("--threads of 1 or more", str(threads), "--threads 1")
    import torch

    torch.set_num_threads(threads)


def suit_threads(threads: int | None, target: Target, data: Data) -> None:
    """Let a small network compute on one thread, unless options or the environment (``OMP_NUM_THREADS``) say how many.

    The number follows from the network, so that a command gives the same numbers on an idle and on a busy machine.
    """
    import torch

    if threads is None and not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & set(os.environ):
        torch.set_num_threads(1 if operations(target, data) < LARGE else torch.get_num_threads())


def operations(target: Target, data: Data) -> int:
    """Floating-point operations of a pass over one example, for layers that are not linear or convolutions about so."""
    # PyTorch's own counter takes a second to import.
    import torch

    total = 0

    def count(module: Module, given: Any, out: Any) -> None:
        nonlocal total
        if isinstance(out, torch.Tensor):
            matrices = [w for w in module.parameters(recurse=False) if w.ndim > 1]
            total += sum(2 * out.numel() * w[0].numel() for w in matrices)

    hooks = [module.register_forward_hook(count) for module in target.forward.module.modules()]
    try:
        with torch.no_grad():
            target.outputs(target.params(), next(data.batches(1, 0, 0))[0], 1, torch.Generator())
    finally:
        for hook in hooks:
            hook.remove()
    return total
