"""The loss to expect of a network that has seen everything."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import novacula as nv
from novacula.study.cross_fit.curve import alone, last_fold
from novacula.study.cross_fit.result import CrossFit


def test_least_squares_of_all_data_is_expected_rather_than_that_of_the_folds() -> None:
    # 10 weights: the excess squared error of n examples is σ² 10/(n − 11), and .112, .256 and .072 σ² of 100, 50 and
    # 150. In the mean of 1,000 data sets the folds are .020 nats above the truth and what is expected .010 below, each
    # within a standard error of .002: false alarm below 1e-3.
    rng = torch.Generator().manual_seed(0)
    w, n = torch.linspace(-1, 1, 10, dtype=torch.float64), 150
    folds = torch.arange(n) % 3
    rows = folds != 0
    found, plain = [], []
    for _ in range(1_000):
        x = torch.randn(n, 10, generator=rng, dtype=torch.float64)
        y = x @ w + torch.randn(n, generator=rng, dtype=torch.float64)

        def loss(seen: torch.Tensor, on: torch.Tensor, x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            return (y[on] - x[on] @ torch.linalg.lstsq(x[seen], y[seen]).solution).square() / 2

        losses = torch.empty(n, dtype=torch.float64)
        for k in range(3):
            losses[folds == k] = loss(folds != k, folds == k)
        solution = torch.linalg.lstsq(x, y).solution
        truth = float(1 + (solution - w).square().sum()) / 2
        found.append(last_fold(losses, losses, loss(~rows, rows), folds).value - truth)
        plain.append(float(losses.mean()) - truth)
    assert sum(plain) / 1_000 == pytest.approx(0.020, abs=0.006)
    assert sum(found) / 1_000 == pytest.approx(-0.010, abs=0.007)


def test_the_network_of_one_fold_sees_that_fold_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrossFit, "learned", True)  # of labels that it has not seen it may know nothing
    data = nv.load("digits").subset(range(90))
    target = nv.Target(nv.networks.make("linear", data.x_shape, 10, seed=0))
    fit = nv.cross_fit(target, data, steps=40, curve=True)
    assert fit.fewer is not None
    assert torch.equal(alone(torch.tensor([0, 1, 2, 0])), torch.tensor([1, 0, 0, 1]))
    # Other labels of all examples but those of the first fold leave its weights as they are.
    other = data.with_values(data.x, torch.where(fit.folds == 0, data.y, 9 - data.y))
    again = nv.cross_fit(target, other, folds=fit.folds, steps=40, curve=True)
    assert again.fewer is not None
    for k, w in fit.fewer.networks[0].items():
        assert torch.equal(w, again.fewer.networks[0][k])


def test_without_it_nothing_is_expected() -> None:
    data = nv.load("digits").subset(range(60))
    target = nv.Target(nv.networks.make("linear", data.x_shape, 10, seed=0))
    assert nv.cross_fit(target, data, steps=10).expected is None
    two = nv.cross_fit(target, data, folds=2, steps=10, curve=True)
    assert two.expected is None
    assert "expected" not in two.score()
    assert math.isfinite(two.score()["nll"])


def test_losses_of_classes_fall_as_a_power_and_not_below_nought() -> None:
    """Losses of 2/3 and 1/3 of the rows on a power law without a floor, with a spread over rows that is known."""
    rng = torch.Generator().manual_seed(0)
    n, a = 30_000, 1.5
    folds = torch.arange(n) % 3
    scatter = torch.rand(n, generator=rng, dtype=torch.float64) * 2  # of mean 1
    two, one = (2 / 3) ** -a * scatter, (1 / 3) ** -a * scatter
    found = last_fold(two, two, one[folds != 0], folds, positive=True)
    # A curve without a floor is at the end of the range of exponents, 2.3 errors away.
    assert abs(found.value - 1) < 2.5 * found.stderr
    assert found.value < (2 / 3) ** -a - 5 * 0.01
    steep = last_fold(0.3 + 0 * two, 0.3 + 0 * two, torch.full((n * 2 // 3,), 2.25).double(), folds, positive=True)
    assert 0 < steep.value < 0.3
    assert steep.drop == pytest.approx(1.95)
    assert last_fold(0.3 + 0 * two, 0.3 + 0 * two, torch.full((n * 2 // 3,), 2.25).double(), folds).value < 0


def test_a_network_of_one_fold_that_learned_nothing_tells_nothing() -> None:
    data = nv.load("digits").subset(range(90))
    target = nv.Target(nv.networks.make("linear", data.x_shape, 10, seed=0))
    fit = nv.cross_fit(target, data, steps=40, curve=True)
    assert fit.learned
    assert fit.expected is not None
    assert fit.expected.value > 0
    assert fit.fewer is not None
    mute = dataclasses.replace(fit.fewer, members=torch.zeros_like(fit.fewer.members))
    assert not mute.learned
    assert dataclasses.replace(fit, fewer=mute).expected is None
