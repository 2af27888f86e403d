"""Representations: definitions, invariances, chance; predictions: counts by hand and planted variances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from novacula import InputError
from novacula.paths import churn, similarity
from novacula.paths.similarity import _gram, _hsic

RNG = np.random.default_rng(0)
MEASURES = ("cka", "svcca", "procrustes", "rsa", "neighbours")


def test_hsic_is_the_mean_over_all_four_different_examples() -> None:
    x, y = RNG.normal(size=(6, 3)), RNG.normal(size=(6, 2))
    k, g = x @ x.T, y @ y.T
    terms = [k[i, j] * (g[i, j] + g[q, r] - 2 * g[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)]
    assert _hsic(_gram(x), _gram(y)) == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
def test_rotated_and_scaled_representations_are_the_same(measure: str) -> None:
    x = RNG.normal(size=(60, 6)) * np.arange(1, 7)
    turned = 2.5 * x @ np.linalg.qr(RNG.normal(size=(6, 6)))[0] + 3.0
    found = similarity(x, turned, measure, permutations=40)  # type: ignore[arg-type]
    assert found.value == pytest.approx(1.0, abs=1e-9)
    assert found.p_value == pytest.approx(1 / 41)
    assert found.chance < 0.75
    assert found.stderr < 1e-6


def test_linear_maps_are_seen_by_svcca_alone() -> None:
    x = RNG.normal(size=(80, 4))
    mapped = x @ np.diag([1.0, 3.0, 9.0, 27.0]) @ RNG.normal(size=(4, 4))
    assert similarity(x, mapped, "svcca", permutations=1).value > 0.7
    assert similarity(x @ np.eye(4), x @ RNG.normal(size=(4, 4)), "svcca", permutations=1).value == pytest.approx(1.0)
    assert similarity(x, mapped, "procrustes", permutations=1).value < 0.95


def test_independent_data_have_no_unbiased_cka() -> None:
    """200 pairs of 32 examples: the mean is 0 within 4 standard errors; that of the biased estimator is .2 or more."""
    values, biased = [], []
    centre = np.eye(32) - 1 / 32
    for _ in range(200):
        x, y = RNG.normal(size=(32, 8)), RNG.normal(size=(32, 8))
        values.append(similarity(x, y, permutations=1).value)
        k, g = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
        biased.append((k * g).sum() / np.sqrt((k * k).sum() * (g * g).sum()))
    assert abs(np.mean(values)) < 4 * np.std(values) / 200**0.5
    assert np.mean(biased) > 0.15


def test_p_values_are_uniform_by_chance() -> None:
    """120 independent pairs at the 10 % level: between 3 and 23 below it, but for a probability of 4e-3 at most."""
    small = sum(
        similarity(RNG.normal(size=(20, 3)), RNG.normal(size=(20, 4)), permutations=39, seed=i).p_value <= 0.1
        for i in range(120)
    )
    assert 3 <= small <= 23


def test_the_error_is_that_of_other_examples() -> None:
    """Standard errors of 40 sets of 100 examples, beside the spread of their values: within a factor of two."""
    mix = RNG.normal(size=(5, 5))
    found = []
    for _ in range(40):
        x = RNG.normal(size=(100, 5))
        found.append(similarity(x, x @ mix + RNG.normal(size=(100, 5)), permutations=1))
    spread = np.std([f.value for f in found])
    assert 0.5 < np.mean([f.stderr for f in found]) / spread < 2.0


@pytest.mark.parametrize(
    ("x", "y", "more", "words"),
    [
        (np.ones((20, 2)), RNG.normal(size=(20, 2)), {}, "differs between examples"),
        (RNG.normal(size=(20, 2)), RNG.normal(size=(19, 2)), {}, "the same examples"),
        (RNG.normal(size=(5, 2)), RNG.normal(size=(5, 2)), {}, "8 examples"),
        (np.full((20, 2), np.nan), RNG.normal(size=(20, 2)), {}, "NaN"),
        (RNG.normal(size=(20, 2)), RNG.normal(size=(20, 2)), {"measure": "cosine"}, "a measure among"),
        (RNG.normal(size=(9, 2)), RNG.normal(size=(9, 2)), {"measure": "neighbours"}, "fewer neighbours"),
    ],
)
def test_what_cannot_be_compared_is_refused(x: object, y: object, more: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        similarity(x, y, **more)  # type: ignore[arg-type]


def test_churn_counts_pairs() -> None:
    labels = np.array([[0, 1, 2, 0], [0, 1, 1, 0], [0, 2, 2, 1]])
    p = 0.7 * np.eye(3)[labels] + 0.1
    found = churn(p)
    # Pairs (1,2), (1,3), (2,3) differ in 1, 2 and 3 of 4 examples; each difference is .7 of total variation.
    assert found.disagreement == pytest.approx((1 + 2 + 3) / 12)
    assert found.total_variation == pytest.approx(0.7 * (1 + 2 + 3) / 12)
    assert found.stability.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    assert found.components == {}
    low, high = found.disagreement_interval
    assert low < found.disagreement < high
    assert churn(np.stack([p[0], p[0]])).disagreement == 0.0


def test_planted_variances_are_found_by_cause() -> None:
    """Two classes, 5 first weights by 4 orders, 4,000 examples: each within 6 %, 4 standard errors or more."""
    rng, shape = np.random.default_rng(5), (5, 4, 4_000)
    a, b, e = (
        0.04 * rng.normal(size=(5, 1, 4_000)),
        0.02 * rng.normal(size=(1, 4, 4_000)),
        0.01 * rng.normal(size=shape),
    )
    first = 0.5 + a + b + e
    found = churn(np.stack([first, 1 - first], -1)).components
    for name, sd in (("first", 0.04), ("second", 0.02), ("both", 0.01)):
        assert found[name] == pytest.approx(2 * sd**2, rel=0.06)


def test_what_is_no_prediction_is_refused() -> None:
    with pytest.raises(InputError, match="two runs or more"):
        churn(np.full((1, 4, 2), 0.5))
    with pytest.raises(InputError, match="probabilities, not logits"):
        churn(np.ones((2, 4, 2)))
    with pytest.raises(InputError, match="crossed layout"):
        churn(np.ones((4, 2)))
