"""Analysis of Boolean functions on a cube: Walsh spectrum, influences, noise sensitivity, neighbours that differ.

References:
    Analysis of Boolean functions. R. O'Donnell, 2014. Cambridge University Press.
    A closer look at memorization in deep networks. D. Arpit et al., 2017. arXiv:1706.05394 (critical sample ratio).
"""

from __future__ import annotations

import numpy as np

from novacula.core.errors import InputError
from novacula.functions.strings import as_cube


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
