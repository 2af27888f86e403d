"""Randomness without hidden state: every stream is a function of a seed and of what it is for.

A stream named by ``(seed, *keys)`` does not depend on how many numbers were drawn before it, so a run that resumes
at step 1,000 draws what an unbroken run draws there, and a lost worker can be repeated anywhere. The keys are hashed
(BLAKE2b), so neighbouring seeds or steps give unrelated streams. The global generator is never touched.
"""

from __future__ import annotations

import hashlib

import torch

from novacula.core.checks.numbers import check_whole


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
