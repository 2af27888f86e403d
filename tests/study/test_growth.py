"""What more rows bring, against laws that are known and repetitions of the experiment."""

from __future__ import annotations

import math

import pytest
import torch

from novacula.study.growth import Measured, grown, mean, quantile, seen, share


def exactly(value: float, n: int = 30) -> Measured:
    return Measured(value, torch.zeros(n, dtype=torch.float64))


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("folds", [3, 5])
def test_a_power_law_is_continued_within_the_error_that_is_stated(exponent: float, folds: int) -> None:
    def law(part: float) -> float:
        return 0.2 - 0.5 * math.log(part) if exponent == 0 else 0.2 + 0.5 * part**-exponent

    a, b, which = 1 / folds, (folds - 1) / folds, torch.arange(30) % folds
    found = grown(exactly(law(b)), exactly(law(a) - law(b)), (a, b), which)
    assert found.drop == pytest.approx(law(a) - law(b))
    assert abs(found.value - law(1.0)) <= 2.4 * found.stderr
    if exponent == 0.6:
        assert found.value == pytest.approx(law(1.0), abs=1e-12)
    assert law(b) - share(a, b, exponent) * (law(a) - law(b)) == pytest.approx(law(1.0), abs=1e-12)


def test_a_drop_within_its_error_is_next_to_none_and_a_rise_is_none() -> None:
    folds, pulls = torch.arange(40) % 2, torch.linspace(-1, 1, 40, dtype=torch.float64)
    error = mean(pulls)
    stderr = float((pulls.square().sum() / (40 * 38)).sqrt())  # that of the rows in their two folds
    for times in (0.1, 1.0, 10.0):
        d = times * stderr
        found = grown(exactly(2.0, 40), Measured(d, error.pulls), (1 / 3, 2 / 3), folds)
        shrunk = d * times**2 / (times**2 + 1)
        assert found.value == pytest.approx(2.0 - share(1 / 3, 2 / 3, 0.6) * shrunk, rel=1e-3)
    assert grown(exactly(2.0), exactly(-0.5), (1 / 3, 2 / 3), torch.arange(30) % 3).value == 2.0
    assert grown(exactly(2.0), exactly(0.0), (1 / 3, 2 / 3), torch.arange(30) % 3).value == 2.0


def test_the_error_is_that_of_repetitions() -> None:
    # 2,000 repetitions of 90 examples, half a nat between the two shares; the standard deviation of the estimates
    # against the one that is stated, but for the exponent. It is stated by the larger of two estimates, of the rows
    # and of three folds, and so too large by about a fifth; the relative error of a standard deviation of 2,000 is
    # 1.6 %: false alarm below 1e-6.
    rng, folds = torch.Generator().manual_seed(0), torch.arange(90) % 3
    values, errors = [], []
    for _ in range(2_000):
        hardness = torch.randn(90, generator=rng, dtype=torch.float64)
        losses = 1 + hardness + 0.3 * torch.randn(90, generator=rng, dtype=torch.float64)
        fewer = 1.5 + 1.5 * hardness + 0.4 * torch.randn(90, generator=rng, dtype=torch.float64)
        found = grown(mean(losses), mean(fewer - losses), (1 / 3, 2 / 3), folds)
        values.append(found.value)
        errors.append(found.stderr**2 - (share(1 / 3, 2 / 3, 0.0) - share(1 / 3, 2 / 3, 1.0)) ** 2 / 12 * found.drop**2)
    ratio = torch.tensor(errors).clamp(min=0).mean().sqrt() / torch.tensor(values).std()
    assert 0.95 < float(ratio) < 1.35


def test_pulls_of_means_logarithms_and_quantiles_are_those_of_rows_left_out() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.rand(4_000, generator=rng, dtype=torch.float64) + 0.5
    n = len(x)
    log = mean(x).log()
    without = (x.sum() - x) / (n - 1)
    torch.testing.assert_close(log.pulls, (n - 1) * (x.mean().log() - without.log()), rtol=1e-3, atol=1e-4)
    # Of uniform numbers on .5 … 1.5 the quantile of .9 is 1.4, and its error √(.9 · .1/n).
    q = float(x.quantile(0.9))
    found = quantile(x, q, 0.9)
    assert float(found.pulls.mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(found.pulls.std()) == pytest.approx(0.3, rel=0.1)
    assert float(found.log().pulls.std()) == pytest.approx(0.3 / q, rel=0.1)


def test_the_share_that_is_seen_counts_rows_of_unequal_folds() -> None:
    assert seen(torch.tensor([0, 0, 0, 1])) == pytest.approx(3 / 4 * 1 / 4 + 1 / 4 * 3 / 4)
    assert seen(torch.arange(5)) == pytest.approx(0.8)
