"""SMC: the evidence against asymmetric closed forms and quadrature, its interval's coverage, and the particles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.evidence import SMC as SMCEvidence
from novacula.inference import SMC, Draws, infer
from novacula.inference.particles.smc import _next_beta, _systematic, log_mean
from novacula.likelihoods import Normal
from novacula.priors import FanIn, Gaussian, StudentT
from novacula.target import LogDensity, Target

RNG = generator(0)
X = torch.randn(20, 5, generator=RNG, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0])
Y = (
    X @ torch.randn(5, generator=RNG, dtype=torch.float64)
    + 1
    + 0.5 * torch.randn(20, generator=RNG, dtype=torch.float64)
)
COUNTS = torch.tensor([0.0, 3.0, 1.0, 7.0, 2.0], dtype=torch.float64)


def linear() -> tuple[LogDensity, float]:
    """A linear Gaussian model and its log evidence."""
    eye = torch.eye(20, dtype=torch.float64)
    zero = torch.zeros(20, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(zero, 0.25 * eye + X @ X.T / 2).log_prob(Y)

    def log_likelihood(w: Params) -> Tensor:
        return torch.distributions.Normal(X @ w["w"], 0.5).log_prob(Y).sum()

    return LogDensity(log_likelihood, {"w": zero[:5]}, prior=Gaussian(2.0)), float(exact)


def poisson(w: Tensor) -> Tensor:
    """Counts with the log-rate w, which is skewed: log-likelihood, over the last axis of w."""
    return (COUNTS * w[..., None] - w[..., None].exp() - torch.lgamma(COUNTS + 1)).sum(-1)


def skewed(prior: Gaussian | StudentT) -> tuple[LogDensity, float]:
    """One log-rate, and the log evidence by quadrature on a fine grid."""
    grid = torch.linspace(-60, 6, 660_001, dtype=torch.float64)
    bound = prior.bind({"w": torch.zeros((), dtype=torch.float64)})
    logs = torch.stack([bound.log_prob({"w": g}) for g in grid[::1000]])  # checks the vectorised form below
    if isinstance(prior, Gaussian):
        each = torch.distributions.Normal(0.0, 0.5).log_prob(grid)
    else:
        each = torch.distributions.StudentT(3.0, 0.0, 0.7).log_prob(grid)
    assert torch.allclose(logs, each[::1000].double(), atol=1e-5)
    exact = (each + poisson(grid)).logsumexp(0) + math.log(1e-4)
    density = LogDensity(lambda w: poisson(w["w"]), {"w": torch.zeros((), dtype=torch.float64)}, prior=prior)
    return density, float(exact)


@pytest.mark.parametrize("move", ["hmc", "elliptical"])
def test_the_evidence_of_a_linear_model_and_its_posterior(move: str) -> None:
    """Within 4 of its own standard errors, and particles' means within 5 of theirs: false-alarm rate below 1e-3."""
    density, exact = linear()
    post = infer(SMC(particles=256, move=move, moves=10), density, steps=100, chains=4, seed=1)  # type: ignore[arg-type]
    assert isinstance(post, Draws)
    value, stderr = log_mean(post.stats["log_evidence"])
    assert abs(value - exact) < 4 * stderr
    assert stderr < 0.5
    precision = X.T @ X / 0.25 + 2 * torch.eye(5, dtype=torch.float64)
    mean, sd = torch.linalg.solve(precision, X.T @ Y / 0.25), torch.linalg.inv(precision).diag().sqrt()
    draws = post.chains["w"].flatten(0, 1)
    assert float(((draws.mean(0) - mean) / sd).abs().max()) < 0.3
    assert torch.allclose(draws.std(0), sd, rtol=0.2)


@pytest.mark.parametrize("prior", [Gaussian(4.0), StudentT(df=3.0, scale=0.7)])
def test_the_evidence_of_a_skewed_model_is_that_of_quadrature(prior: Gaussian | StudentT) -> None:
    """A sign error, or a symmetric shortcut, would show: the likelihood is skewed. Within 4 standard errors."""
    density, exact = skewed(prior)
    post = infer(SMC(particles=512), density, steps=50, chains=8, seed=2)
    assert isinstance(post, Draws)
    value, stderr = log_mean(post.stats["log_evidence"])
    assert abs(value - exact) < 4 * stderr
    assert stderr < 0.1


def test_the_stated_interval_covers() -> None:
    """95 % intervals of 100 runs: 88 or fewer of 100 cover with a probability of .4 %."""
    density, exact = skewed(Gaussian(4.0))
    covered = 0
    for seed in range(100):
        method = SMC(particles=64, move="elliptical", moves=3)
        post = infer(method, density, steps=50, chains=4, seed=seed)
        assert isinstance(post, Draws)
        value, stderr = log_mean(post.stats["log_evidence"])
        covered += abs(value - exact) < 1.96 * stderr
    assert covered > 88


@pytest.mark.parametrize("spread", [0.2, 0.7, 0.9])
def test_log_mean_is_that_of_the_estimates_with_an_interval_of_lognormal_ones(spread: float) -> None:
    """Of intervals of 4 log-normal numbers 95.1, 93.9 and 93.2 % cover (of 40,000); of 2,000 to 3.5 sd, 1e-3 in all."""
    logs = spread * torch.randn(2_000, 4, generator=generator(3), dtype=torch.float64)
    truth = spread**2 / 2
    inside = [abs(value - truth) < 1.96 * stderr for value, stderr in map(log_mean, logs)]
    assert {0.2: 0.934, 0.7: 0.920, 0.9: 0.912}[spread] < np.mean(inside) < 0.97


