"""E-processes: closed forms, the share of false alarms at any time, and power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import betaln

from novacula import InputError
from novacula.diagnostics import EProcess, bayes_factor, better, changed

RUNS, T, ALPHA = 1_000, 200, 0.05
# Of 1,000 runs at most 5 % may alarm: more than 73 would come with a probability of 6e-4 if the rate were 5 %.
MOST = 73


def alarms(runs: list[EProcess]) -> int:
    return sum(e.rejected(ALPHA) is not None for e in runs)


def test_the_bayes_factor_of_a_learning_coin_is_that_of_the_beta_function() -> None:
    y = (np.random.default_rng(0).random(60) < 0.8).astype(int)
    heads, seen = np.cumsum(y) - y, np.arange(60)
    p = (heads + 2) / (seen + 5)  # predictive of Beta(2, 3)
    learning = np.log(np.where(y, p, 1 - p))
    fair = np.full(60, math.log(0.5))
    h = int(y.sum())
    expected = betaln(2 + h, 3 + 60 - h) - betaln(2, 3) - 60 * math.log(0.5)
    assert bayes_factor(fair, learning).value == pytest.approx(expected, rel=1e-12)


def test_bayes_factors_raise_few_false_alarms_at_any_time() -> None:
    rng, runs = np.random.default_rng(1), []
    for _ in range(RUNS):
        p, q = rng.uniform(0.05, 0.95, T), rng.uniform(0.05, 0.95, T)
        y = rng.random(T) < p
        runs.append(bayes_factor(np.log(np.where(y, p, 1 - p)), np.log(np.where(y, q, 1 - q))))
    assert alarms(runs) <= MOST


def test_two_equal_forecasters_raise_few_false_alarms_though_both_are_wrong() -> None:
    """D' has mean zero at every step, skewed by turns as the past decides: the border of the hypothesis."""
    rng, runs, share = np.random.default_rng(2), [], 0.1
    for _ in range(RUNS):
        a, d, sign = rng.uniform(-3, -0.1, T), np.empty(T), 1.0
        for t in range(T):
            d[t] = sign * (0.9 if rng.random() < 0.1 else -0.1)
            sign = 1.0 if d[: t + 1].sum() < 0 else -1.0
        b = a + np.log((np.exp(d) - share) / (1 - share))  # such that log(.9 p_B/p_A + .1) is d
        runs.append(better(a, b, share=share))
    assert alarms(runs) <= MOST


def test_a_fair_bet_is_a_martingale() -> None:
    """One step from 2,000 equal chances: the mean of E_1 is 1 exactly where d' is made to have mean zero."""
    target = np.linspace(-1.0, 1.0, 2_000)  # d', of mean zero
    b = np.log((np.exp(target) - 0.1) / 0.9)  # such that log(.9 e^b + .1) is d'
    e = [math.exp(better([0.0], [x]).value) for x in b]
    assert np.mean(e) == pytest.approx(1.0, abs=1e-9)
    assert min(e) > 0


@pytest.mark.parametrize("kind", ["normal", "ties", "urn"])
def test_exchangeable_streams_raise_few_false_alarms(kind: str) -> None:
    rng, runs = np.random.default_rng(3), []
    for i in range(RUNS):
        scores = rng.normal(size=T)
        if kind == "ties":
            scores = rng.integers(0, 3, T).astype(float)
        elif kind == "urn":  # exchangeable and far from independent: a coin of unknown bias, and its noise
            scores = (rng.random(T) < rng.random()) + 0.01 * rng.normal(size=T)
        runs.append(changed(scores, seed=i))
    assert alarms(runs) <= MOST


def test_what_is_there_is_found() -> None:
    """B knows that a coin is one of .7 where A says .5, 80 nats in 1,000; a stream moves by a standard deviation."""
    rng = np.random.default_rng(4)
    y = rng.random(1_000) < 0.7
    a, b = np.full(1_000, math.log(0.5)), np.log(np.where(y, 0.7, 0.3))
    assert (bayes_factor(a, b).rejected() or T) < 150
    assert (better(a, b).rejected() or 10**4) < 500
    assert better(b, a).rejected() is None
    shifted = np.r_[rng.normal(size=500), 1 + rng.normal(size=500)]
    found = changed(shifted)
    at = found.rejected()
    assert at is not None
    assert 500 < at < 620
    assert found.p_value < 1e-4
    falling = changed(-shifted).rejected()
    assert falling is not None
    assert 500 < falling < 620


def test_levels_and_times_agree() -> None:
    e = EProcess(np.log([1.0, 30.0, 2.0]), "nothing")
    assert e.rejected(0.05) == 2
    assert e.rejected(0.01) is None
    assert e.p_value == pytest.approx(1 / 30)
    assert e.value == pytest.approx(math.log(2))
    assert EProcess(np.log([0.5, 0.9]), "nothing").p_value == 1.0
    assert "nothing" in repr(e)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bayes_factor([0.0], [0.0, 1.0]), "the same labels"),
        (lambda: bayes_factor([math.nan], [0.0]), "finite"),
        (lambda: better([[0.0]], [0.0]), "shape"),
        (lambda: better([0.0], [0.0], share=1.0), "share between 0 and 1"),
        (lambda: changed("abc"), "scores as numbers"),
        (lambda: changed([1.0]).rejected(0.0), "alpha between 0 and 1"),
    ],
)
def test_what_is_no_stream_is_refused(call: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()  # type: ignore[operator]
