"""The steepest direction and its noise against eigenvalues and enumeration; rates against variances of recursions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference import SGHMC, SGLD, infer
from novacula.inference.langevin.step_size import StepSize
from novacula.inference.method import Start
from novacula.likelihoods import Normal
from novacula.priors import Gaussian
from novacula.target import Target
from novacula.target.batch import Batch

N = 60
SIGMA, PRECISION = 0.5, 3.0


def regression(temperature: float = 1.0) -> tuple[Target, Data, Tensor]:
    """A linear model with correlated inputs of unequal size, and the Hessian of its mean tempered potential."""
    rng = generator(5)
    x = torch.randn(N, 3, generator=rng, dtype=torch.float64) * torch.tensor([2.0, 1.0, 0.3])
    x[:, 1] += 0.7 * x[:, 0]
    y = x[:, :1] - 0.5 * x[:, 1:2] + SIGMA * torch.randn(N, 1, generator=rng, dtype=torch.float64)
    net = nn.Linear(3, 1, bias=False).double()
    target = Target(net, likelihood=Normal(sigma=SIGMA), prior=Gaussian(PRECISION), temperature=temperature)
    hessian = (x.T @ x / SIGMA**2 + PRECISION * torch.eye(3, dtype=torch.float64)) / (N * temperature)
    return target, Data(x, y), hessian


def weights(chains: int) -> Params:
    return {"weight": torch.randn(chains, 1, 3, generator=generator(2), dtype=torch.float64)}


def test_power_iteration_finds_the_largest_eigenvalue() -> None:
    """The step sees rows without their order, and half of them at first: so twice the same rows are given here."""
    target, data, hessian = regression(temperature=0.4)
    batch = Batch(torch.cat([data.x] * 2), torch.cat([data.y] * 2), N, 0, 1)
    params, rng = weights(4), generator(0)
    known = StepSize.unknown(params, rng)
    for _ in range(60):
        known = known.look(target, params, batch, rng)
    values, vectors = torch.linalg.eigh(hessian)
    # The running mean still holds the first of its looks.
    assert torch.allclose(known.curvature, values[-1].expand(4), rtol=1e-3)
    along = (known.direction["weight"][:, 0] @ vectors[:, -1]).abs()
    assert torch.allclose(along, torch.ones(4, dtype=torch.float64), atol=1e-6)
    assert torch.equal(known.noise, torch.zeros(4, dtype=torch.float64))  # all rows at once have none


def test_a_preconditioner_is_part_of_the_curvature() -> None:
    target, data, hessian = regression()
    batch = Batch(torch.cat([data.x] * 2), torch.cat([data.y] * 2), N, 0, 1)
    params, rng = weights(2), generator(0)
    diagonal = torch.tensor([0.1, 2.0, 5.0], dtype=torch.float64)
    known = StepSize.unknown(params, rng)
    for _ in range(80):
        known = known.look(target, params, batch, rng, {"weight": diagonal.expand(2, 1, 3)})
    whitened = diagonal.sqrt()[:, None] * hessian * diagonal.sqrt()
    assert torch.allclose(known.curvature, torch.linalg.eigvalsh(whitened)[-1].expand(2), rtol=1e-3)


def test_noise_is_that_of_minibatches() -> None:
    """Against the variance over all examples. 4,000 squares of nearly normal numbers: a relative error of 2.3 %."""
    target, data, hessian = regression()
    size, chains = 10, 4_000
    params = {"weight": weights(1)["weight"].expand(chains, 1, 3).contiguous()}
    v = torch.linalg.eigh(hessian)[1][:, -1]
    residual = data.x @ params["weight"][0].T - data.y
    slopes = (residual * data.x / SIGMA**2) @ v
    expected = slopes.var() / size * (1 - size / N)
    rng, found = generator(3), []
    known = StepSize.unknown({"weight": params["weight"][:1]}, rng)
    known = dataclasses.replace(known, direction={"weight": v.reshape(1, 1, 3)})
    for _ in range(chains):
        rows = torch.randperm(N, generator=rng)[:size]
        batch = Batch(data.x[rows], data.y[rows], N, 0, 1)
        found.append(float(known.look(target, {"weight": params["weight"][:1]}, batch, rng).noise))
    assert sum(found) / chains == pytest.approx(float(expected), rel=0.1)


def test_the_rate_weighs_both() -> None:
    params = weights(2)
    known = dataclasses.replace(
        StepSize.unknown(params, generator(0)),
        curvature=torch.tensor([4.0, 0.0], dtype=torch.float64),
        noise=torch.tensor([0.5, 0.0], dtype=torch.float64),
    )
    assert known.rate(10, 0.8, 2.0).tolist() == pytest.approx([1 / (4 / 0.8 + 10 * 0.5 / 2.0), 1.0])


@pytest.mark.parametrize("method", [SGLD(keep=200, warmup=500), SGHMC(keep=200, warmup=500)])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_plain_density_is_widened_by_a_fifth_at_most(method: SGLD | SGHMC, scale: float) -> None:
    """An asymmetric Gaussian at two scales: ``1/(1 − b)`` with b = .2 where it is narrowest, less elsewhere.

    80 chains of 200 draws, 30 steps apart; 6 % are four standard errors of the narrow direction's variance.
    """
    scales = scale * torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    mean = scale * torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64)

    def density(w: Params) -> Tensor:
        return -0.5 * (((w["a"] - mean) / scales) ** 2).sum()

    post = infer(method, density, init={"a": mean.clone()}, steps=6_500, chains=80, seed=4)
    ratio = post.flat.flatten(0, 1).var(0) / scales**2
    assert float(ratio[0]) == pytest.approx(1 / (1 - 0.2), rel=0.06)
    assert torch.allclose(ratio[1:], torch.ones(2, dtype=torch.float64), rtol=0.15)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("method", [SGLD(keep=100), SGHMC(keep=100)])
def test_minibatches_widen_no_more_than_is_said(method: SGLD | SGHMC, temperature: float) -> None:
    """Linear regression with batches of 20 of 60: up to ``(1 + 1)/(1 − .2)`` along the steepest direction.

    100 chains of 100 draws: a standard error of 2 %. An epoch's batches share no rows, so their noise partly cancels.
    """
    target, data, hessian = regression(temperature)
    post = infer(method, target, data, steps=8_000, chains=100, batch_size=20, seed=1)
    values, vectors = torch.linalg.eigh(N * hessian)
    ratio = (post.flat.flatten(0, 1) @ vectors).var(0) * values
    assert 0.9 < float(ratio[-1]) < 2.6
    assert torch.all(ratio[:-1] > 0.85)
    assert torch.all(ratio[:-1] < 1.2)


@pytest.mark.parametrize("cycles", [0, 2])
@pytest.mark.parametrize("method", [SGLD, SGHMC])
def test_the_way_to_the_draws_is_fast_and_the_draws_rate_steady(method: type[SGLD | SGHMC], cycles: int) -> None:
    """Without noise as a limit in the first step; the same rate from the first draw on, or within a cycle."""
    target, data, _ = regression()
    sampler = method(cycles=cycles, keep=10)
    start = Start(weights(3), steps=100)
    state = sampler.init(target, data, generator(0), start)
    rates = []
    for step in range(100):
        rows = torch.randperm(N, generator=generator(step))[:10]
        batch = Batch(data.x[rows], data.y[rows], N, step, 100)
        state, info = sampler.step(target, state, batch, generator(step, "step"))
        rates.append(info.metrics["lr"])
    if cycles:
        assert rates[24] > 1.5 * rates[25]  # exploration ends
        assert len(set(rates[25:50])) == len(set(rates[75:])) == 1
    else:
        assert rates[0] > 1.5 * rates[30]
        assert len(set(rates[30:])) == 1