def test_log_mean_by_hand() -> None:
    found = log_mean(torch.tensor([math.log(1.0), math.log(3.0)], dtype=torch.float64))
    assert found[0] == pytest.approx(math.log(2.0))
    s2 = math.log(3.0) ** 2 / 2  # the variance of two numbers is half the square of their distance
    assert found[1] == pytest.approx(math.sqrt(s2 / 2 + s2**2 / 2) * 12.7062 / 1.959964, rel=1e-4)
    assert math.isnan(log_mean(torch.zeros(1))[1])
    # One of two is zero: numbers 0 and 2 about their mean of 1 have the variance 2.
    value, stderr = log_mean(torch.tensor([-math.inf, math.log(2.0)], dtype=torch.float64))
    assert value == pytest.approx(0.0)
    assert stderr == pytest.approx(math.sqrt(math.log(3) / 2 + math.log(3) ** 2 / 2) * 12.7062 / 1.959964, rel=1e-4)


def test_each_temperature_leaves_the_effective_sample_size_asked_for() -> None:
    logs = 30 * torch.randn(3, 100, generator=generator(4), dtype=torch.float64)
    beta = torch.tensor([0.0, 0.3, 0.999], dtype=torch.float64)
    found = _next_beta(logs, beta, 0.5)
    weights = ((found - beta)[:, None] * logs).softmax(1)
    ess = 1 / weights.square().sum(1) / 100
    assert torch.allclose(ess[:2], torch.full((2,), 0.5, dtype=torch.float64), atol=1e-6)
    assert float(found[2]) == 1.0
    assert float(ess[2]) > 0.5


def test_resampling_is_unbiased_and_nearly_even() -> None:
    weights = torch.rand(2, 7, generator=generator(5), dtype=torch.float64)
    weights /= weights.sum(1, keepdim=True)
    rng = generator(6)
    counts = torch.stack(
        [torch.stack([torch.bincount(row, minlength=7) for row in _systematic(weights, rng)]) for _ in range(4000)]
    )
    assert bool(((counts - 7 * weights).abs() < 1).all())
    assert torch.allclose(counts.double().mean(0), 7 * weights, atol=0.04)  # 5 standard errors


def networks() -> tuple[Target, Data]:
    x = torch.linspace(-1, 1, 10, dtype=torch.float64).unsqueeze(1)
    y = 0.7 * x - 0.2 + 0.3 * torch.randn(10, 1, generator=generator(7), dtype=torch.float64)
    return Target(nn.Linear(1, 1).double(), likelihood=Normal(sigma=0.3), prior=FanIn()), Data(x, y)


def test_the_estimator_agrees_with_the_linear_gaussian_evidence_of_a_network() -> None:
    target, data = networks()
    phi = torch.cat([data.x, torch.ones_like(data.x)], 1)
    precision = torch.cat(
        [v.expand(1) for v in target.prior.precision({k: w.flatten() for k, w in target.params().items()}).values()]
    )
    covariance = 0.09 * torch.eye(10, dtype=torch.float64) + phi @ torch.diag(1 / precision) @ phi.T
    zero = torch.zeros(10, dtype=torch.float64)
    exact = float(torch.distributions.MultivariateNormal(zero, covariance).log_prob(data.y[:, 0]))
    found = SMCEvidence(particles=256, populations=6)(target, data, None, seed=3)
    assert found.kind == "estimate"
    assert abs(float(found) - exact) < 4 * found.stderr
    assert found.stderr < 0.2
    assert found.fingerprint == data.fingerprint


def test_runs_end_early_resume_and_say_when_they_did_not_end(tmp_path: Path) -> None:
    density, _ = linear()
    path = tmp_path / "smc.safetensors"
    seen: list[float] = []
    method = SMC(particles=32)
    whole = infer(
        method, density, steps=300, chains=2, seed=0, checkpoint=path, progress=lambda *a: seen.append(a[2]["beta"])
    )
    assert len(seen) < 100
    assert seen[-1] == 1.0
    resumed = infer(method, density, steps=300, chains=2, seed=0, checkpoint=path, resume=True)
    assert isinstance(whole, Draws)
    assert isinstance(resumed, Draws)
    assert torch.equal(whole.flat, resumed.flat)
    short = infer(SMC(particles=32), density, steps=2, chains=2, seed=0)
    assert any("of the likelihood entered" in text for text in short.warnings)
    single = infer(SMC(particles=32), density, steps=300, seed=0)
    assert any("one population" in text for text in single.warnings)


def test_what_smc_cannot_do_is_refused() -> None:
    zeros = {"w": torch.zeros(2)}
    with pytest.raises(InputError, match="a prior to start from"):
        infer(SMC(), lambda w: -w["w"].square().sum(), init=zeros, steps=5)
    with pytest.raises(InputError, match="Gaussian prior for elliptical"):
        infer(SMC(move="elliptical"), LogDensity(lambda w: -w["w"].sum(), zeros, prior=StudentT()), steps=5)
    target, data = networks()
    with pytest.raises(InputError, match="temperature=1 for SMC"):
        infer(SMC(), Target(target.network, likelihood=Normal(), temperature=0.5), data, steps=5)
    for build in (lambda: SMC(particles=3), lambda: SMC(target_ess=1.0), lambda: SMC(move="gibbs")):  # type: ignore[arg-type]
        with pytest.raises(InputError):
            build()
