"""Analysis of Boolean functions on a cube: Walsh spectrum, influences, noise sensitivity, critical inputs, formulas.

References:
    Analysis of Boolean functions. R. O'Donnell, 2014. Cambridge University Press.
    A closer look at memorization in deep networks. D. Arpit et al., 2017. arXiv:1706.05394 (critical sample ratio).
    The problem of simplifying truth functions. W. V. Quine, 1952. American Mathematical Monthly 59.
"""

from __future__ import annotations

import numpy as np

from novacula.core.errors import InputError
from novacula.functions.strings import as_cube

_MOST = 6  # inputs, from which on minimising a formula takes seconds


def walsh(strings: object) -> np.ndarray:
    """Coefficients ``f̂(S) = 2^-d Σ_x (−1)^(f(x) + Σ_{i∈S} x_i)`` of functions on a cube.

    Args:
        strings: Labels ``(F, 2^d)`` in the order of `cube`.

    Returns:
        Coefficients ``(F, 2^d)``; the set S as the binary number of its inputs.

    Raises:
        InputError: If the inputs are no whole cube, or there are more than two labels.

    Example:
        >>> walsh([[0, 1, 1, 0]]).tolist()
        [[0.0, 0.0, 0.0, 1.0]]
    """
    labels, d = as_cube(strings)
    found = 1.0 - 2.0 * labels
    for bit in range(d):
        halves = found.reshape(len(found), -1, 2, 2**bit)
        a, b = halves[:, :, 0], halves[:, :, 1]
        found = np.stack([a + b, a - b], 2).reshape(len(found), -1)
    return found / 2**d


def weight_by_degree(strings: object) -> np.ndarray:
    """Squared coefficients summed over sets of each size, ``(F, d + 1)``; a row sums to one."""
    squares = walsh(strings) ** 2
    d = squares.shape[1].bit_length() - 1
    sizes = np.array([s.bit_count() for s in range(2**d)])
    return np.stack([squares[:, sizes == k].sum(1) for k in range(d + 1)], 1)


def influences(strings: object) -> np.ndarray:
    """The share of inputs at which flipping input i changes the label, ``(F, d)``."""
    labels, d = as_cube(strings)
    at = np.arange(2**d)
    return np.stack([(labels != labels[:, at ^ (1 << (d - 1 - i))]).mean(1) for i in range(d)], 1)


def noise_sensitivity(strings: object, rate: float = 0.1) -> np.ndarray:
    """The probability that the label changes when each input flips with this probability, ``(F,)``.

    Args:
        strings: Labels ``(F, 2^d)`` in the order of `cube`.
        rate: δ, from 0 to 1.

    Returns:
        ``½ − ½ Σ_k (1 − 2δ)^k W_k``, of the weight W_k at degree k.

    Raises:
        InputError: If the rate is no probability.
    """
    if not 0 <= rate <= 1:
        raise InputError("a rate from 0 to 1", str(rate), "rate=0.1")
    weights = weight_by_degree(strings)
    return 0.5 - 0.5 * weights @ (1 - 2 * rate) ** np.arange(weights.shape[1])


def critical_sample_ratio(strings: object) -> np.ndarray:
    """The share of inputs with a neighbour on the cube, one flip away, of another label, ``(F,)``."""
    labels, d = as_cube(strings)
    at = np.arange(2**d)
    return np.any([labels != labels[:, at ^ (1 << i)] for i in range(d)], 0).mean(1)


def label_entropy(strings: object) -> np.ndarray:
    """Entropy of the labels of a function's inputs, in bits an input, ``(F,)``."""
    labels, _ = as_cube(strings)
    p = np.stack([labels.mean(1), 1 - labels.mean(1)])
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(0)


def expression_size(strings: object) -> np.ndarray:
    """Operations of a short formula: the shorter of a minimal sum of products and a minimal product of sums, by sympy.

    Counted are ANDs and ORs between two, and NOTs; a constant and a single input take none. It bounds from above what
    the function needs, as other forms may be shorter: parity has no short one of these two.

    Args:
        strings: Labels ``(F, 2^d)`` in the order of `cube`, d at most 6.

    Returns:
        Whole numbers ``(F,)``.

    Raises:
        InputError: If the inputs are no whole cube, or too many.

    Example:
        >>> expression_size(["0001", "0110", "0011"]).tolist()  # a & b, (a & ~b) | (~a & b), a
        [1, 5, 0]
    """
    from sympy import symbols  # slow to import
    from sympy.logic import POSform, SOPform

    labels, d = as_cube(strings)
    if d > _MOST:
        raise InputError(f"functions of at most {_MOST} inputs", f"{d}", "use lz_bits, or weight_by_degree")
    names = list(symbols(f"x:{d}"))
    found = []
    for row in labels:
        ones = np.flatnonzero(row).tolist()
        found.append(min(_operations(form(names, ones)) for form in (SOPform, POSform)))
    return np.array(found)


def _operations(formula: object) -> int:
    inside = [_operations(part) for part in getattr(formula, "args", ())]
    return sum(inside) + max(1, len(inside) - 1) if inside else 0
