"""Generalised posterior calibration against closed forms: a Gaussian model whose noise is not the data's.

Seeds are fixed. With 60 samples of the bootstrap the coverage of one mean has a standard error of at most .06; it is
compared within .2, more than three of them: a false alarm in one of 1,000 seeds.
"""

from __future__ import annotations

import math

import pytest
import torch

import novacula as nv
from conjugate import Conjugate, line
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.study import calibrated_rate


def _mean(n: int, spread: float) -> Data:
    x = torch.ones(n, 1, dtype=torch.float64)
    return Data(x, 1 + spread * torch.randn(n, 1, generator=generator(0, "noise"), dtype=torch.float64))


def test_coverage_of_a_mean_is_the_closed_form() -> None:
    data, sigma, rates = _mean(60, 1.0), 0.5, (1.0, 0.5, 0.2)
    at = torch.ones(1, 1, dtype=torch.float64)
    target = line(1, sigma=sigma, precision=1e-8)
    found = calibrated_rate(Conjugate(), target, data, learning_rates=rates, samples=60, at=at, steps=1)
    spread = float(data.y.std(correction=0))
    for rate, (covered, error) in zip(rates, found.coverage, strict=True):
        expected = math.erf(1.6449 * sigma / (spread * math.sqrt(rate)) / math.sqrt(2))
        assert covered == pytest.approx(expected, abs=0.2)
        assert 0.005 < error < 0.07
    assert found.learning_rate == pytest.approx(sigma**2 / spread**2, rel=0.5)
    assert found.target.likelihood_temperature == pytest.approx(1 / found.learning_rate)
    assert "| 0.5 |" in found.table()


def test_draws_cover_as_the_closed_form_does() -> None:
    data, target = _mean(40, 0.7), line(1, sigma=0.7, precision=1e-8)
    options = {"learning_rates": (2.0,), "samples": 12, "at": data.x[:1], "steps": 1, "seed": 3}
    closed = calibrated_rate(Conjugate(), target, data, **options)
    sampled = calibrated_rate(Conjugate(draws=1_000), target, data, **options)
    for one, other in zip(closed.coverage, sampled.coverage, strict=True):
        assert one[0] == pytest.approx(other[0], abs=0.1)


def test_beyond_the_rates_the_end_is_taken_and_said() -> None:
    target, options = line(1, sigma=0.5, precision=1e-8), {"samples": 10, "steps": 1}
    small = calibrated_rate(Conjugate(), target, _mean(30, 5.0), learning_rates=(1.0, 0.5), **options)
    assert small.learning_rate == 0.5
    assert "try smaller" in small.warnings[0]
    large = calibrated_rate(Conjugate(), target, _mean(30, 0.01), learning_rates=(1.0, 0.5), **options)
    assert large.learning_rate == 1.0
    assert "try larger" in large.warnings[0]


def test_bad_input_is_refused() -> None:
    target, data = line(1, sigma=0.5, precision=1.0), _mean(10, 1.0)
    for option, told in (({"level": 1.5}, "level"), ({"samples": 1}, "samples"), ({"learning_rates": (0.0,)}, "rates")):
        with pytest.raises(nv.InputError, match=told):
            calibrated_rate(Conjugate(), target, data, steps=1, **option)
