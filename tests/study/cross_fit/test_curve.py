"""The loss to expect of a network that has seen everything."""

from __future__ import annotations

import dataclasses
import math
import statistics

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
        found.append(last_fold(losses, losses, loss(~rows, rows), folds, positive=False).value - truth)
        plain.append(float(losses.mean()) - truth)
    assert sum(plain) / 1_000 == pytest.approx(0.020, abs=0.006)
    assert sum(found) / 1_000 == pytest.approx(-0.010, abs=0.007)


def test_losses_of_classes_go_on_as_parts_of_themselves() -> None:
    # From 2.3 nats of a third of the data to .19 of two thirds: a straight line would end below nought.
    folds, power = torch.arange(60) % 3, math.log(2.3 / 0.19) / math.log(2)
    losses, fewer = torch.full((60,), 0.19).double(), torch.full((40,), 2.3).double()
    found = last_fold(losses, losses, fewer, folds, positive=True)
    assert found.drop == pytest.approx(2.11)
    assert 0.19 * (2 / 3) ** power < found.value < 0.19  # above what a power law without a floor gives
    assert abs(found.value - 0.19 * (2 / 3) ** power) < 2.4 * found.stderr
    # Rows that differ: the error is that of the logarithm's, and the mean of no network is taken for below nought.
    spread = losses * torch.linspace(0.1, 1.9, 60).double()
    some = last_fold(spread, spread, fewer, folds, positive=True)
    assert found.value == pytest.approx(some.value, rel=0.1)
    assert some.stderr > found.stderr
    nothing = last_fold(0 * losses, 0 * losses, 0 * fewer, folds, positive=True)
    assert 0 <= nothing.value < 1e-9


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


def test_networks_that_came_late_to_their_target_are_made_up_for() -> None:
    """Losses ``.2 + s^-.6 / 10`` at shares s, .3 too high where networks came late: the fall's rule is exact here."""
    curve, folds = lambda s: 0.2 + 0.1 * s**-0.6, torch.arange(300) % 3
    stale, fewer = torch.full((300,), curve(2 / 3) + 0.3), torch.full((200,), curve(1 / 3))
    late = last_fold(stale, stale, fewer, folds, positive=False)
    assert late.value == pytest.approx(curve(2 / 3) + 0.3)  # the network of one fold seems no worse
    anew = torch.full((100,), curve(2 / 3))
    found = last_fold(stale, stale, fewer, folds, anew, positive=False)
    assert found.value == pytest.approx(curve(1), abs=1e-6)
    assert found.drop == pytest.approx(curve(1 / 3) - curve(2 / 3), abs=1e-6)
    assert last_fold(stale, stale, fewer, folds, stale[:100], positive=True) == pytest.approx(
        last_fold(stale, stale, fewer, folds, positive=True)
    )


def test_the_error_holds_what_networks_trained_anew_scatter_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 draws of 600 rows, with an exponent that is known: the spread is known within 3.5 %."""
    monkeypatch.setattr("novacula.study.growth._RANGE", (0.6, 0.6))
    rng, folds = torch.Generator().manual_seed(0), torch.arange(600) % 3
    values, errors = [], []
    for _ in range(400):
        easy = torch.rand(600, generator=rng)
        stale = 0.4 * easy + 0.1 * torch.rand(600, generator=rng)
        fewer = (0.6 * easy + 0.1 * torch.rand(600, generator=rng))[folds != 0]
        anew = (0.3 * easy + 0.1 * torch.rand(600, generator=rng))[folds == 0]
        found = last_fold(stale, stale, fewer, folds, anew, positive=False)
        values.append(found.value)
        errors.append(found.stderr)
    spread = float(torch.tensor(values).std())
    assert 0.85 * spread < statistics.mean(errors) < 1.6 * spread  # the larger of two measures of the error is taken
