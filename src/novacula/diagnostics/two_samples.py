"""Do two samples come from one distribution over many categories, and how far apart are they?

Counts of F categories, most of them rare: those of which few were drawn are taken together as one, the tail. Whether
the samples differ is asked by a permutation test with Pearson's statistic: of all draws together as many as the first
sample has are taken for it, without replacement. How far they are apart is told by total variation and by Jensen and
Shannon's divergence; as both are above zero for samples of the same distribution, each comes with what permutations
give. Of what is within the tail both say nothing. A bound that needs no such floor: on one half of the draws a set of
categories is chosen that the first sample has more of, and on the other half its probabilities are compared,

    TV(p, q) ≥ P(A) − Q(A),

whose estimate has no bias for the set that was chosen.

Draws of a sampler are worth fewer than they are. The second sample may come as independent populations, whose spread
says how many: ``(1 − Σ q²)`` over the sum of the variances between populations, for each. Its frequencies are then
those of all its draws, and what is expected under one distribution is drawn with as many as they are worth, from what
both say together.

References:
    Permutation, parametric and bootstrap tests of hypotheses. P. Good, 2005.
    Divergence measures based on the Shannon entropy. J. Lin, 1991.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError

_Z = float(norm.ppf(0.975))


class Interval(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Floored(NamedTuple):
    """A distance, and what samples of one distribution would have: their mean, and what 95 % of them are below."""

    value: float
    null: float
    null_95: float


@dataclass(frozen=True)
class TwoSamples:
    """How two samples of categories differ.

    Attributes:
        p_value: Of the permutation test that both come from one distribution.
        total_variation: ``½ Σ |p − q|``, the tail being one category.
        jensen_shannon: The divergence in bits, likewise.
        least: Total variation at least, by a set of categories chosen on the other half; its interval.
        sizes: Draws of both; of the second, as many as they are worth.
        categories: How many were drawn, and how many of these are not in the tail.
    """

    p_value: float
    total_variation: Floored
    jensen_shannon: Floored
    least: Interval
    sizes: tuple[int, int]
    categories: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def two_samples(
    a: object,
    b: object,
    *,
    pooled: float = 10.0,
    permutations: int = 999,
    seed: int = 0,
) -> TwoSamples:
    """Compare two samples by their counts.

    Args:
        a: How often each category was drawn in the first sample, ``(F,)``.
        b: In the second; or in each of K independent populations that make it up, ``(K, F)``, of which draws within
            one need not be independent.
        pooled: Categories with fewer draws than this in both together are one tail.
        permutations: R; the least p-value is ``1/(R + 1)``.
        seed: Seed of the permutations and halves.

    Returns:
        The test, the distances with their floors, and a lower bound.

    Raises:
        InputError: If the counts are none, or of different categories.

    Example:
        >>> two_samples([50, 30, 20, 0], [20, 30, 40, 10]).p_value
        0.001
    """
    one, each = _counts(a, b)
    check_whole("permutations", permutations)
    two, n, m = each.sum(0), int(one.sum()), worth(each)
    rng = np.random.default_rng(seed)
    p, q = one / n, two / two.sum()
    # Statistics of few draws would be ruled by categories that are hardly ever drawn.
    common = n * p + m * q >= pooled
    one, each = (np.concatenate([v[..., common], v[..., ~common].sum(-1, keepdims=True)], -1) for v in (one, each))
    two = each.sum(0)
    p, q = one / n, two / two.sum()
    if len(each) == 1:
        drawn = rng.multivariate_hypergeometric(one + two, n, size=permutations, method="marginals")
        first, second = drawn / n, (one + two - drawn) / m
    else:
        mixed = (n * p + m * q) / (n + m)
        first, second = (rng.multinomial(k, mixed, size=permutations) / k for k in (n, m))
    observed, under = _pearson(p[None], q[None], n, m)[0], _pearson(first, second, n, m)
    # Ties with what was observed count, and rounding must not undo them.
    p_value = (1 + int((under >= observed * (1 - 1e-9)).sum())) / (permutations + 1)
    return TwoSamples(
        p_value,
        _floored(_variation(p[None], q[None]), _variation(first, second)),
        _floored(_divergence(p[None], q[None]), _divergence(first, second)),
        _least(one, each, m, rng),
        (n, m),
        (len(common), int(common.sum())),
    )


def log_odds(a: int, n: int, b: float, m: float) -> Interval:
    """The logarithm of the odds of an event in one sample over those in another, with its interval.

    Args:
        a: How often it was drawn in the first sample.
        n: Draws of the first.
        b: In the second.
        m: Draws of the second.

    Returns:
        ``log (a + ½)(m − b + ½)/((n − a + ½)(b + ½))`` in nats and 1.96 of its standard errors about it.

    References:
        The estimation of relative risks. J. B. S. Haldane, 1956 (the halves). On estimating the relation between blood
        group and disease. B. Woolf, 1955 (the error).
    """
    cells = [a + 0.5, n - a + 0.5, b + 0.5, m - b + 0.5]
    value = math.log(cells[0] * cells[3] / (cells[1] * cells[2]))
    reach = _Z * math.sqrt(sum(1 / c for c in cells))
    return Interval(value, value - reach, value + reach)


def worth(each: np.ndarray) -> int:
    """How many independent draws those of K populations are worth, by counts ``(K, F)``; all of one population."""
    total = int(each.sum())
    if len(each) == 1:
        return total
    q = each / each.sum(1, keepdims=True)
    spread = float(q.var(0, ddof=1).sum())
    # Populations that are as alike as can be are worth no more than they have.
    return max(1, min(total, round(len(q) * (1 - float((q.mean(0) ** 2).sum())) / spread))) if spread else total


def _counts(a: object, b: object) -> tuple[np.ndarray, np.ndarray]:
    one, two = np.asarray(a), np.atleast_2d(np.asarray(b))
    whole = all(np.issubdtype(v.dtype, np.integer) for v in (one, two)) and one.ndim == 1
    if not whole or two.shape[1:] != one.shape or one.min(initial=0) < 0 or two.min(initial=0) < 0:
        got = f"shapes {one.shape} and {two.shape}, {one.dtype} and {two.dtype}"
        raise InputError("counts of the same categories, (F,) and (F,)", got, "count each category in both samples")
    if min(one.sum(), *two.sum(1)) < 2:
        got = f"{one.sum()} and {two.sum(1).min()}"
        raise InputError("two draws or more of each sample and population", got, "draw more")
    seen = one + two.sum(0) > 0
    return one[seen].astype(np.int64), two[:, seen].astype(np.int64)


def _pearson(p: np.ndarray, q: np.ndarray, n: int, m: int) -> np.ndarray:
    both = (n * p + m * q) / (n + m)
    return ((p - q) ** 2 / np.where(both > 0, both, 1)).sum(1)


def _variation(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return 0.5 * np.abs(p - q).sum(1)


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    def entropy(v: np.ndarray) -> np.ndarray:
        return -(v * np.log2(np.where(v > 0, v, 1))).sum(1)

    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def _floored(value: np.ndarray, under: np.ndarray) -> Floored:
    return Floored(float(value[0]), float(under.mean()), float(np.quantile(under, 0.95)))


def _least(one: np.ndarray, each: np.ndarray, m: int, rng: np.random.Generator) -> Interval:
    # Populations go whole into a half, as their draws depend on each other.
    mine = _halves(one, rng)
    theirs = _halves(each[0], rng) if len(each) == 1 else (each[::2].sum(0), each[1::2].sum(0))
    hits = np.zeros(2)
    for chosen, judged in ((0, 1), (1, 0)):
        set_ = mine[chosen] / mine[chosen].sum() > theirs[chosen] / theirs[chosen].sum()
        hits += [mine[judged][set_].sum() / one.sum(), theirs[judged][set_].sum() / each.sum()]
    # Of one distribution, the normal differences of the halves choose for each other: their correlation is 1/π.
    error = math.sqrt(1 + 1 / math.pi) * math.sqrt(hits[0] * (1 - hits[0]) / one.sum() + hits[1] * (1 - hits[1]) / m)
    value = float(hits[0] - hits[1])
    return Interval(value, value - _Z * error, value + _Z * error)


def _halves(counts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    half = rng.multivariate_hypergeometric(counts, int(counts.sum()) // 2, method="marginals")
    return half, counts - half
