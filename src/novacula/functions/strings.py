"""Functions on a finite set of inputs as strings of labels, one symbol an input, and as packed bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from novacula.core.errors import InputError

_HINT = "pass labels of shape (S, N), whole numbers from 0 on"


def as_strings(strings: object) -> np.ndarray:
    """Symbols ``(S, N)`` as whole numbers of one byte, from an array, a tensor or texts."""
    if isinstance(strings, str):
        strings = [strings]
    if isinstance(strings, Sequence) and strings and all(isinstance(s, str) for s in strings):
        lengths = {len(s) for s in strings}
        if len(lengths) > 1:
            raise InputError("strings of one length", f"lengths {sorted(lengths)[:4]}", "compare strings of one length")
        strings = np.array([[ord(c) for c in s] for s in strings])
    found = strings.detach().cpu().numpy() if isinstance(strings, Tensor) else np.asarray(strings)
    found = found[None] if found.ndim == 1 else found
    if found.ndim != 2 or not found.size:
        raise InputError("strings of symbols (S, N)", f"shape {found.shape}", _HINT)
    if not (found.dtype == bool or np.issubdtype(found.dtype, np.integer)):
        raise InputError("symbols that are whole numbers", f"dtype {found.dtype}", _HINT)
    if found.dtype not in (np.bool_, np.uint8) and (found.min() < 0 or found.max() > 255):
        raise InputError("symbols from 0 to 255", f"{found.min()} to {found.max()}", "number the symbols from 0 on")
    return found.astype(np.uint8, copy=False)


def as_binary(strings: object) -> np.ndarray:
    """Labels ``(S, N)`` of two classes, as booleans."""
    found = as_strings(strings)
    if found.max() > 1 and isinstance(strings, str | Sequence):
        found = found - ord("0")
    if found.max() > 1:
        raise InputError("labels 0 and 1", f"label {found.max()}", "this measure is of functions with two classes")
    return found.astype(bool)


def as_cube(strings: object) -> tuple[np.ndarray, int]:
    """Labels ``(S, 2^d)`` as booleans, and d."""
    found = as_binary(strings)
    d = found.shape[1].bit_length() - 1
    if found.shape[1] != 2**d or d == 0:
        raise InputError(
            "functions on all inputs of a Boolean cube, in the order of `cube`",
            f"{found.shape[1]} inputs",
            "sample on nv.functions.cube(d)",
        )
    return found, d


def pack(labels: np.ndarray, bits: int) -> np.ndarray:
    """Labels ``(S, N)`` of so many bits each, as bytes ``(S, K)``."""
    if bits == 1:
        return np.packbits(labels.astype(bool, copy=False), axis=-1)
    planes = [(labels >> b) & 1 for b in reversed(range(bits))]
    return np.packbits(np.stack(planes, -1).reshape(len(labels), -1).astype(bool), axis=-1)


def unpack(keys: np.ndarray, n: int, bits: int) -> np.ndarray:
    """Undo `pack`: labels ``(S, n)``."""
    planes = np.unpackbits(keys, axis=-1, count=n * bits).reshape(len(keys), n, bits)
    return (planes * (1 << np.arange(bits)[::-1]).astype(np.uint8)).sum(-1, dtype=np.uint8)
