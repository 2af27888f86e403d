"""The choice of the predictive on training data alone."""

from __future__ import annotations

import dataclasses
import json
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.inference import MAP, LaplacePosterior, Point, infer
from novacula.likelihoods import Categorical, Gibbs, Normal
from novacula.prediction import Choice, choose, evaluate, predict
from novacula.priors import Gaussian
from novacula.target import Target


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs)).double()


def sine(n: int, seed: int) -> tuple[Tensor, Tensor]:
    x = draw(n, 2, seed=seed)
    return x, torch.sin(2 * x[:, :1]) + x[:, 1:] ** 2 / 2 + 0.1 * draw(n, 1, seed=seed + 100)


@cache
def overfitted() -> tuple[Target, Params, Data]:
    """Twenty noisy points and 81 weights: the point estimate is too sure of itself away from them."""
    data = Data(*sine(20, 0))
    target = Target(mlp(2, 20, 1), likelihood=Normal(sigma=0.1), prior=Gaussian(precision=0.1))
    return target, infer(MAP(lr=2e-2), target, data, epochs=600, batch_size=20).mode, data


def classes(n: int, seed: int) -> Data:
    x = draw(n, 3, seed=seed)
    return Data(x, (x @ draw(3, 3, seed=9) + 0.3 * draw(n, 3, seed=seed + 50)).argmax(1))


@cache
def well_determined() -> tuple[Target, Params, Data]:
    """Three hundred points and twelve weights: averaging changes nothing."""
    data = classes(300, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        target = Target(nn.Linear(3, 3).double())
    return target, infer(MAP(lr=5e-2), target, data, epochs=60, batch_size=100).mode, data


@pytest.fixture(scope="module")
def chosen() -> tuple[Target, Params, Data, Choice]:
    target, params, data = overfitted()
    return target, params, data, choose(target, params, data, seed=1)


def test_averaging_is_chosen_where_it_helps_and_helps_on_new_data(chosen: tuple[Target, Params, Data, Choice]) -> None:
    target, params, _, choice = chosen
    assert choice.temperature > 0
    assert isinstance(choice.posterior, LaplacePosterior)
    assert choice.posterior.temperature == choice.temperature
    assert choice.posterior.structure == choice.structure
    x, y = sine(500, 77)
    mine = evaluate(predict(choice.posterior, x), y)["nll"]
    point = evaluate(predict(Point(params, target), x), y)["nll"]
    assert mine < point - 0.1


def test_the_choice_is_the_best_score_that_beats_its_error(chosen: tuple[Target, Params, Data, Choice]) -> None:
    choice = chosen[3]
    point, *others = choice.scores
    assert (point.structure, point.temperature, point.gain, point.stderr) == ("point", 0.0, 0.0, 0.0)
    assert {s.structure for s in others} == {"exact", "last_layer", "kron"}
    (mine,) = [s for s in others if (s.structure, s.temperature) == (choice.structure, choice.temperature)]
    assert mine.gain > 2 * mine.stderr > 0
    assert mine.gain == max(s.gain for s in others if s.better)
    assert mine.nll == pytest.approx(point.nll - mine.gain)
    assert f"{mine.gain:.4f}" in choice.reason
    assert "20 training examples, each predicted without itself" in choice.reason
    assert json.loads(json.dumps(choice.to_dict()))["structure"] == choice.structure


def test_the_same_seed_gives_the_same_choice(chosen: tuple[Target, Params, Data, Choice]) -> None:
    target, params, data, choice = chosen
    again = choose(target, params, data, seed=1)
    assert again.scores == choice.scores


def test_the_point_estimate_stays_where_averaging_gains_nothing() -> None:
    target, params, data = well_determined()
    choice = choose(target, params, data)
    assert (choice.structure, choice.temperature) == ("point", 0.0)
    assert isinstance(choice.posterior, Point)
    assert choice.posterior.target is target
    assert not any(s.better for s in choice.scores)
    assert choice.reason.startswith("the point estimate")


def test_the_point_estimate_stays_where_leave_one_out_is_not_to_be_believed() -> None:
    data = Data(draw(12, 40), torch.arange(12) % 3)
    target = Target(nn.Linear(40, 3).double(), prior=Gaussian(precision=1e-3, per="all"))
    params = infer(MAP(lr=0.1, schedule="constant"), target, data, epochs=300, batch_size=12).mode
    choice = choose(target, params, data)
    assert choice.structure == "point"
    assert "too much influence" in choice.reason
    assert len(choice.scores) > 1


def test_a_tie_goes_to_the_point_estimate() -> None:
    # At a temperature of 1e-12 every predictive is the point estimate's, but for rounding.
    target, params, data = well_determined()
    assert choose(target, params, data, temperatures=(1e-12,)).structure == "point"


def test_a_requested_predictive_is_made_and_warned_of_if_it_is_worse() -> None:
    target, params, data = well_determined()
    bad = choose(target, params, data, requested=("kron", 300.0))
    assert (bad.structure, bad.temperature) == ("kron", 300.0)
    (warning,) = bad.warnings
    point, mine = bad.scores
    assert f"{mine.nll:.4f}" in warning
    assert f"{point.nll:.4f}" in warning
    assert mine.nll > point.nll
    target, params, data = overfitted()
    assert choose(target, params, data, requested=("exact", 1.0)).warnings == ()


def test_only_the_structures_and_temperatures_given_are_considered() -> None:
    target, params, data = overfitted()
    choice = choose(target, params, data, structures=("diag",), temperatures=(0.2, 0.0, 0.7))
    assert [(s.structure, s.temperature) for s in choice.scores] == [("point", 0.0), ("diag", 0.2), ("diag", 0.7)]


def test_a_structure_that_is_not_possible_is_left_out_and_named() -> None:
    data = classes(40, 0)
    target = Target(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh()).double())
    choice = choose(target, target.params(), data)
    assert any("'last_layer' was not considered" in w for w in choice.warnings)
    assert {s.structure for s in choice.scores} == {"point", "exact", "kron"}
    with pytest.raises(InputError, match="linear"):
        choose(target, target.params(), data, requested=("last_layer", 1.0))


