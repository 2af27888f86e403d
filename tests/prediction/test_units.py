"""A predictive in the targets' own units answers as the distribution of ``y · s + m`` does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from novacula.data.standardise import Standardiser
from novacula.likelihoods import Categorical, HeteroscedasticNormal, Normal
from novacula.prediction import Predictive, evaluate
from novacula.prediction.conformal import calibrate

N = 4
EMPTY = torch.empty(0, dtype=torch.float64)
# Two targets of very different size, the second far from zero for its spread.
SCALE = Standardiser(EMPTY, EMPTY, torch.tensor([-3.0, 2e6]).double(), torch.tensor([0.02, 5.0]).double())
M, S = SCALE.y_mean.numpy(), SCALE.y_sd.numpy()


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture() -> Predictive:
    return Predictive(Normal(sigma=0.7), numbers(3, N, 2), "mixture")


def spread() -> Predictive:
    return Predictive(HeteroscedasticNormal(), numbers(2, N, 4), "mixture")


def analytic() -> Predictive:
    root = numbers(N, 2, 2, seed=1)
    return Predictive(Normal(sigma=0.7), numbers(1, N, 2), "analytic", covariance=root @ root.mT)


KINDS = pytest.mark.parametrize("make", [mixture, spread, analytic])


def gaussians(p: Predictive) -> tuple[np.ndarray, np.ndarray]:
    mu, sd = p.gaussians()  # in standard units: the way to the others is written out here
    return mu.numpy() * S + M, sd.numpy() * S


@KINDS
def test_moments_and_quantiles_are_those_of_the_moved_mixture(make) -> None:
    p, q = make(), make().in_units(SCALE)
    mu, sd = gaussians(p)
    np.testing.assert_allclose(q.mean().numpy(), mu.mean(0), rtol=1e-12)
    np.testing.assert_allclose(q.variance().numpy(), (sd**2).mean(0) + mu.var(0), rtol=1e-7)
    low, high = q.interval(0.8)
    for end, level in ((low, 0.1), (high, 0.9)):
        below = stats.norm.cdf(end.numpy(), mu, sd).mean(0)
        np.testing.assert_allclose(below, level, atol=1e-7)


@pytest.mark.parametrize("make", [mixture, spread])
def test_the_density_of_a_mixture_is_one_in_the_targets_units(make) -> None:
    q, (mu, sd) = make().in_units(SCALE), gaussians(make())
    y = torch.as_tensor(mu[0] + sd[0] * numbers(N, 2, seed=3).numpy())
    wanted = stats.norm.pdf(y.numpy(), mu, sd).prod(2).mean(0)
    np.testing.assert_allclose(q.log_prob(y).numpy(), np.log(wanted), rtol=1e-9)


def test_the_density_of_an_analytic_predictive_is_that_of_the_moved_gaussian() -> None:
    p, q = analytic(), analytic().in_units(SCALE)
    y = torch.as_tensor(p.outputs[0].numpy() * S + M + S * numbers(N, 2, seed=3).numpy())
    assert p.covariance is not None
    for i in range(N):
        cov = (p.covariance[i].numpy() + 0.49 * np.eye(2)) * np.outer(S, S)
        wanted = stats.multivariate_normal.logpdf(y[i].numpy(), p.outputs[0, i].numpy() * S + M, cov)
        assert float(q.log_prob(y)[i]) == pytest.approx(wanted, rel=1e-8)
        entropy = stats.multivariate_normal.entropy(None, cov)
        assert float(q.entropy()[0][i]) == pytest.approx(entropy, rel=1e-9)
    # What is due to the weights has no units.
    torch.testing.assert_close(q.entropy()[2], p.entropy()[2])


@KINDS
def test_the_expected_loss_has_the_densitys_units(make) -> None:
    p, q = make(), make().in_units(SCALE)
    z = numbers(N, 2, seed=4)
    wanted = p.expected_loss(z) + math.log(S.prod())
    torch.testing.assert_close(q.expected_loss(SCALE.restore_y(z)), wanted, rtol=1e-6, atol=1e-6)


def test_one_target_scores_as_its_quadrature_does() -> None:
    scale = Standardiser(EMPTY, EMPTY, torch.tensor([40.0]).double(), torch.tensor([3.0]).double())
    p = Predictive(Normal(sigma=0.5), numbers(2, 1, 1), "mixture").in_units(scale)
    y = torch.tensor([[41.0]], dtype=torch.float64)
    mu, sd = (t.numpy()[:, 0, 0] for t in p.gaussians())

    def cdf(t: float) -> float:
        return float(stats.norm.cdf(t, mu, sd).mean())

    wanted = integrate.quad(lambda t: (cdf(t) - (t >= 41)) ** 2, 0, 80, points=[41], limit=400)[0]
    assert evaluate(p, y)["crps"] == pytest.approx(wanted, rel=1e-6)
    found = p.decide("absolute")
    cost = integrate.quad(lambda t: abs(t - float(found.value)) * stats.norm.pdf(t, mu, sd).mean(), 0, 80, limit=400)[0]
    assert float(found.expected) == pytest.approx(cost, rel=1e-6)
    squared = p.decide("squared")
    assert float(squared.expected) == pytest.approx(float(p.variance()), rel=1e-9)


@KINDS
def test_draws_and_decisions_by_function_move_along(make) -> None:
    p, q = make(), make().in_units(SCALE)
    y = p.sample(5, torch.Generator().manual_seed(2))
    torch.testing.assert_close(q.sample(5, torch.Generator().manual_seed(2)), SCALE.restore_y(y), rtol=1e-9, atol=0)

    def standard(action: float, labels: torch.Tensor) -> torch.Tensor:
        return (labels - action).abs().sum(-1)

    def own(action: float, labels: torch.Tensor) -> torch.Tensor:
        return standard(action, SCALE.targets(labels))

    actions = [-1.0, 0.2, 1.0]
    here, there = p.decide(standard, actions=actions, draws=64), q.decide(own, actions=actions, draws=64)
    torch.testing.assert_close(there.expected, here.expected, rtol=1e-6, atol=1e-8)


def test_conformal_intervals_move_along() -> None:
    p, y = Predictive(Normal(sigma=0.7), numbers(3, 40, 2), "mixture"), numbers(40, 2, seed=5)
    here = calibrate(p, y, alpha=0.2)(mixture())
    there = calibrate(p.in_units(SCALE), SCALE.restore_y(y), alpha=0.2)(mixture().in_units(SCALE))
    torch.testing.assert_close(there.low, SCALE.restore_y(here.low.double()), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(there.high, SCALE.restore_y(here.high.double()), rtol=1e-9, atol=1e-9)


def test_single_precision_keeps_the_spread_of_targets_far_from_zero() -> None:
    far = Standardiser(EMPTY, EMPTY, torch.tensor([1e9]).double(), torch.tensor([1.0]).double())
    p = Predictive(Normal(sigma=0.7), torch.zeros(1, 1, 1), "plug-in").in_units(far)
    low, high = p.interval(0.9)
    assert float(high - low) == pytest.approx(2 * 0.7 * stats.norm.ppf(0.95), rel=1e-5)


def test_what_has_no_units_stays_as_it_is() -> None:
    p = Predictive(Categorical(), numbers(1, N, 3), "plug-in")
    assert p.in_units(None) is p
    assert p.in_units(Standardiser(EMPTY, EMPTY, EMPTY, EMPTY)) is p
