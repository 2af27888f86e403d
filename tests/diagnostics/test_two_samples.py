"""Two samples of categories: against definitions, a permutation one by one, and false alarms counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from novacula.core.errors import InputError
from novacula.diagnostics import log_odds, two_samples
from novacula.diagnostics.two_samples import worth


def rare(n: int = 400) -> np.ndarray:
    """A distribution with a heavy head and a long tail."""
    p = 1 / np.arange(1, n + 1)
    p[0] = 3
    return p / p.sum()


def test_the_distances_are_their_definitions():
    a, b = np.array([50, 30, 20, 0, 0]), np.array([20, 30, 40, 30, 0])
    found = two_samples(a, b)
    p, q = a / 100, b / 120
    assert math.isclose(found.total_variation.value, 0.5 * np.abs(p - q).sum())
    assert math.isclose(found.jensen_shannon.value, jensenshannon(p, q, 2) ** 2)
    assert found.categories == (4, 4)
    assert found.sizes == (100, 120)


def test_the_test_is_a_permutation_of_draws():
    rng = np.random.default_rng(3)
    a, b = np.array([9, 14, 4, 2, 1]), np.array([16, 8, 6, 1, 3])
    draws = np.repeat([0, 1, 2, 2, 2], a + b)  # the last three are the tail

    def pearson(first: np.ndarray) -> float:
        table = np.array([np.bincount(first, minlength=3), np.bincount(draws, minlength=3)])
        table[1] -= table[0]
        return chi2_contingency(table, correction=False).statistic

    own = pearson(np.repeat([0, 1, 2], [9, 14, 7]))
    reached = np.mean([pearson(rng.permutation(draws)[:30]) >= own - 1e-9 for _ in range(2_000)])
    found = two_samples(a, b, pooled=12, permutations=20_000)
    assert found.categories == (5, 2)
    # Both are shares of draws; they differ by more in one of 10,000 runs.
    assert abs(found.p_value - reached) < 4 * math.sqrt(reached * (1 - reached) / 2_000)


@pytest.mark.parametrize("populations", [1, 8, 16])
def test_false_alarms_are_as_many_as_promised(populations: int):
    # Draws of a population come twice each, as copies in splitting do. Of 400 tests at 5 %, 3 to 8 % alarm but for one
    # run in 100 (a binomial of 400); the bound of total variation lies above zero in 2.5 %.
    rng, p = np.random.default_rng(populations), rare()
    found = []
    for i in range(400):
        a = rng.multinomial(600, p)
        b = rng.multinomial(800, p) if populations == 1 else 2 * rng.multinomial(400 // populations, p, populations)
        found.append(two_samples(a, b, permutations=199, seed=i))
    assert 0.025 <= np.mean([f.p_value <= 0.05 for f in found]) <= 0.085
    assert np.mean([f.least.low > 0 for f in found]) <= 0.06
    floor = np.mean([f.total_variation.value - f.total_variation.null for f in found])
    assert abs(floor) < 0.003
    if populations > 1:
        assert abs(np.mean([f.sizes[1] for f in found]) - 400) < 30


def test_a_difference_is_found_and_bounded():
    rng, p = np.random.default_rng(0), rare()
    q = p.copy()
    q[0], q[1] = q[0] - 0.15, q[1] + 0.15
    covered = []
    for i in range(100):
        found = two_samples(rng.multinomial(800, p), rng.multinomial(800, q), permutations=199, seed=i)
        assert found.p_value <= 0.05
        covered.append(found.least.low <= 0.15)
        assert found.total_variation.value - found.total_variation.null > 0.05
    assert np.mean(covered) >= 0.93


def test_worth_of_populations():
    rng, p = np.random.default_rng(1), rare()
    each = rng.multinomial(1_000, p, 40)
    assert abs(worth(each) - 40_000) < 9_000
    assert abs(worth(5 * each) / 40_000 - 1) < 0.25
    assert worth(np.tile(each[0], (4, 1))) == 4_000  # no spread at all


def test_log_odds_are_haldanes():
    value, low, high = log_odds(30, 100, 10, 100)
    assert math.isclose(value, math.log(30.5 * 90.5 / (70.5 * 10.5)))
    assert math.isclose(high - value, 1.959964 * math.sqrt(1 / 30.5 + 1 / 70.5 + 1 / 10.5 + 1 / 90.5), rel_tol=1e-6)
    assert low < value
    rng = np.random.default_rng(5)
    truth = math.log(0.3 / 0.7) - math.log(0.08 / 0.92)
    found = [log_odds(rng.binomial(150, 0.3), 150, rng.binomial(90, 0.08), 90) for _ in range(2_000)]
    assert 0.935 <= np.mean([f.low <= truth <= f.high for f in found]) <= 0.98


def test_what_is_refused():
    for a, b in (([1, 2], [1, 2, 3]), ([0.5, 1.5], [1, 2]), ([-1, 5], [2, 3]), ([1, 0], [5, 5])):
        with pytest.raises(InputError):
            two_samples(a, b)