def test_a_loss_without_a_density_keeps_the_point_estimate() -> None:
    data = Data(draw(30, 2), draw(30, 1, seed=1))
    loss = Gibbs(lambda f, y: (f - y).square().sum(1), name="squares")
    target = Target(mlp(2, 3, 1), likelihood=loss)
    choice = choose(target, target.params(), data)
    assert (choice.structure, choice.scores) == ("point", ())
    assert "gibbs:squares" in choice.reason
    asked = choose(target, target.params(), data, requested=("exact", 0.5))
    assert asked.structure == "exact"
    assert any("not held against" in w for w in asked.warnings)


def test_where_no_exact_matrix_is_affordable_the_training_fit_is_the_judge() -> None:
    target = Target(nn.Sequential(nn.Linear(3, 9_000), nn.Tanh(), nn.Linear(9_000, 3), nn.Tanh()).double())
    data = classes(500, 0)
    choice = choose(target, target.params(), data)
    assert choice.structure == "point"
    assert "affordable" in choice.reason
    asked = choose(target, target.params(), data, requested=("diag", 1.0), examples=50)
    point = float(Categorical().log_prob(target.forward(target.params(), data.x), data.y).mean())
    assert len(asked.scores) == 2
    assert asked.scores[0].nll == pytest.approx(-point, abs=0.3)


@pytest.mark.parametrize(
    "options",
    [
        {"structures": ("full",)},
        {"structures": ()},
        {"temperatures": (0.1, -1.0)},
        {"temperatures": (0.0,)},
        {"requested": ("kron", 0.0)},
    ],
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    target, params, data = well_determined()
    with pytest.raises(InputError):
        choose(target, params, data, **options)  # type: ignore[arg-type]


def test_the_target_of_the_choice_is_the_one_given() -> None:
    target, params, data = overfitted()
    noisier = dataclasses.replace(target, likelihood=Normal(sigma=0.5))
    choice = choose(noisier, params, data)
    assert choice.posterior.target.likelihood is noisier.likelihood
