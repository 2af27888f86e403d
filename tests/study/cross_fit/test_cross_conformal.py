"""Conformal sets and intervals of a cross-fit: the rule's own numbers, and the share that they hold."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from conjugate import line
from novacula.data.standardise import Standardiser
from novacula.inference import MAP
from novacula.likelihoods import Bernoulli
from novacula.prediction import Intervals, Sets
from novacula.prediction.conformal import cv_plus, cv_plus_sets
from novacula.study import CrossFit


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(n: int, seed: int) -> nv.Data:
    # Noise that is not Gaussian, and a network that cannot be right.
    x = draw(n, 2, seed=seed)
    return nv.Data(x, x[:, :1] ** 2 - x[:, 1:] + draw(n, 1, seed=seed + 50) ** 3 / 3)


def classes(n: int, seed: int) -> nv.Data:
    x = draw(n, 3, seed=seed)
    return nv.Data(x, (x + 1.5 * draw(n, 3, seed=seed + 50)).argmax(1))


@cache
def regression() -> CrossFit:
    return nv.cross_fit(line(2, sigma=0.5, precision=1.0), measured(150, 0), steps=200, method=MAP(lr=5e-2))


@cache
def classification() -> CrossFit:
    target = nv.Target(nn.Linear(3, 3).double())
    return nv.cross_fit(target, classes(150, 0), steps=200, method=MAP(lr=5e-2), folds=4)


def test_intervals_are_those_of_the_rule() -> None:
    fit, x = regression(), draw(7, 2, seed=9)
    found = fit.conformal(0.2)(x)
    new = torch.stack([x @ w["weight"].T for w in fit.params])
    expected = cv_plus(fit.data.y, fit.outputs, new, fit.folds, alpha=0.2)
    assert isinstance(found, Intervals)
    torch.testing.assert_close(found.low, expected.low)
    torch.testing.assert_close(found.high, expected.high)
    assert found.level == expected.level


def test_sets_are_those_of_the_rule() -> None:
    fit, x = classification(), draw(7, 3, seed=9)
    found = fit.conformal(0.2)(x)
    new = torch.stack([fit.target.forward(w, x).softmax(1) for w in fit.params])
    expected = cv_plus_sets(fit.data.y, fit.outputs.softmax(1), new, fit.folds, alpha=0.2)
    assert isinstance(found, Sets)
    assert torch.equal(found.member, expected.member)
    assert 0 < found.level == expected.level < 0.6


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_they_hold_the_truth_as_often_as_they_should(task: str, alpha: float) -> None:
    fit, fresh = (regression(), measured(2000, 7)) if task == "regression" else (classification(), classes(2000, 7))
    rule = fit.conformal(alpha)(fresh.x)
    # Given the 150 training labels, coverage is about 1 − α ± √(α(1 − α)/150), and 2,000 new ones add to that: within
    # 4 of these, one false alarm in 16,000.
    error = math.sqrt(alpha * (1 - alpha) * (1 / 150 + 1 / 2000))
    assert abs(rule.coverage(fresh.y) - (1 - alpha)) < 4 * error
    assert rule.coverage(fresh.y) > rule.level
    if isinstance(rule, Sets):
        assert 0.5 < float(rule.size.double().mean()) < 2.9


def test_intervals_are_in_the_units_of_the_targets() -> None:
    own = measured(60, 0)
    scaling = Standardiser.fit(nv.Data(own.x, 100 * own.y + 3))
    data = scaling.apply(nv.Data(own.x, 100 * own.y + 3))
    fit = nv.cross_fit(line(2, sigma=0.5, precision=1.0), data, steps=50)
    new = torch.stack([data.x @ w["weight"].T for w in fit.params])
    low = cv_plus(data.y, fit.outputs, new, fit.folds, alpha=0.2).low
    found = fit.conformal(0.2)(data.x)
    assert isinstance(found, Intervals)
    torch.testing.assert_close(found.low, scaling.restore_y(low), rtol=0, atol=1e-8)


def test_each_label_of_several_has_a_set_of_its_own() -> None:
    x = draw(80, 3)
    y = (x[:, :2] + draw(80, 2, seed=1) > 0).double()
    fit = nv.cross_fit(nv.Target(nn.Linear(3, 2).double(), likelihood=Bernoulli()), nv.Data(x, y), steps=100)
    found = fit.conformal(0.25)(x[:9])
    assert isinstance(found, Sets)
    assert found.member.shape == (9, 2, 2)
    p, new = fit.outputs.sigmoid(), torch.stack([fit.target.forward(w, x[:9]).sigmoid() for w in fit.params])
    for c in range(2):
        both, other = (torch.stack([1 - q[..., c], q[..., c]], -1) for q in (p, new))
        assert torch.equal(found.member[:, c], cv_plus_sets(y[:, c].long(), both, other, fit.folds, alpha=0.25).member)


def test_transformations_are_those_of_the_out_of_fold_predictions() -> None:
    data = nv.load("digits").subset(range(60))
    target = nv.Target(nv.networks.make("linear", data.x_shape, 10), invariance=nv.Affine(only=("rotation",)))
    fit = nv.cross_fit(target, data, steps=20)
    rule = fit.conformal(0.3)
    k = int(fit.folds[0])
    again = nv.predict(nv.inference.Point(fit.params[k], target), data.x[:1], seed=rule.seed)
    torch.testing.assert_close(again.outputs[0], fit.outputs[:1])


@pytest.mark.parametrize(("alpha", "match"), [(0.0, "alpha between 0 and 1"), (1.5, "alpha"), (0.005, "at least 199")])
def test_impossible_levels_are_refused(alpha: float, match: str) -> None:
    with pytest.raises(nv.InputError, match=match):
        regression().conformal(alpha)


def test_what_is_neither_class_nor_measurement_is_refused() -> None:
    loss = nv.Gibbs(lambda f, y: (f - y).square().sum(1), name="square")
    fit = nv.cross_fit(nv.Target(nn.Linear(2, 1).double(), likelihood=loss), measured(30, 0), steps=1)
    with pytest.raises(nv.InputError, match="classes, labels or measurements"):
        fit.conformal(0.2)


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(nv.InputError, match="inputs like those"):
        regression().conformal(0.2)(torch.zeros(3, 5, dtype=torch.float64))
