"""Rounds of a run: their lengths, when they end, which is kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.study.learning.rounds import Best, Rounds, better
from novacula.study.learning.solve import Solved, chance


def test_rounds_double_and_a_short_rest_joins_the_last() -> None:
    rounds, lengths, step = Rounds.planned(100, 1_500), [], 0
    while not rounds.ended:
        lengths.append(rounds.length)
        step += rounds.length
        rounds = rounds.next(step, gained=True)
    assert lengths == [100, 200, 400, 800]
    assert not rounds.settled
    rounds = Rounds.planned(400, 1_000)
    assert (rounds.length, rounds.next(400, gained=True).length) == (400, 600)
    assert Rounds.planned(100, 399).length == 399
    assert Rounds.planned(1_000, 500).length == 200


def test_a_round_that_gains_nothing_is_the_last() -> None:
    rounds = Rounds.planned(100, 1_500).next(100, gained=False)
    assert rounds.ended
    assert rounds.settled


def test_a_budget_of_time_shortens_the_round_that_would_not_fit() -> None:
    rounds = Rounds(0, 0, 1_000, 4_000, seconds=0.2999)
    assert rounds.hurried(10.0, 30) is rounds  # 0.01 s a step: all 1,000 steps fit
    assert rounds.hurried(1.0, 30).length in {99, 100}
    assert rounds.hurried(0.2, 30).length == 31
    assert rounds.hurried(None, 30) is rounds
    assert rounds.hurried(1.0, 29) is rounds


def found(score: float, fit: list[float]) -> Solved:
    target = nv.Target(nn.Linear(1, 2))
    return Solved(target, target.params(), score, torch.tensor(fit, dtype=torch.float64), None)


def test_a_gain_below_its_error_ends_and_the_best_is_kept() -> None:
    best = Best.none({}, {}, 4)
    best, gained = better(best, found(-10.0, [0.0, 0.0, 0.0, 0.0]), {}, {}, 4, 0)
    assert gained
    # The examples' gains scatter by √2: their sum is known to 2.83.
    fit = [2.0, 0.0, 2.0, 0.0]
    error = torch.tensor(fit).double().std().item() * 2
    assert chance(torch.tensor(fit).double(), torch.zeros(4).double(), 4) == pytest.approx(error)
    better_, gained = better(best, found(-10.0 + error - 0.1, fit), {}, {}, 4, 1)
    assert not gained
    assert better_.score == pytest.approx(-10.0 + error - 0.1)
    _, gained = better(best, found(-10.0 + error + 0.1, fit), {}, {}, 4, 1)
    assert gained
    worse, gained = better(best, found(-11.0, fit), {}, {}, 4, 1)
    assert not gained
    assert (worse.score, worse.latest, worse.gain) == (-10.0, -11.0, -1.0)


def test_time_ends_a_run_and_it_says_that_it_has_not_converged() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=rng)
    data = nv.Data(x, (x[:, :1] * x[:, 1:2]).tanh() + 0.1 * torch.randn(200, 1, generator=rng))
    net = nv.networks.make("mlp", (3,), 1, seed=0)
    fit = nv.learn(nv.Target(net, likelihood=nv.Normal()), data, seconds=0.2, folds=0)
    assert fit.settings["steps"] < 1_000
    assert not fit.converged
    assert fit.warnings[0].startswith("not converged")
    assert math.isfinite(float(fit.evidence))
