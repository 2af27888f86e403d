"""The best constant prediction against closed forms; the gain over it; a run whose network learns nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import novacula as nv
from novacula.core.params import stack
from novacula.data.data import Data
from novacula.inference import MAP
from novacula.inference.method import Start
from novacula.study import EmpiricalBayes, learn
from novacula.study.learning.skill import Skill
from novacula.target import Target
from novacula.target.constant import best_constant


def outputs(likelihood: object, y: torch.Tensor, c: int) -> torch.Tensor:
    net = torch.nn.Linear(3, c).double()
    target, data = Target(net, likelihood).prepare(Data(torch.zeros(len(y), 3, dtype=torch.float64), y))  # type: ignore[arg-type]
    return best_constant(target, data)


def test_it_is_the_frequency_of_each_class() -> None:
    y = torch.tensor([0, 2, 2, 1, 2, 2, 0, 2])
    torch.testing.assert_close(
        outputs(nv.Categorical(), y, 3).softmax(0), torch.tensor([2, 1, 5]).double() / 8, rtol=1e-5, atol=1e-6
    )


def test_it_is_the_frequency_of_each_label_and_the_mean_of_targets() -> None:
    labels = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]).double()
    torch.testing.assert_close(
        outputs(nv.Bernoulli(), labels, 2).sigmoid(), torch.tensor([0.25, 0.75]).double(), rtol=1e-5, atol=1e-6
    )
    y = torch.tensor([[1.0, -3.0], [2.0, 5.0], [6.0, 1.0]]).double()
    torch.testing.assert_close(outputs(nv.Normal(), y, 2), y.mean(0), rtol=1e-6, atol=1e-6)


def test_a_loss_without_gradient_gives_zero() -> None:
    assert outputs(nv.likelihoods.ZeroOne(), torch.tensor([0, 1, 1]), 2).tolist() == [0.0, 0.0]


def test_the_gain_is_a_running_mean_and_a_tenth_of_a_nat_is_needed() -> None:
    y = torch.tensor([0, 1])
    skill = Skill(torch.zeros(2))
    assert not skill.better
    skill = skill.update(nv.Categorical(), y, 0.5)
    assert skill.gain == pytest.approx(math.log(2) - 0.5)
    assert skill.needed == pytest.approx(0.1 * math.log(2))
    assert skill.better
    assert not skill.much  # that would be half of log 2
    assert replace(skill, gain=0.35).much
    later = skill.update(nv.Categorical(), y, 1.0)
    assert later.gain == pytest.approx(0.9 * (math.log(2) - 0.5) + 0.1 * (math.log(2) - 1.0))


def small(n: int = 96) -> tuple[Target, Data]:
    data = nv.load("digits").subset(range(n))
    net = nv.networks.make("mlp", data.x.shape[1:], 10, seed=0)
    return Target(net, invariance=nv.Affine(only=("rotation", "scale"))), data


def test_extents_stay_while_the_network_knows_nothing() -> None:
    target, data = small()
    method = EmpiricalBayes(optimiser=MAP(lr=1e-9), burn_in=0.0)
    fit = learn(target, data, epochs=2, method=method, folds=0, structures=("last_layer",))
    assert fit.target.invariance is not None
    assert fit.target.invariance.eta.tolist() == pytest.approx([0.1, 0.1])
    assert any("hardly better than a constant" in w for w in fit.warnings)
    # The prior needs no such guard, and moves.
    assert fit.target.learnable()["prior.log_precision"].abs().min() > 0


@pytest.mark.parametrize(("gain", "index", "opened", "ready"), [
    (0.05, 0, False, False),
    (0.30, 0, False, False),  # in the first round it must gain half a nat …
    (0.60, 0, False, True),
    (0.30, 0, True, True),  # … which is asked once
    (0.30, 1, False, True),
    (0.05, 1, True, False),
])  # fmt: skip
def test_extents_begin_to_move_where_much_is_gained(gain: float, index: int, opened: bool, ready: bool) -> None:
    target, data = small()
    target, data = target.prepare(data)
    method = EmpiricalBayes(first=400)
    state = method.init(target, data, torch.Generator(), Start(stack([target.params()]), 2_800))
    rounds = replace(state.rounds, index=index, opened=opened)
    state = replace(state, skill=replace(state.skill, gain=gain), rounds=rounds)
    assert state.ready == ready
    # A run of one round has no later one to wait for.
    single = replace(state, rounds=replace(rounds, length=rounds.steps))
    assert single.ready == (gain > 0.1)


def test_extents_move_once_it_knows_something() -> None:
    target, data = small()
    fit = learn(target, data, epochs=12, lr=2e-2, folds=0, structures=("last_layer",))
    assert fit.target.invariance is not None
    assert fit.target.invariance.eta.tolist() != pytest.approx([0.1, 0.1])
    assert not any("constant" in w for w in fit.warnings)


def test_a_weak_prior_does_not_let_extents_run_away() -> None:
    # Without the guard, the extents of this run grow until the digits are out of sight, and nothing is learned.
    data = nv.load("digits").subset(range(400))
    net = nv.networks.make("mlp", data.x.shape[1:], 10, seed=0)
    target = Target(net, prior=nv.Gaussian(precision=0.1), invariance=nv.Affine(), copies=nv.Copies(train=2))
    fit = learn(target, data, epochs=14, lr=2e-2, batch_size=25, folds=0, structures=("last_layer",))
    assert fit.target.invariance is not None
    assert float(fit.target.invariance.eta[1:].abs().max()) < 1.0
    assert not any("constant" in w for w in fit.warnings)
