"""SWAG against naive moments of its own trajectory, and the Gaussian posteriors against their dense covariances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import flatten, stack, unflatten, unstack
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference.infer import infer
from novacula.inference.loop import run
from novacula.inference.method import Start
from novacula.inference.optimising.ensemble import Ensemble
from novacula.inference.optimising.map import MAP
from novacula.inference.optimising.swag import SWAG, SWAGState
from novacula.inference.starts import starts
from novacula.posteriors.gaussians import DiagonalGaussian, LowRankGaussian
from novacula.posteriors.mixture import Mixture
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.target import LogDensity, Target
from novacula.target.batch import Batch


def problem(n: int = 20) -> tuple[Target, Data]:
    x = torch.randn(n, 3, generator=generator(1), dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return Target(net, prior=Gaussian(2.0)), Data(x, (x[:, 0] * x[:, 1] > 0).long())


def walk(method: SWAG, steps: int, members: int = 1) -> tuple[Target, SWAGState, Tensor]:
    """Take the steps one by one, and note the weights after each, (steps, M, P)."""
    target, data = problem()
    start = Start(starts(target, members, 5), steps)
    state = method.init(target, data, generator(0), start)
    seen = []
    for t in range(steps):
        batch = Batch(data.x[t % 3 :: 3], data.y[t % 3 :: 3], data.n, t, steps)
        state, _ = method.step(target, state, batch, generator(0, t))
        seen.append(flatten(state.params, batch_dims=1))
    return target, state, torch.stack(seen)


def z_of_covariance(draws: Tensor, covariance: Tensor) -> float:
    """The largest standardised error of a sample covariance; its entries' variances are (Σii Σjj + Σij²)/n."""
    centred = draws - draws.mean(0)
    found = centred.T @ centred / (len(draws) - 1)
    d = covariance.diag()
    sd = ((d[:, None] * d + covariance**2) / len(draws)).sqrt()
    return float(((found - covariance) / sd).abs().max())


# ---------------------------------------------------------------------------------------- SWAG


@pytest.mark.parametrize("steps, points, rank", [(40, 5, 5), (40, 5, 3), (41, 4, 2), (30, 100, 6)])
def test_moments_are_those_of_the_recorded_walk(steps: int, points: int, rank: int) -> None:
    method = SWAG(lr=0.05, swa_lr=0.02, start=0.5, points=points, rank=rank, scale=0.7)
    _, state, seen = walk(method, steps, members=2)
    first = steps // 2
    n = min(points, steps - first)
    every = (steps - first) // n
    kept = seen[[first + every * (i + 1) - 1 for i in range(n)]].numpy()
    assert state.moments.count == n
    post = method.posterior(problem()[0], state)
    assert isinstance(post, Mixture)
    for m, part in enumerate(post.components):
        assert isinstance(part, LowRankGaussian)
        mine = kept[:, m]
        mean = mine.sum(0) / n
        assert np.allclose(flatten(part.mode), mean, rtol=1e-12, atol=1e-14)
        variance = (mine**2).sum(0) / n - mean**2
        last = mine[-rank:] - mean
        dense = 0.7 * 0.5 * (np.diag(variance) + last.T @ last / (len(last) - 1))
        assert np.allclose(part.covariance(), dense, rtol=1e-9, atol=1e-13)
        if rank == n:  # all deviations are kept: the second half is the sample covariance
            assert np.allclose(part.covariance() - torch.diag(flatten(part.variance)), 0.35 * np.cov(mine.T))


def test_the_rate_falls_to_a_constant_and_adam_moves_the_weights() -> None:
    target, data = problem()
    method = SWAG(lr=0.05, swa_lr=0.01, start=0.75, points=5, rank=2)
    rates: list[float] = []
    run(method, target, data, steps=20, batch_size=20, progress=lambda *a: rates.append(a[2]["lr"]))
    assert len(rates) == 20
    assert rates[15:] == [0.01] * 5
    assert max(rates) <= 0.05
    assert rates[3] > rates[0] < rates[14] < rates[8]
    # The training phase is that of MAP, with another end of the schedule.
    plain = run(MAP(lr=0.05, schedule="constant", warm=0.0), target, data, steps=1, batch_size=20)
    mine = run(SWAG(lr=0.05, swa_lr=0.05, start=0.0, points=2, rank=2), target, data, steps=2, batch_size=20)
    first = {k: w[0, 0] for k, w in unflatten(mine.state.moments.last[:1], plain.state.params).items()}
    assert all(torch.allclose(first[k], w[0]) for k, w in plain.state.params.items())


