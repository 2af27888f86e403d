"""Lempel and Ziv's complexity of 1976, of many strings at once.

A string is read from left to right into phrases. A phrase ends where it is no piece of what stands before its last
symbol, overlaps included; the complexity is the number of phrases, the last one counted though it may be cut off.

All strings advance one symbol together. Of each, the ends of all earlier copies of the current phrase are kept as bits:
reading a symbol moves them up by one place and keeps those that stand on the same one; where none is left, the phrase
ends. That is the definition itself, in about a dozen operations on words of 64 bits a symbol.

References:
    On the complexity of finite sequences. A. Lempel, J. Ziv, 1976. IEEE Transactions on Information Theory 22(1).
    Easily calculable measure for the complexity of spatiotemporal patterns. F. Kaspar, H. G. Schuster, 1987. Physical
    Review A 36 (an algorithm that gives the same numbers, one string at a time).
    Input-output maps are strongly biased towards simple outputs. K. Dingle, C. Q. Camargo, A. A. Louis, 2018. Nature
    Communications 9 (the measure in bits: both directions, and log₂ N for constants).
"""

from __future__ import annotations

import numpy as np

from novacula.core.checks.numbers import check_whole
from novacula.core.rng import derive
from novacula.functions.strings import as_strings

_AT_ONCE = 2_048  # strings, whose words stay near the processor
_ONE, _TOP, _ALL = np.uint64(1), np.uint64(63), np.uint64(2**64 - 1)


def lz76(strings: object) -> np.ndarray:
    """The number of phrases of each string.

    Args:
        strings: Symbols ``(S, N)``, or ``(N,)``, as an array or tensor of whole numbers or booleans; or a list of texts
            of one length.

    Returns:
        Whole numbers ``(S,)``.

    Raises:
        InputError: If there is no symbol, or texts differ in length.

    Example:
        >>> lz76(["0001101001000101", "0000000000000000"]).tolist()
        [6, 2]
    """
    symbols = as_strings(strings)
    return np.concatenate([_phrases(symbols[i : i + _AT_ONCE]) for i in range(0, len(symbols), _AT_ONCE)])


def lz_bits(strings: object) -> np.ndarray:
    """Lempel and Ziv's complexity in bits, the same in both directions.

    ``log₂N · (c(s) + c(reversed s)) / 2``, with c of `lz76`, and ``log₂N`` for strings of a single symbol.

    Args:
        strings: As `lz76` takes them.

    Returns:
        Numbers ``(S,)``.
    """
    symbols = as_strings(strings)
    both = (lz76(symbols) + lz76(symbols[:, ::-1])) / 2
    constant = (symbols == symbols[:, :1]).all(1)
    return np.log2(symbols.shape[1]) * np.where(constant, 1.0, both)


def lz_spread(strings: object, permutations: int = 32, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """How far `lz_bits` depends on the order of the inputs, which is a convention.

    Args:
        strings: As `lz76` takes them.
        permutations: Orders drawn at random; all strings are read in the same ones.
        seed: Seed of the orders.

    Returns:
        Mean and standard deviation over the orders, each ``(S,)``.

    Raises:
        InputError: If there are fewer than two orders.
    """
    check_whole("permutations", permutations, 2)
    symbols = as_strings(strings)
    rng = np.random.default_rng(derive(seed, "orders"))
    found = np.stack([lz_bits(symbols[:, rng.permutation(symbols.shape[1])]) for _ in range(permutations)])
    return found.mean(0), found.std(0, ddof=1)


def _phrases(symbols: np.ndarray) -> np.ndarray:
    # Symbols (S, N) of one block. A symbol's bits are planes; each plane has a bit for each position in its words.
    size, length = symbols.shape
    codes = (symbols - symbols.min()).T  # (N, S)
    planes = [(codes >> b) & 1 for b in range(max(1, int(codes.max()).bit_length()))]
    places = [_places(plane == 1) for plane in planes]  # each (words, S)
    others = [plane.astype(np.uint64) - _ONE for plane in planes]  # each (N, S): all ones where the bit is 0
    ends = np.zeros_like(places[0])
    begun, count = np.full(size, _ALL), np.zeros(size, np.uint64)
    left, piece, carry, out = (np.empty(size, np.uint64) for _ in range(4))
    for t in range(length):
        left.fill(0)
        carry.fill(0)
        for w in range(min(len(ends), t // 64 + 1)):
            mine = ends[w]
            np.right_shift(mine, _TOP, out=out)
            np.left_shift(mine, _ONE, out=mine)
            mine |= carry
            # At the start of a phrase every earlier position may be its first symbol.
            mine |= np.bitwise_and(begun, np.uint64(2 ** min(t - 64 * w, 64) - 1), out=piece)
            for place, other in zip(places, others, strict=True):
                mine &= np.bitwise_xor(place[w], other[t], out=piece)
            left |= mine
            carry, out = out, carry
        np.equal(left, 0, out=begun, casting="unsafe")
        count += begun
        np.negative(begun, out=begun)
    return (count + (begun == 0)).astype(np.int64)


def _places(marked: np.ndarray) -> np.ndarray:
    # Marks (N, S) as bits of words, (words, S), the first position in the lowest bit.
    words = -(-len(marked) // 64)
    full = np.zeros((64 * words, marked.shape[1]), bool)
    full[: len(marked)] = marked
    packed = np.packbits(full.reshape(words, 64, -1).transpose(0, 2, 1), axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8")[..., 0].astype(np.uint64)
