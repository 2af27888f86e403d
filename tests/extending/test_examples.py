"""The numbers of the example packages: densities, curvatures and evidences against other ways to them."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.likelihoods import Normal
from novacula.priors import Gaussian


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "packages"))


def test_the_likelihood_s_factor_is_the_root_of_the_expected_hessian() -> None:
    from wrong_labels import WrongLabels  # pyright: ignore[reportMissingImports]

    likelihood = WrongLabels(0.23)
    f = torch.randn(5, 4, generator=generator(0), dtype=torch.float64) * 2
    root = likelihood.factor(f, torch.zeros(5))
    for i, row in enumerate(f):

        def log_prob(row: torch.Tensor, label: int) -> torch.Tensor:
            return likelihood.log_prob(row[None], torch.tensor([label]))[0]

        hessians = [torch.autograd.functional.hessian(partial(log_prob, label=c), row) for c in range(4)]
        masses = [log_prob(row, c).exp() for c in range(4)]
        assert torch.stack(masses).sum() == pytest.approx(1.0, abs=1e-12)
        fisher = -sum(m * h for m, h in zip(masses, hessians, strict=True))
        assert torch.allclose(root[i] @ root[i].T, fisher, atol=1e-12)


def test_the_prior_is_the_logistic_density() -> None:
    from logistic import Logistic  # pyright: ignore[reportMissingImports]

    prior = Logistic(0.7)
    params = {
        "w": torch.randn(3, 2, generator=generator(1), dtype=torch.float64),
        "b": torch.tensor([0.0, -4.0]).double(),
    }
    flat = torch.cat([w.flatten() for w in params.values()]).numpy()
    assert float(prior.log_prob(params)) == pytest.approx(scipy.stats.logistic(scale=0.7).logpdf(flat).sum(), abs=1e-6)
    # A Gaussian of this precision that meets the density at w is below it everywhere.
    others = torch.linspace(-9, 9, 181, dtype=torch.float64)
    for w, precision in zip(params["w"].flatten(), prior.precision(params)["w"].flatten(), strict=True):
        at = [float(prior.log_prob({"w": v})) for v in (*others, w)]
        assert all(
            v >= at[-1] - 0.5 * float(precision * (o**2 - w**2)) - 1e-9 for v, o in zip(at, others, strict=False)
        )
    # 4,000 draws of each of 8 weights; a Kolmogorov–Smirnov test that raises a false alarm once in 10,000 seeds.
    drawn = torch.cat([v.flatten() for v in prior.sample(params, 4_000, generator(2)).values()]).numpy()
    assert scipy.stats.kstest(drawn, scipy.stats.logistic(scale=0.7).cdf).pvalue > 1e-4


def _data() -> Data:
    x = torch.randn(6, 2, generator=generator(3), dtype=torch.float64)
    y = torch.randn(6, 1, generator=generator(4), dtype=torch.float64) * 0.8 + 0.4
    return Data(x, y)


def test_the_estimator_is_exact_for_a_linear_model() -> None:
    from gauss_hermite import GaussHermite  # pyright: ignore[reportMissingImports]

    precision, sigma = torch.tensor([-0.4, 0.9], dtype=torch.float64), torch.tensor([-0.5], dtype=torch.float64)
    target = nv.Target(nn.Linear(2, 1).double(), Normal(log_sigma=sigma), Gaussian(log_precision=precision))
    data = _data()
    x, y = data.x.numpy(), data.y.numpy()[:, 0]
    k = x @ x.T / math.exp(-0.4) + 1 / math.exp(0.9) + math.exp(-1.0) * np.eye(6)
    wanted = scipy.stats.multivariate_normal(np.zeros(6), k).logpdf(y)
    start = {name: torch.full_like(w, 0.7) for name, w in target.params().items()}
    for nodes in (3, 6):
        found = GaussHermite(nodes)(target, data, start, seed=0)
        assert float(found) == pytest.approx(float(wanted), abs=1e-10)
        assert (found.kind, found.stderr < 1e-10) == ("estimate", True)


def test_the_estimator_of_a_curved_model_meets_brute_force() -> None:
    from gauss_hermite import GaussHermite  # pyright: ignore[reportMissingImports]

    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Tanh()).double()
    sigma = torch.tensor([-0.1], dtype=torch.float64)
    target = nv.Target(net, Normal(log_sigma=sigma), Gaussian(precision=1.7))
    data = _data()
    x, y, s = data.x.numpy(), data.y.numpy()[:, 0], math.exp(-0.1)

    # The trapezoidal rule on a plane that is smooth and vanishes at its border converges faster than any power.
    grid = np.linspace(-7, 7, 561)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    density = scipy.stats.norm(0, 1.7**-0.5).pdf(a) * scipy.stats.norm(0, 1.7**-0.5).pdf(b)
    for (x0, x1), label in zip(x, y, strict=True):
        density *= scipy.stats.norm(np.tanh(a * x0 + b * x1), s).pdf(label)
    wanted = math.log(density.sum() * (grid[1] - grid[0]) ** 2)
    found = GaussHermite(30)(target, data, {k: 0.1 * w for k, w in target.params().items()}, seed=0)
    assert float(found) == pytest.approx(wanted, abs=1e-4)
    assert abs(float(found) - wanted) < 10 * found.stderr + 1e-8


def test_the_estimator_refuses_what_it_cannot_do() -> None:
    from gauss_hermite import GaussHermite  # pyright: ignore[reportMissingImports]

    target = nv.Target(nn.Linear(2, 4).double(), Normal())
    data = Data(torch.zeros(3, 2).double(), torch.zeros(3, 4).double())
    with pytest.raises(InputError, match="at most five weights, no invariance, temperature 1; got 12 weights"):
        GaussHermite()(target, data, target.params(), seed=0)
