"""Randomness without hidden state: every stream is a function of a seed and of what it is for.

A stream named by ``(seed, *keys)`` does not depend on how many numbers were drawn before it, so a run that resumes
at step 1,000 draws what an unbroken run draws there, and a lost worker can be repeated anywhere. The keys are hashed
(BLAKE2b), so neighbouring seeds or steps give unrelated streams. Torch's global generators are left to the code of
others that draws from them (`lent`, `global_draws`), and put back.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from novacula.core.checks.numbers import check_whole

_TURN = threading.RLock()


def derive(seed: int, *keys: str | int) -> int:
    """A 63-bit seed for the stream named by ``keys``.

    Args:
        seed: The run's seed.
        keys: Names and counters that tell this stream from the others, e.g. ``"step", 12``.

    Returns:
        An integer in ``[0, 2**63)``.

    Raises:
        InputError: If the seed is no whole number.

    Example:
        >>> derive(0, "step", 1) == derive(0, "step", 1), derive(0, "step", 1) == derive(0, "step", 2)
        (True, False)
    """
    check_whole("seed", seed, least=None)
    text = "\x1f".join([str(int(seed)), *map(str, keys)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *keys: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh `torch.Generator` for the stream named by ``(seed, *keys)``."""
    return torch.Generator(device=device).manual_seed(derive(seed, *keys))


def split(rng: torch.Generator) -> int:
    """Draw a seed from ``rng``, for a computation that names its own streams.

    Args:
        rng: The generator to advance by one draw.

    Returns:
        An integer in ``[0, 2**62)``.
    """
    return int(torch.randint(2**62, (), generator=rng, device=rng.device))


@contextmanager
def lent(*devices: torch.device, seed: int | None = None) -> Iterator[None]:
    """Let others' code draw from torch's global generators, and put these back.

    For code that runs long, or starts threads of its own; threads beside it may disturb its draws.

    Args:
        devices: The devices beside the host whose generators it may draw from.
        seed: Where the generators are to stand; by default where they are.

    Yields:
        Nothing.
    """
    cuda = sorted({device.index or 0 for device in devices if device.type == "cuda"})
    with torch.random.fork_rng(devices=cuda):
        if seed is not None:
            # Not torch.manual_seed, which also keeps a note for every kind of device there may once be.
            torch.default_generator.manual_seed(seed)
            for index in cuda:
                torch.cuda.default_generators[index].manual_seed(seed)
        yield


@contextmanager
def global_draws(*devices: torch.device, seed: int | None = None) -> Iterator[None]:
    """`lent` for layers and initialisations, which are done soon and start no threads: threads take turns.

    The generators are one for all threads, and what one seeds or puts back, another would draw from.
    """
    with _TURN, lent(*devices, seed=seed):
        yield
