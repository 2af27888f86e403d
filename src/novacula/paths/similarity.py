"""Are two representations of the same examples alike? Five measures, each with its chance level and its error.

Rows are examples, columns are units; the two may have different numbers of units. Columns are centred.

| measure | 1 for | unchanged under |
| --- | --- | --- |
| ``"cka"`` | equal Gram matrices up to a factor | rotations, one factor for all units |
| ``"svcca"`` | one a linear map of the other, as far as directions with 99 % of the variance go | such maps |
| ``"procrustes"`` | one a rotation of the other, up to a factor | rotations, one factor for all units |
| ``"rsa"`` | the same order of all distances | rotations, monotone maps of the distances |
| ``"neighbours"`` | the same k nearest neighbours of each example | rotations, monotone maps of the distances |

CKA is that of the *unbiased* estimator: the usual one is above nought for independent data, .2 for 32 examples and many
units, and rises with the number of units. The others are above nought by chance too. So each value comes with what
permuted rows give, and with the share of permutations that reach it.

References:
    Similarity of neural network representations revisited. S. Kornblith and others, 2019. arXiv:1905.00414.
    Feature selection via dependence maximization. L. Song, A. Smola, A. Gretton, J. Bedo, K. Borgwardt, 2012. JMLR 13
    (the unbiased HSIC).
    SVCCA. M. Raghu, J. Gilmer, J. Yosinski, J. Sohl-Dickstein, 2017. arXiv:1706.05806.
    Generalized shape metrics on neural representations. A. H. Williams and others, 2021. arXiv:2110.14739.
    The platonic representation hypothesis. M. Huh, B. Cheung, T. Wang, P. Isola, 2024. arXiv:2405.07987 (neighbours).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.rng import derive

Measure = Literal["cka", "svcca", "procrustes", "rsa", "neighbours"]
_KEPT = 0.99  # the share of the variance that SVCCA looks at
_GROUPS = 10  # parts of the examples that the jackknife leaves out in turn
_LEAST = 8  # examples


@dataclass(frozen=True)
class Similarity:
    """How alike two representations are.

    Attributes:
        value: The measure.
        stderr: Its standard error over examples, by a jackknife of ten groups.
        chance: The mean of what permuted rows give.
        p_value: The share of permutations that give as much, the value itself counted among them.
        measure: Which measure.
    """

    value: float
    stderr: float
    chance: float
    p_value: float
    measure: Measure


def similarity(
    x: object, y: object, measure: Measure = "cka", *, neighbours: int = 10, permutations: int = 200, seed: int = 0
) -> Similarity:
    """Compare two representations of the same examples.

    Args:
        x: Activations ``(N, P)``; more axes are flattened.
        y: Others, ``(N, Q)``, of the same examples in the same order.
        measure: Which of the five.
        neighbours: k, for ``"neighbours"``.
        permutations: How many orders of the rows tell what chance gives.
        seed: Seed of these.

    Returns:
        The value, its error and its chance level.

    Raises:
        InputError: If there are fewer than eight examples, the numbers of rows differ, values are not finite, all rows
            are alike, or the measure is unknown.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(60, 5))
        >>> turned = x @ np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
        >>> found = similarity(x, 3 * turned)
        >>> round(found.value, 6), found.p_value < 0.01
        (1.0, True)
    """
    check_whole("permutations", permutations)
    check_whole("neighbours", neighbours)
    a, b = _rows(x, "x"), _rows(y, "y")
    if len(a) != len(b):
        raise InputError("the same examples", f"{len(a)} and {len(b)} rows", "pass activations of one set of inputs")
    fewest = len(a) - -(-len(a) // _GROUPS)  # of a part of the jackknife
    if measure == "neighbours" and neighbours >= fewest:
        raise InputError("fewer neighbours than examples", f"{neighbours} of {fewest}", "a smaller neighbours=")
    how = _how(measure, neighbours)
    rng, first, second = np.random.default_rng(derive(seed, "permutations")), how.of(a), how.of(b)
    value = how.compare(first, second)
    chance = [how.compare(first, how.reordered(second, rng.permutation(len(b)))) for _ in range(permutations)]
    part = np.arange(len(a)) * _GROUPS // len(a)
    left = np.array([how.compare(how.of(a[part != g]), how.of(b[part != g])) for g in range(_GROUPS)])
    stderr = float(np.sqrt((_GROUPS - 1) / _GROUPS * ((left - left.mean()) ** 2).sum()))
    reached = sum(v >= value for v in chance)
    return Similarity(value, stderr, float(np.mean(chance)), (1 + reached) / (1 + permutations), measure)


@dataclass(frozen=True)
class _How:
    """A measure: what of each representation is compared, and how."""

    of: Callable[[np.ndarray], np.ndarray]
    compare: Callable[[np.ndarray, np.ndarray], float]
    square: bool = False  # whether examples are rows and columns of it

    def reordered(self, made: np.ndarray, order: np.ndarray) -> np.ndarray:
        return made[np.ix_(order, order)] if self.square else made[order]


def _how(measure: str, k: int) -> _How:
    known = {
        "cka": _How(_gram, _cka, square=True),
        "svcca": _How(_directions, lambda u, v: float(np.linalg.svd(u.T @ v, compute_uv=False).sum() / _fewer(u, v))),
        "procrustes": _How(_unit, lambda u, v: float(np.linalg.svd(u.T @ v, compute_uv=False).sum())),
        "rsa": _How(_distances, _rank_correlation, square=True),
        "neighbours": _How(lambda x: _nearest(x, k), lambda u, v: float((u & v).sum() / (k * len(u))), square=True),
    }
    if measure not in known:
        raise InputError(f"a measure among {', '.join(known)}", repr(measure), 'measure="cka"')
    return known[measure]


def _gram(x: np.ndarray) -> np.ndarray:
    # Without the diagonal, as the unbiased estimator has it.
    k = x @ x.T
    np.fill_diagonal(k, 0.0)
    return k


def _cka(k: np.ndarray, g: np.ndarray) -> float:
    norm = _hsic(k, k) * _hsic(g, g)
    return _hsic(k, g) / norm**0.5 if norm > 0 else 0.0


def _hsic(k: np.ndarray, g: np.ndarray) -> float:
    """The unbiased estimator of HSIC, of Gram matrices ``(n, n)`` with zeros on their diagonals."""
    n, rows, columns = len(k), k.sum(0), g.sum(0)
    whole = rows.sum() * columns.sum() / ((n - 1) * (n - 2))
    return float(((k * g).sum() + whole - 2 / (n - 2) * rows @ columns) / (n * (n - 3)))


def _directions(x: np.ndarray) -> np.ndarray:
    # Left singular vectors with most of the variance, (n, r).
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    share = np.cumsum(s**2) / (s**2).sum()
    return u[:, : int(np.searchsorted(share, _KEPT)) + 1]


def _fewer(u: np.ndarray, v: np.ndarray) -> int:
    return min(u.shape[1], v.shape[1])


def _unit(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    return centred / np.linalg.norm(centred)


def _distances(x: np.ndarray) -> np.ndarray:
    squares = (x**2).sum(1)
    return np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0)


def _rank_correlation(d: np.ndarray, e: np.ndarray) -> float:
    above = np.triu_indices(len(d), 1)
    return float(np.corrcoef(rankdata(d[above]), rankdata(e[above]))[0, 1])


def _nearest(x: np.ndarray, k: int) -> np.ndarray:
    # Whether the column is among the k nearest of the row, (n, n).
    d = _distances(x)
    np.fill_diagonal(d, np.inf)
    found = np.zeros(d.shape, bool)
    np.put_along_axis(found, np.argpartition(d, k - 1, axis=1)[:, :k], True, axis=1)
    return found


def _rows(values: object, name: str) -> np.ndarray:
    found = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if found.ndim < 2 or len(found) < _LEAST or not np.issubdtype(found.dtype, np.number):
        got = f"shape {found.shape}, {found.dtype}"
        raise InputError(f"{name} as activations (N, P) of {_LEAST} examples or more", got, "one row an example")
    found = found.reshape(len(found), -1).astype(np.float64)
    if not np.isfinite(found).all():
        raise InputError(f"{name} without NaN or infinity", "some", "look for the layer that makes them")
    if not (found != found[0]).any():
        raise InputError(f"{name} that differs between examples", "rows that are all alike", "take another layer")
    return found - found.mean(0)
