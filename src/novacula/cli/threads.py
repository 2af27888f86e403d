"""The option ``--threads``, of every verb that computes."""

from __future__ import annotations

from novacula.core.errors import InputError


def set_threads(threads: int | None) -> None:
    """Let torch compute with so many threads; None leaves its own choice."""
    if threads is None:
        return
    if threads < 1:
        raise InputError("--threads of 1 or more", str(threads), "--threads 1")
    import torch

    torch.set_num_threads(threads)