def test_members_in_one_go_are_the_members_alone() -> None:
    target, data = problem()
    method = SWAG(lr=0.05, points=3, rank=2)
    first = starts(target, 3, 7)
    options = {"steps": 24, "batch_size": 7, "seed": 4}
    together = method.posterior(target, run(method, target, data, start=first, **options).state)
    assert isinstance(together, Mixture)
    for part, start in zip(together.components, unstack(first), strict=True):
        alone = method.posterior(target, run(method, target, data, start=stack([start]), **options).state)
        assert isinstance(part, LowRankGaussian)
        assert isinstance(alone, LowRankGaussian)
        assert torch.allclose(flatten(part.mode), flatten(alone.mode), rtol=1e-9, atol=1e-12)
        assert torch.allclose(part.covariance(), alone.covariance(), rtol=1e-6, atol=1e-13)


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    target, data = problem()
    method, path = SWAG(points=4, rank=3), tmp_path / "run.safetensors"
    options = {"epochs": 6, "batch_size": 6, "seed": 1, "chains": 2}

    def stop(done: int, total: int, record: dict[str, float]) -> None:
        if done == 5:  # in the midst of the collection
            raise KeyboardInterrupt

    whole = infer(method, target, data, **options)
    with pytest.raises(KeyboardInterrupt):
        infer(method, target, data, **options, checkpoint=path, progress=stop)
    again = infer(method, target, data, **options, checkpoint=path, resume=True)
    a, b = (p.sample(6, generator(3)) for p in (whole, again))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_multiswag_mixes_and_predicts() -> None:
    target, data = problem()
    post = infer(Ensemble(SWAG(lr=0.05, points=4, rank=2), members=3), target, data, epochs=10, batch_size=10)
    assert isinstance(post, Mixture)
    assert len(post.components) == 3
    p = predict(post, data.x, samples=30).mean()
    assert torch.allclose(p.sum(1), torch.ones(20, dtype=torch.float64))
    # Three separate solutions: the draws lie in three clusters.
    draws = flatten(post.sample(9, generator(0)), batch_dims=1)
    within = torch.pdist(draws[:3]).max()
    assert torch.pdist(draws[::3]).min() > 3 * within


def test_a_plain_log_density_is_averaged_too() -> None:
    density = LogDensity(lambda w: -0.5 * (w["a"] - 3).square().sum(), {"a": torch.zeros(2, dtype=torch.float64)})
    post = infer(SWAG(lr=0.1, swa_lr=0.1), density, steps=400)
    assert torch.allclose(post.mode["a"], torch.full((2,), 3.0, dtype=torch.float64), atol=1e-3)


@pytest.mark.parametrize(
    "bad, match",
    [
        ({"lr": 0.0}, "lr as a finite number above zero"),
        ({"swa_lr": float("inf")}, "swa_lr"),
        ({"scale": -1.0}, "scale"),
        ({"start": 1.0}, "share"),
        ({"rank": 1}, "two or more"),
        ({"rank": 30, "points": 20}, "as many points"),
    ],
)
def test_numbers_out_of_range_are_refused(bad: dict[str, float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        SWAG(**bad)  # type: ignore[arg-type]


def test_a_run_too_short_to_collect_is_refused() -> None:
    target, data = problem()
    with pytest.raises(InputError, match="two points"):
        infer(SWAG(), target, data, steps=4)
    state = SWAG().init(target, data, generator(0), Start(starts(target, 1, 0), 40))
    with pytest.raises(InputError, match="run all steps"):
        SWAG().posterior(target, state)


# ---------------------------------------------------------------------------------------- Gaussians


def gaussian_target() -> Target:
    return Target(nn.Linear(3, 2).double())


def test_draws_of_a_low_rank_gaussian_have_its_covariance() -> None:
    """44 z-scores below 5: a false alarm in fewer than 1 of 30,000 seeds."""
    target = gaussian_target()
    mode = target.params()
    rng = generator(2)
    variance = {k: torch.rand(w.shape, generator=rng, dtype=torch.float64) for k, w in mode.items()}
    factor = torch.randn(3, 8, generator=rng, dtype=torch.float64)
    post = LowRankGaussian(mode, variance, factor, target).scaled(0.5)
    dense = 0.5 * (torch.diag(flatten(variance)) + sum(torch.outer(f, f) for f in factor))
    assert torch.allclose(post.covariance(), dense, rtol=1e-12)
    n = 40_000
    draws = flatten(post.sample(n, generator(3)), batch_dims=1)
    assert z_of_covariance(draws, dense) < 5
    assert float(((draws.mean(0) - flatten(mode)) / (dense.diag() / n).sqrt()).abs().max()) < 5


def test_draws_of_a_diagonal_gaussian_have_its_covariance() -> None:
    """44 z-scores below 5, as above."""
    target = gaussian_target()
    mode = target.params()
    sd = {k: 0.1 + torch.rand(w.shape, generator=generator(4), dtype=torch.float64) for k, w in mode.items()}
    post = DiagonalGaussian(mode, sd, target).scaled(3.0)
    dense = torch.diag(3 * flatten(sd).square())
    n = 40_000
    draws = flatten(post.sample(n, generator(5)), batch_dims=1)
    assert z_of_covariance(draws, dense + 0 * dense) < 5
    assert float(((draws.mean(0) - flatten(mode)) / (dense.diag() / n).sqrt()).abs().max()) < 5


def test_draws_are_a_function_of_the_generator_and_widths_are_checked() -> None:
    target = gaussian_target()
    post = DiagonalGaussian(target.params(), {k: torch.ones_like(w) for k, w in target.params().items()}, target)
    a, b = post.sample(2, generator(1)), post.sample(2, generator(1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    low = LowRankGaussian(post.mode, post.sd, torch.ones(1, 8, dtype=torch.float64), target)
    for wide in (post, low):
        with pytest.raises(InputError, match="scale above zero"):
            wide.scaled(0.0)
