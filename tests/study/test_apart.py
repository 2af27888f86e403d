"""Intervals as wide as independent searches end apart: their coverage, and the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from novacula.study.learning.apart import as_apart, spanning
from novacula.study.learning.each import not_worse
from novacula.study.learning.hyper import Z


def interval(value: float, stderr: float) -> dict[str, object]:
    return {"value": value, "interval": [max(0.0, value - Z * stderr), value + Z * stderr]}


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_they_hold_what_a_repetition_finds(factor: float) -> None:
    """90 % intervals of 6 extents and 3 searches.

    4,000 repetitions, 24,000 checks, of which those of one repetition hang together: its standard error is below half
    a point. Where the curvature is right the interval is wider than it need be, for the quantile of t.
    """
    rng, names, K = np.random.default_rng(0), tuple("abcdef"), 3
    within = np.array([0.02, 0.05, 0.1, 0.03, 0.04, 0.02])  # standard errors of the mean by curvature
    held = total = 0
    for _ in range(4_000):
        searches = 2 + factor * within * np.sqrt(K) * rng.standard_normal((K, 6))
        again = 2 + factor * within * rng.standard_normal(6)
        found = {n: interval(m, w) for n, m, w in zip(names, searches.mean(0), within, strict=True)}
        apart = torch.from_numpy(searches.std(0, ddof=1))
        for n, value in zip(names, again, strict=True):
            low, high = as_apart(found, names, apart, K)[n]["interval"]
            held, total = held + (low <= value <= high), total + 1
    assert 0.87 < held / total < 0.96
    if factor > 1:
        assert held / total < 0.93


def test_an_extent_without_curvature_has_that_of_its_own_searches() -> None:
    """Coverage of 90 % with a t quantile of 2 degrees of freedom; false alarm at 4.5 standard deviations: 1e-5."""
    rng, held, n = np.random.default_rng(1), 0, 4_000
    for _ in range(n):
        searches, again = 5 + rng.standard_normal(3), 5 + rng.standard_normal() / np.sqrt(3)
        found = {"a": {"value": searches.mean(), "interval": None}}
        low, high = as_apart(found, ("a",), torch.tensor([searches.std(ddof=1)]), 3)["a"]["interval"]
        held += low <= again <= high
    assert abs(held / n - 0.9) < 4.5 * (0.09 / n) ** 0.5


def test_searches_that_agree_leave_the_curvature_and_what_never_moved_stays() -> None:
    found = {"a": interval(0.5, 0.1), "b": {"value": 0.0, "interval": None}, "noise": interval(1.0, 0.1)}
    after = as_apart(found, ("a", "b"), torch.tensor([0.0, 0.0]), 3)
    assert after["b"]["interval"] is None
    assert after["noise"] == found["noise"]
    low, high = after["a"]["interval"]
    assert high - 0.5 == pytest.approx(2**0.5 * 2.919986 * 0.1, rel=1e-5)
    assert low == pytest.approx(0.5 - 2**0.5 * 2.919986 * 0.1, rel=1e-4)


def test_intervals_hold_what_was_tried_and_is_not_worse_beyond_doubt() -> None:
    tried = {0.1: (0.0, 0.0), 0.0: (-0.2, 0.05), 0.2: (0.02, 0.02)}
    assert not_worse(tried) == (0.1, 0.2)  # .2 gains .02 ± .02, nothing loses .22 ± .05
    assert not_worse({0.1: (0.0, 0.0), 0.2: (0.5, 0.1)}) == (0.2,)
    entry = spanning({"value": 0.1, "interval": [0.05, 0.15]}, (0.1, 0.2))
    assert entry["interval"] == [0.05, 0.2]
    assert spanning({"value": 0.1, "interval": None}, (0.2,))["interval"] is None
    assert spanning(entry, ())["interval"] == [0.05, 0.2]
