"""SGLD and SGHMC against what their discretised dynamics must give, exactly where that is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference import SGHMC, SGLD, Draws, Ensemble, infer
from novacula.inference.langevin.sgmcmc import Cycle
from novacula.likelihoods import Normal
from novacula.priors import Gaussian
from novacula.target import Target

SCALES = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
MEANS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def gaussian(w: Params) -> Tensor:
    return -0.5 * (((w["a"] - MEANS) / SCALES) ** 2).sum()


def moments(post: Draws) -> tuple[Tensor, Tensor]:
    a = post.chains["a"].flatten(0, 1)
    return a.mean(0), a.var(0)


def test_sgld_has_the_stationary_distribution_of_its_recursion() -> None:
    """The recursion w ← (1 − ε/2s²) w + √ε ξ has the variance ε / (1 − (1 − ε/2s²)²), about s².

    200 chains of 500 draws, 20 steps apart (autocorrelation e^(−.5) at s = 2 or less): at least 2·10⁴ effective draws,
    a relative error of the variance of 1 %; 5 % is five of them (false-alarm rate below 1e-5).
    """
    post = infer(
        SGLD(lr=0.2, keep=500, warmup=400), gaussian, init={"a": MEANS.clone()}, steps=10_400, chains=200, seed=1
    )
    mean, var = moments(post)
    step = 0.2
    expected = step / (1 - (1 - step / (2 * SCALES**2)) ** 2)
    assert torch.allclose(var, expected, rtol=0.05)
    assert torch.allclose((mean - MEANS) / SCALES, torch.zeros(3, dtype=torch.float64), atol=0.05)


def test_sghmc_samples_the_density_at_small_steps() -> None:
    """100 chains of 100 nearly independent draws; variances within 6 % (four standard errors)."""
    method = SGHMC(lr=0.02, friction=0.1, keep=100, warmup=500)
    mean, var = moments(infer(method, gaussian, init={"a": MEANS.clone()}, steps=8_500, chains=100, seed=2))
    assert torch.allclose(var, SCALES**2, rtol=0.08)
    assert torch.allclose((mean - MEANS) / SCALES, torch.zeros(3, dtype=torch.float64), atol=0.07)


def test_preconditioning_leaves_a_narrow_gaussian_right_and_makes_scales_alike() -> None:
    """The preconditioner makes steps even: the slowest direction's autocorrelation falls."""
    scales = torch.tensor([0.05, 1.0], dtype=torch.float64)

    def narrow(w: Params) -> Tensor:
        return -0.5 * ((w["a"] / scales) ** 2).sum()

    init = {"a": torch.zeros(2, dtype=torch.float64)}
    method = SGLD(lr=0.002, precondition=True, decay=0.999, damping=0.01, keep=200, warmup=1_000)
    post = infer(method, narrow, init=init, steps=5_000, chains=50, seed=0)
    _, var = moments(post)
    # The preconditioner is computed from the same gradients that it divides, which biases the draws by some per cent.
    assert torch.allclose(var.sqrt(), scales, rtol=0.25)
    plain = infer(SGLD(lr=0.002, keep=200, warmup=1_000), narrow, init=init, steps=5_000, chains=50, seed=0)
    assert float(post.diagnostics.ess_bulk[1]) > 2 * float(plain.diagnostics.ess_bulk[1])


def test_minibatches_and_temperature_on_linear_regression() -> None:
    """A linear Gaussian model has a known posterior, and a temperature multiplies its covariance.

    The discretisation's bias is below 2 % at this step; 150 chains of 60 draws, at least every third independent, give
    variances to 3 %.
    """
    rng = generator(5)
    x = torch.randn(30, 2, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 0.5])
    y = x @ torch.tensor([[1.0], [-1.0]], dtype=torch.float64) + 0.5 * torch.randn(
        30, 1, generator=rng, dtype=torch.float64
    )
    net = nn.Linear(2, 1, bias=False).double()
    covariance = torch.linalg.inv(x.T @ x / 0.25 + 3 * torch.eye(2, dtype=torch.float64))
    for temperature in (1.0, 0.2):
        target = Target(net, likelihood=Normal(sigma=0.5), prior=Gaussian(3.0), temperature=temperature)
        post = infer(
            SGLD(lr=0.02 * temperature, keep=60, warmup=600),
            target,
            Data(x, y),
            steps=4_000,
            chains=150,
            batch_size=30,
            seed=3,
        )
        w = post.chains["weight"].flatten(0, 1)[:, 0]
        assert torch.allclose(w.mean(0), covariance @ (x.T @ y)[:, 0] / 0.25, atol=0.02)
        found = torch.cov(w.T) / temperature
        assert torch.allclose(found.diag(), covariance.diag(), rtol=0.1)
        assert float(found[0, 1]) == pytest.approx(float(covariance[0, 1]), abs=0.1 * float(covariance.diag().max()))


def test_cycles_fall_to_zero_and_explore_first() -> None:
    cycle = Cycle(cycles=4, explore=0.5)
    rates = [cycle.at(step, 80) for step in range(80)]
    assert [r for r, _ in rates[:20]] == [r for r, _ in rates[20:40]]
    assert rates[0] == (1.0, False)
    assert rates[10][1]
    assert rates[10][0] == pytest.approx(0.5)
    assert rates[19][0] < 0.02
    assert sum(noisy for _, noisy in rates) == 40
    constant = [Cycle().at(step, 100) for step in range(100)]
    assert constant[0][0] == pytest.approx(0.2)
    assert all(rate == (1.0, True) for rate in constant[5:])


@pytest.mark.parametrize("method", [SGLD(lr=0.05, precondition=True, keep=5), SGHMC(lr=0.02, cycles=2, keep=8)])
def test_a_resumed_run_is_bit_identical(method: SGLD | SGHMC, tmp_path: Path) -> None:
    x = torch.randn(20, 3, generator=generator(1))
    target, data = Target(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))), Data(x, (x[:, 0] > 0).long())
    whole = infer(method, target, data, epochs=6, batch_size=8, chains=2, seed=7)

    class Stop(Exception):
        pass

    def interrupt(done: int, total: int, record: dict[str, float]) -> None:
        if done == 4:
            raise Stop

    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        infer(method, target, data, epochs=6, batch_size=8, chains=2, seed=7, checkpoint=path, progress=interrupt)
    resumed = infer(method, target, data, epochs=6, batch_size=8, chains=2, seed=7, checkpoint=path, resume=True)
    assert torch.equal(whole.flat, resumed.flat)


def test_chains_keep_to_themselves_and_ensembles_of_chains_are_more_chains() -> None:
    x = torch.randn(20, 3, generator=generator(1))
    target, data = Target(nn.Linear(3, 2)), Data(x, (x[:, 0] > 0).long())
    post = infer(Ensemble(SGLD(keep=6), members=3), target, data, steps=20, seed=0)
    assert post.flat.shape == (6, 3, 8)


@pytest.mark.parametrize(
    "build",
    [lambda: SGLD(lr=0.0), lambda: SGLD(cycles=-1), lambda: SGLD(explore=1.0), lambda: SGHMC(friction=0.0),
     lambda: SGLD(decay=1.0)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        build()
