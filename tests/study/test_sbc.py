"""Simulation-based calibration: exact posteriors pass, and each kind of wrong one is refuted in its own way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.diagnostics.sbc import rank, uniformity
from novacula.inference import MAP, NUTS, Laplace
from novacula.likelihoods import Normal
from novacula.priors import Gaussian
from novacula.study import sbc
from novacula.target import LogDensity, Target


def simulate(rng: torch.Generator, factor: float = 1.0) -> tuple[Params, LogDensity]:
    """A skewed model: a log-rate ~ N(.5, .7²) and a location ~ N(0, 2²); counts and measurements.

    ``factor`` is how much more is made of the data than there is in them.
    """
    a = 0.5 + 0.7 * torch.randn((), generator=rng, dtype=torch.float64)
    b = 2 * torch.randn((), generator=rng, dtype=torch.float64)
    counts = torch.poisson(a.exp().expand(3), generator=rng)
    y = b + torch.randn(2, generator=rng, dtype=torch.float64)

    def log_density(w: Params) -> torch.Tensor:
        prior = -((w["a"] - 0.5) ** 2) / (2 * 0.49) - w["b"] ** 2 / 8
        fit = (counts * w["a"] - w["a"].exp()).sum() - (y - w["b"]).square().sum() / 2
        return prior + factor * fit

    zero = torch.zeros((), dtype=torch.float64)
    return {"a": a, "b": b}, LogDensity(log_density, {"a": zero, "b": zero})


def test_nuts_passes_and_a_density_that_is_too_sure_does_not() -> None:
    """At a false-alarm rate of 1 % for both quantities together; 30 runs of 90 draws each, thinned to 15."""
    options = {"runs": 30, "steps": 150, "draws": 15, "seed": 5}
    assert sbc(NUTS(warmup=60), simulate, **options).passed

    def sure(rng: torch.Generator) -> tuple[Params, LogDensity]:
        return simulate(rng, 6.0)

    refuted = sbc(NUTS(warmup=60), sure, **options)
    assert not refuted.passed
    assert float(refuted.spread.min()) > 1.3
    assert "smallest p" in str(refuted)


def test_a_networks_exact_posterior_passes_in_its_outputs_and_likelihood() -> None:
    """The Laplace posterior of a linear network is exact."""
    x = torch.randn(12, 2, generator=generator(1), dtype=torch.float64) * torch.tensor([1.0, 3.0])
    target = Target(nn.Linear(2, 2).double(), likelihood=Normal(sigma=0.5), prior=Gaussian(2.0))
    method = Laplace("exact", optimiser=MAP(lr=0.1), check=False)
    found = sbc(method, target, x, runs=40, steps=200, batch_size=12, draws=19, seed=1)
    assert found.ranks.shape == (40, 9)
    assert found.passed


def test_ranks_and_the_test_of_uniformity() -> None:
    """P-values of uniform ranks are uniform: 2,000 of them; the share below .05 within 4 standard errors (.02)."""
    rng = generator(3)
    assert rank(torch.tensor([0.5, 9.0]), torch.tensor([[0.1, 0.1], [0.7, 0.2], [0.2, 1.0]]), rng).tolist() == [2, 3]
    tied = torch.stack([rank(torch.tensor([1.0]), torch.ones(3, 1), rng) for _ in range(4_000)])
    share = torch.bincount(tied[:, 0], minlength=4) / 4_000
    assert torch.allclose(share, torch.full((4,), 0.25), atol=0.03)
    uniform = torch.randint(0, 64, (200, 2_000), generator=rng)
    found = uniformity(uniform, 63)
    assert float((found.p_value < 0.05).double().mean()) == pytest.approx(0.05, abs=0.02)
    assert float(found.spread.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(found.bias.std()) == pytest.approx(1.0, abs=0.08)
    shifted = uniformity((uniform[:, :1] + 16).clamp(max=63), 63)
    assert not shifted.passed
    assert float(shifted.bias[0]) > 3
    odd = uniformity(torch.randint(0, 11, (100, 500), generator=rng), 10)  # 11 ranks do not fill bins evenly
    assert float((odd.p_value < 0.05).double().mean()) == pytest.approx(0.05, abs=0.04)


def test_too_little_is_refused() -> None:
    with pytest.raises(InputError, match="20 or more runs"):
        uniformity(torch.zeros(5, 1, dtype=torch.int64), 10)
    with pytest.raises(InputError, match="ranks from 0 to 3"):
        uniformity(torch.full((30, 1), 4), 3)
    with pytest.raises(InputError, match="inputs of a network"):
        sbc(MAP(), Target(nn.Linear(2, 2)))
    with pytest.raises(InputError, match=r"draws \(L, Q\)"):
        rank(torch.zeros(2), torch.zeros(3, 1), generator(0))
