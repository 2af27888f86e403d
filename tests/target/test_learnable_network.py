"""Hyperparameters that the network holds: the evidence's gradient reaches them, and learning moves them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.evidence import Laplace, LinearGaussian
from novacula.inference import MAP
from novacula.likelihoods import Normal
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.runs import load_posterior
from novacula.study import default_method, learn
from novacula.target import Target
from novacula.target.batch import Batch
from novacula.target.many import loss_and_gradient

SIGMA, PRECISION = 0.1, 0.7


class Bumps(nn.Module):
    """A linear model of bumps around fixed centres, all of one width; the width is the hyperparameter."""

    learnable = ("log_width",)

    def __init__(self, log_width: float = 0.0) -> None:
        super().__init__()
        self.centres = torch.linspace(-3, 3, 12, dtype=torch.float64)
        self.log_width = torch.tensor(log_width, dtype=torch.float64)
        self.out = nn.Linear(12, 1, bias=False, dtype=torch.float64)

    def features(self, x: Tensor) -> Tensor:
        return (-0.5 * ((x - self.centres) / self.log_width.exp()).square()).exp()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x))


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Bumps()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def bumps(log_width: float = 0.0) -> Bumps:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Bumps(log_width)


def data() -> Data:
    rng = torch.Generator().manual_seed(1)
    x = 6 * torch.rand(50, 1, generator=rng, dtype=torch.float64) - 3
    y = (2 * x).sin() + SIGMA * torch.randn(50, 1, generator=rng, dtype=torch.float64)
    return Data(x, y, dtype=torch.float64)


def target(network: nn.Module | None = None) -> Target:
    prior = Gaussian(precision=PRECISION)
    return Target(network or bumps(), likelihood=Normal(sigma=SIGMA), prior=prior)


def closed_form(log_width: float, found: Data) -> float:
    """``log N(y; 0, σ² I + Φ Φᵀ/λ)``, as a Gaussian process has it."""
    phi = bumps(log_width).features(found.x)
    covariance = SIGMA**2 * torch.eye(found.n, dtype=torch.float64) + phi @ phi.T / PRECISION
    zero = torch.zeros(found.n, dtype=torch.float64)
    return float(torch.distributions.MultivariateNormal(zero, covariance).log_prob(found.y[:, 0]))


def test_the_network_is_the_fourth_component() -> None:
    own = bumps(0.5)
    first = target(own)
    assert sorted(first.learnable()) == ["likelihood.log_sigma", "network.log_width", "prior.log_precision"]
    value = torch.tensor(-0.4, dtype=torch.float64)
    other = first.with_learnable({"network.log_width": value})
    assert other.learnable()["network.log_width"] is value
    x, w = data().x, first.params()
    torch.testing.assert_close(other.forward(w, x), target(bumps(-0.4)).forward(w, x), rtol=0, atol=0)
    assert float(first.learnable()["network.log_width"]) == float(own.log_width) == 0.5
    torch.testing.assert_close(first.forward(w, x), own(x), rtol=0, atol=0)
    assert other.params().keys() == w.keys()


def test_modules_inside_have_their_path_as_name() -> None:
    first = target(Head())
    value = torch.tensor(1.0, dtype=torch.float64)
    other = first.with_learnable({"network.body.log_width": value})
    assert float(other.learnable()["network.body.log_width"]) == 1.0
    assert float(first.learnable()["network.body.log_width"]) == 0.0


def test_a_network_that_names_nothing_is_as_it_was() -> None:
    first = target(nn.Linear(1, 1, dtype=torch.float64))
    other = first.with_learnable({"likelihood.log_sigma": torch.zeros((), dtype=torch.float64)})
    assert other.forward is first.forward
    assert not first.forward.learnable()


@pytest.mark.parametrize("estimator", [LinearGaussian(), Laplace(structure="exact")])
def test_the_gradient_is_that_of_the_closed_form(estimator: Any) -> None:
    found, step = data(), 1e-5
    for log_width in (-0.7, 0.1):
        leaf = torch.tensor(log_width, dtype=torch.float64, requires_grad=True)
        current, prepared = target().prepare(found)
        current = current.with_learnable({"network.log_width": leaf})
        weights = mode(log_width, found)
        estimate = estimator(current, prepared, weights, seed=0)
        assert float(estimate) == pytest.approx(closed_form(log_width, found), abs=1e-6)
        if isinstance(estimator, LinearGaussian):  # at fixed weights, the gradient of Laplace's has another term
            (slope,) = torch.autograd.grad(estimate.value, leaf)
            ends = [closed_form(log_width + s, found) for s in (-step, step)]
            assert float(slope) == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-5)


def mode(log_width: float, found: Data) -> Params:
    phi = bumps(log_width).features(found.x)
    a = phi.T @ phi / SIGMA**2 + PRECISION * torch.eye(12, dtype=torch.float64)
    return {"out.weight": torch.linalg.solve(a, phi.T @ found.y / SIGMA**2).T}


def test_learning_finds_the_width_of_the_largest_evidence(tmp_path: Path) -> None:
    """Against a grid of the closed form, 0.02 apart; a start below -1.1 would end at a lower maximum, near -1.3."""
    found, own = data(), bumps(0.5)
    method = dataclasses.replace(
        default_method(found.n), estimator=LinearGaussian(), optimiser=MAP(lr=0.02), learn=("network",)
    )
    fit = learn(target(own), found, epochs=300, batch_size=50, method=method, folds=0, structures=("last_layer",))
    grid = [-1.5 + 0.02 * i for i in range(150)]
    best = max(grid, key=lambda log_width: closed_form(log_width, found))
    learned = float(fit.target.learnable()["network.log_width"])
    assert grid[0] < best < grid[-1]
    assert abs(best - 0.5) > 0.3
    assert learned == pytest.approx(best, abs=0.05)
    assert float(own.log_width) == 0.5
    assert fit.history[-1]["network.log_width"] == pytest.approx(learned, abs=1e-6)
    assert math.isclose(float(fit.evidence), closed_form(learned, found), rel_tol=1e-6)

    fit.save(tmp_path / "run")
    read = load_posterior(tmp_path / "run", target=target(bumps(0.5)), data=fit.data)
    x = found.x[:5]
    torch.testing.assert_close(predict(read, x).mean(), predict(fit.posterior, x).mean(), rtol=0, atol=1e-12)


def test_a_long_run_does_not_replay_an_old_width() -> None:
    found, batches = data(), []
    for value in (0.0, 0.8):
        current = target().with_learnable({"network.log_width": torch.tensor(value, dtype=torch.float64)})
        params = {k: w.unsqueeze(0) for k, w in current.params().items()}
        for steps in (1, 5_000):
            batch = Batch(found.x, found.y, total=found.n, step=0, steps=steps)
            batches.append(loss_and_gradient(current, params, batch, torch.Generator().manual_seed(0))[1]["out.weight"])
    torch.testing.assert_close(batches[0], batches[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(batches[2], batches[3], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(batches[0], batches[2])


@pytest.mark.parametrize(
    "value", [nn.Parameter(torch.ones((), dtype=torch.float64)), torch.ones((), dtype=torch.int64), 1.0]
)
def test_what_is_no_plain_tensor_of_floats_is_refused(value: Any) -> None:
    network = bumps()
    del network.log_width
    network.log_width = value
    with pytest.raises(InputError, match="a plain tensor of floats"):
        Target(network).learnable()
