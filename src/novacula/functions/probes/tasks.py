"""Tasks on all words of d bits, which some networks find natural and others do not, and splits that tell who found it.

A word is a number, its first bit the highest, or two numbers of half the bits. Answers are bits, one column each.
Trained on odd numbers alone, or inside a range, a network is right elsewhere only if it found the rule; a random split
asks for less.

References:
    Neural Turing machines. A. Graves, G. Wayne, I. Danihelka, 2014. arXiv:1410.5401 (copying).
    Random deep neural networks are biased towards simple functions. G. De Palma, B. T. Kiani, S. Lloyd, 2019.
    Various random number generators. T. E. Hull, A. R. Dobell, 1962 (of which 5n + 3 visits every number).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.functions.sample import cube

SPLITS = ("all", "random", "odd", "inside")


@dataclass(frozen=True, eq=False)
class Probe:
    """A task: words ``x (2^d, d)`` as floats 0 and 1, in the order of numbers, and answers ``y (2^d, C)`` likewise."""

    name: str
    x: Tensor
    y: Tensor


def _bits(numbers: Tensor, many: int) -> Tensor:
    return (numbers[:, None] >> torch.arange(many).flip(0)) & 1


def _iterated(times: int) -> Callable[[Tensor, int], Tensor]:
    def answer(n: Tensor, d: int) -> Tensor:
        for _ in range(times):
            n = (5 * n + 3) % 2**d
        return _bits(n, d)

    return answer


def _halves(n: Tensor, d: int) -> tuple[Tensor, Tensor]:
    return n >> d // 2, n % 2 ** (d // 2)


TASKS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "identity": _bits,
    "copy": lambda n, d: (_halves(n, d)[0] == _halves(n, d)[1])[:, None],
    "parity": lambda n, d: _bits(n, d).sum(1, keepdim=True) % 2,
    "palindrome": lambda n, d: (_bits(n, d) == _bits(n, d).flip(1)).all(1, keepdim=True),
    "addition": lambda n, d: _bits(sum(_halves(n, d), torch.zeros_like(n)), d // 2 + 1),
    **{f"map{k}": _iterated(k) for k in (1, 2, 4)},
}
"""Answers from numbers ``(N,)`` and how many bits they have. ``identity``: the word. ``copy``: whether its second half
repeats the first. ``palindrome``: whether it reads backwards the same. ``addition``: the sum of its halves. ``mapK``:
the word after K times ``n ↦ 5n + 3 mod 2^d``, a single cycle through all words."""


def probe(name: str, bits: int = 4) -> Probe:
    """A task on all words of some bits.

    Args:
        name: One of `TASKS`.
        bits: d, an even number from 2 to 12.

    Returns:
        Words and answers.

    Raises:
        InputError: If the task is unknown, or the bits are odd or too many.

    Example:
        >>> task = probe("addition", 4)
        >>> task.x[7].tolist(), task.y[7].tolist()  # 1 + 3
        ([0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0])
    """
    if name not in TASKS:
        raise InputError(f"a task among {', '.join(TASKS)}", repr(name), "probe('parity')")
    if bits not in range(2, 13, 2):
        raise InputError("an even number of bits from 2 to 12", repr(bits), "bits=4")
    return Probe(name, cube(bits), TASKS[name](torch.arange(2**bits), bits).float())


def split(task: Probe, how: str, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Which words are trained on, and which are asked.

    Args:
        task: The task.
        how: ``"all"``, none is asked; ``"random"`` halves; ``"odd"`` numbers, the even ones are asked; ``"inside"`` the
            middle half of all numbers, those outside are asked.
        seed: Of the random halves.

    Returns:
        Two vectors of rows.

    Raises:
        InputError: If the split is unknown.
    """
    n = torch.arange(len(task.x))
    if how not in SPLITS:
        raise InputError(f"a split among {', '.join(SPLITS)}", repr(how), "split(task, 'odd')")
    chosen = {
        "all": n >= 0,
        "random": torch.randperm(len(n), generator=generator(seed, "split")) < len(n) // 2,
        "odd": n % 2 == 1,
        "inside": (n >= len(n) // 4) & (n < 3 * len(n) // 4),
    }[how]
    return n[chosen], n[~chosen]
