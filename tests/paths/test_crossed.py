"""Means over pairs and variance components of crossed layouts: analysis of variance, planted variances, coverage."""

from __future__ import annotations

import numpy as np
import pytest

from novacula import InputError
from novacula.paths.crossed import Layout, components, over_pairs, over_runs


def crossed(*levels: int) -> Layout:
    """All combinations of so many levels."""
    grid = np.indices(levels).reshape(len(levels), -1)
    return Layout.of(grid.shape[1], {"abc"[i]: row.tolist() for i, row in enumerate(grid)})


def test_of_two_causes_they_are_those_of_the_analysis_of_variance() -> None:
    p = np.random.default_rng(0).normal(size=(4, 3, 7, 2)) + np.random.default_rng(1).normal(size=(4, 1, 7, 2))
    rest = p - p.mean(1, keepdims=True) - p.mean(0, keepdims=True) + p.mean((0, 1))
    both = (rest**2).sum((0, 1)) / (3 * 2)
    wanted = {
        "a": (3 * p.mean(1).var(0, ddof=1) - both) / 3,
        "b": (4 * p.mean(0).var(0, ddof=1) - both) / 4,
        "together": both,
    }
    found = components(p.reshape(12, 7, 2), crossed(4, 3))
    for name, value in wanted.items():
        assert found[name].value == pytest.approx(value.sum(1).mean(), rel=1e-12)


def test_of_three_causes_planted_variances_are_found() -> None:
    """Of 20,000 examples each component has a standard error below .012: the tolerance is five of them."""
    rng, n = np.random.default_rng(2), 20_000
    a, b, c = (s * rng.normal(size=(k, n)) for s, k in ((1.0, 3), (0.5, 4), (0.0, 2)))
    values = a[:, None, None] + b[None, :, None] + c[None, None] + 0.7 * rng.normal(size=(3, 4, 2, n)) + 10
    found = components(values.reshape(24, n, 1), crossed(3, 4, 2))
    values_found = [found[k].value for k in ("a", "b", "c", "together")]
    assert values_found == pytest.approx([1.0, 0.25, 0.0, 0.49], abs=0.06)
    assert found["a"].interval is None  # c has two levels


def test_pairs_that_share_a_level_do_not_count() -> None:
    layout = crossed(2, 3)
    d = np.arange(36.0).reshape(6, 6)
    runs = [(i, j) for i in range(2) for j in range(3)]
    by_hand = [d[r, s] for r, x in enumerate(runs) for s, y in enumerate(runs) if x[0] != y[0] and x[1] != y[1]]
    assert layout.measure(over_pairs(d, layout.apart)).value == pytest.approx(np.mean(by_hand))


def test_intervals_cover() -> None:
    """Of 200 sets of six runs that flip labels, 90 % intervals cover in 170 to 197 (the false alarm: below .01)."""
    rng = np.random.default_rng(3)
    base = 3 * rng.normal(size=200)

    def apart(runs: int) -> np.ndarray:
        labels = base + rng.normal(size=(runs, 200)) > 0
        return (labels[:, None] != labels[None]).mean(2)

    many, layout = apart(500), Layout.of(6)
    truth, covered = many.sum() / (500 * 499), 0
    for seed in range(200):
        found = layout.measure(over_pairs(apart(6), layout.apart), draws=200, seed=seed)
        assert found.interval is not None
        covered += found.interval[0] <= truth <= found.interval[1]
    assert 170 <= covered <= 197


def test_intervals_of_components_cover() -> None:
    """They are cautious: 180 to 200 of 200 at 90 %."""
    rng, layout, covered = np.random.default_rng(4), crossed(4, 4), np.zeros(3)
    for _ in range(200):
        a, b, e = rng.normal(size=(4, 1, 9)), 0.5 * rng.normal(size=(1, 4, 9)), 0.7 * rng.normal(size=(4, 4, 9))
        found = components((a + b + e).reshape(16, 9, 1), layout)
        for i, (name, truth) in enumerate((("a", 1.0), ("b", 0.25), ("together", 0.49))):
            low, high = found[name].interval or (0.0, 0.0)
            covered[i] += low <= truth <= high
    assert (covered >= 180).all()


def test_intervals_end_where_the_number_does() -> None:
    found = Layout.of(3).measure(over_runs(np.array([0.0, 0.2, 0.9])), bounds=(0.0, 1.0))
    assert found.interval == (0.0, 1.0)


def test_two_runs_have_no_interval() -> None:
    found = Layout.of(2).measure(over_runs(np.array([1.0, 2.0])))
    assert (found.value, found.interval) == (1.5, None)
    assert found.to_dict() == {"value": 1.5, "interval": None}


@pytest.mark.parametrize("causes", [{"a": [0, 1]}, {"a": [0, 0, 0]}, {"a": [0, 0, 1], "b": [0, 0, 1]}])
def test_bad_layouts_are_refused(causes: dict[str, list[int]]) -> None:
    with pytest.raises(InputError):
        Layout.of(3, causes)


def test_components_need_causes_that_cross() -> None:
    values = np.zeros((4, 2, 1))
    for layout in (Layout.of(4), Layout.of(4, {"a": [0, 0, 1, 1], "b": [0, 1, 2, 3]})):
        with pytest.raises(InputError, match="crossed"):
            components(values, layout)
