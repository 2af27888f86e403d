"""Whether the gap between two settings is real: against scipy, simulation and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

import novacula as nv
from novacula.core.errors import InputError


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1.0, 7), rng.normal(0.4, 2.0, 7)
    found = nv.study.gap(a, b, alpha=0.1)
    other: Any = ttest_1samp(a - b, 0.0)
    low, high = other.confidence_interval(0.9)
    assert found.interval == pytest.approx((low, high))
    assert found.real == (other.pvalue < 0.1)
    assert nv.study.gap(b, a).interval == pytest.approx(tuple(-v for v in reversed(nv.study.gap(a, b).interval)))


def test_the_smallest_difference_is_shown_as_often_as_it_says() -> None:
    # 4,000 experiments: the standard error is .0063, and four of them are one seed in 16,000.
    found = nv.study.gap([0.3, -0.1, 0.4, 0.2, 0.5], [0.0, 0.0, 0.0, 0.0, 0.0])
    sd = found.stderr * math.sqrt(5)
    d = np.random.default_rng(1).normal(found.smallest, sd, (4000, 5))
    t = d.mean(1) / d.std(1, ddof=1) * math.sqrt(5)
    assert float((np.abs(t) > 2.7764).mean()) == pytest.approx(0.8, abs=0.025)


def test_more_pairs_are_needed_for_smaller_gaps_and_the_number_is_the_least() -> None:
    base = np.array([0.1, -0.2, 0.15, -0.05])
    needed = [nv.study.gap(base + shift, 0 * base).pairs_needed for shift in (0.05, 0.1, 0.4)]
    assert all(n is not None for n in needed)
    assert needed == sorted(needed, reverse=True)  # type: ignore[type-var]
    # Cohen's rule for the normal distribution, (1.96 + .84)² / effect², is a few below Student's.
    sd = base.std(ddof=1)
    assert needed[0] == pytest.approx((1.96 + 0.8416) ** 2 * (sd / 0.05) ** 2 + 2, abs=2)
    assert nv.study.gap([0.0, 1e-9, -1e-9], [0.0, 1e-9, -1e-9]).pairs_needed is None


def test_a_new_pair_is_forecast_as_often_as_it_says() -> None:
    # The mean forecast of 3,000 experiments of five pairs against how often the sixth is above nought.
    d = np.random.default_rng(2).normal(0.0, 1.0, (3000, 6))
    said = np.array([nv.study.gap(row[:5], 0 * row[:5]).a_is_higher for row in d])
    high = said > 0.8
    assert (d[high, 5] > 0).mean() == pytest.approx(0.5, abs=0.1)  # nothing is known of a gap of nought
    # The predictive interval is exact: the forecast's rank of the sixth is uniform.
    mean, sd = d[:, :5].mean(1), d[:, :5].std(1, ddof=1)
    assert (np.abs((d[:, 5] - mean) / (sd * math.sqrt(1.2))) > 2.7764).mean() == pytest.approx(0.05, abs=0.016)


def test_bad_input_is_refused() -> None:
    for a, b, match in (
        ([1.0], [2.0], "two pairs"),
        ([1.0, 2.0], [1.0], "two pairs"),
        ([1.0, math.nan], [1.0, 2.0], "finite"),
    ):
        with pytest.raises(InputError, match=match):
            nv.study.gap(a, b)
    with pytest.raises(InputError, match="alpha"):
        nv.study.gap([1.0, 2.0], [0.0, 0.0], alpha=0.0)
    with pytest.raises(InputError, match="power above"):
        nv.study.gap([1.0, 2.0], [0.0, 0.0], alpha=0.5, power=0.1)
