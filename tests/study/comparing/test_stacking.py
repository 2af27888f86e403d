"""Weights over models against grids, another solver and a planted mixture; the mixture's predictions by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.study.comparing.stacking import averaged, convex_weights


def mean_log(log_probs: torch.Tensor, weights: torch.Tensor) -> float:
    return float(torch.logsumexp(log_probs + weights.log(), 1).mean())


def test_two_models_against_a_grid() -> None:
    rng = torch.Generator().manual_seed(0)
    log_probs = torch.randn(40, 2, generator=rng, dtype=torch.float64) + torch.tensor([0.3, 0.0])
    weights, short = convex_weights(log_probs)
    grid = [mean_log(log_probs, torch.tensor([w, 1 - w], dtype=torch.float64)) for w in np.linspace(1e-6, 1, 2000)]
    assert short <= 1e-9
    assert mean_log(log_probs, weights) >= max(grid) - 1e-9
    assert mean_log(log_probs, weights) <= max(grid) + 1e-6  # of a grid so fine


@pytest.mark.parametrize("seed", range(4))
def test_many_models_against_another_solver(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    log_probs = 3 * torch.randn(200, 7, generator=rng, dtype=torch.float64)
    log_probs[:, 3] = log_probs[:, 2]  # a model twice
    log_probs[:, 6] -= 20  # one that is no use
    weights, short = convex_weights(log_probs)
    p = log_probs.exp().numpy()
    other = minimize(
        lambda w: -np.log(p @ w).mean(),
        np.full(7, 1 / 7),
        jac=lambda w: -(p / (p @ w)[:, None]).mean(0),
        bounds=[(0, 1)] * 7,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(7)},
        method="SLSQP",
        options={"ftol": 1e-13},
    )
    assert short <= 1e-9
    assert mean_log(log_probs, weights) == pytest.approx(-other.fun, abs=1e-7)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    assert weights[6] == 0


def test_a_planted_mixture() -> None:
    # Labels of .3 N(0, 1) + .7 N(4, 1): the weights' error is about √(.3 · .7 / n) = .0032; five of these.
    n, rng = 20_000, torch.Generator().manual_seed(1)
    y = torch.randn(n, generator=rng, dtype=torch.float64) + 4 * (torch.rand(n, generator=rng) < 0.7)
    means = torch.tensor([0.0, 4.0, 9.0], dtype=torch.float64)
    weights, _ = convex_weights(torch.distributions.Normal(means, 1.0).log_prob(y.unsqueeze(1)))
    assert weights[0] == pytest.approx(0.3, abs=0.016)
    assert weights[2] == pytest.approx(0, abs=0.016)


def test_densities_that_are_nought() -> None:
    a = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0], [0.0, -math.inf]])
    weights, short = convex_weights(a)
    assert torch.allclose(weights, torch.tensor([2 / 3, 1 / 3], dtype=torch.float64), atol=1e-6)
    assert short <= 1e-9
    assert convex_weights(torch.zeros(3, 1))[0].tolist() == [1.0]
    for wrong in ([[math.nan, 0.0]], [[-math.inf, -math.inf]], [[math.inf, 0.0]]):
        with pytest.raises(InputError, match="log-densities"):
            convex_weights(torch.tensor(wrong))


@pytest.fixture(scope="module")
def data() -> nv.Data:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(150, 3, generator=rng)
    return nv.Data(x, (3 * x[:, 0] + (x[:, 1] > 0) + 0.3 * torch.randn(150, generator=rng)).unsqueeze(1))


def test_a_stack_by_hand(data: nv.Data) -> None:
    nets = {"linear": nv.networks.make("linear", (3,), 1), "mlp": nv.networks.make("mlp", (3,), 1, width=8, depth=1)}
    fits = {name: nv.cross_fit(net, data, steps=150, seed=2) for name, net in nets.items()}
    found = nv.study.stack(fits)
    log_probs = -torch.stack([f.losses for f in fits.values()], 1)
    assert torch.tensor(list(found.weights.values())).double().equal(convex_weights(log_probs)[0])
    gained = torch.empty(150, dtype=torch.float64)
    for k in range(3):
        out = fits["mlp"].folds == k
        weights = convex_weights(log_probs[~out])[0]
        gained[out] = (
            torch.logsumexp(log_probs[out] + weights.log(), 1) - log_probs[out, log_probs[~out].sum(0).argmax()]
        )
    assert found.gain.value == pytest.approx(float(gained.mean()))
    x, y = data.x[:5], data.y[:5]
    mixed, by_hand, mean, square = found.predict(x), torch.zeros(5), torch.zeros(5, 1), torch.zeros(5, 1)
    for name, fit in fits.items():
        for each in fit.networks:
            f = torch.func.functional_call(nets[name], {k: w[0] for k, w in each.items()}, (x,))
            sd = float(fit.target.calibrated(fit.temperature).likelihood.log_noise(1).exp())
            share = found.weights[name] / 3
            by_hand += share * torch.distributions.Normal(f, sd).log_prob(y).exp()[:, 0].detach()
            mean += share * f.detach()
            square += share * (f.detach() ** 2 + sd**2)
    assert torch.allclose(mixed.log_prob(y).float(), by_hand.log(), atol=1e-4)
    assert torch.allclose(mixed.mean().float(), mean, atol=1e-5)
    assert torch.allclose(mixed.variance().float(), square - mean**2, atol=1e-4)
    # One network of each: nothing but examples is held out, and these are dealt in three.
    wide = nv.networks.make("mlp", (3,), 1, width=9, depth=1)
    alike = {"mlp": fits["mlp"].first(1), "wide": nv.cross_fit(wide, data, steps=150, seed=2, only=1)}
    single, gained = nv.study.stack(alike), []
    log_probs = -torch.stack([f.losses for f in single.fits.values()], 1)
    for n, row in enumerate(log_probs):
        others = log_probs[torch.arange(len(log_probs)) % 3 != n % 3]
        mixture = convex_weights(others)[0] @ row.exp()
        gained.append(float(mixture.log() - row[others.mean(0).argmax()]))
    assert single.gain.value == pytest.approx(sum(gained) / len(gained))
    assert single.gain.stderr > 0
    with pytest.raises(InputError, match="folds"):
        nv.study.stack({"a": fits["mlp"], "b": nv.cross_fit(nets["mlp"], data, steps=2, seed=3)})
    with pytest.raises(InputError, match="at least one"):
        nv.study.stack({})


def test_averaging_by_the_evidence() -> None:
    def estimate(value: float, estimator: str = "Prequential(4)") -> Estimate:
        return Estimate(torch.tensor(value), 0.0, "estimate", estimator, 10, "data", "categorical", 1.0)

    found = averaged({"a": estimate(-1000.0), "b": estimate(-1001.0)})
    assert found["a"] == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-4)
    with pytest.raises(InputError, match="same estimator"):
        averaged({"a": estimate(-3.0), "b": estimate(-1.0, "Laplace")})
