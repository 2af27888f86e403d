"""The local learning coefficient against its closed form and quadrature at finite n; WBIC against the exact evidence.

Chains are seeded. Estimates are held to three or more of their standard errors: of correct code one seed in about
three hundred would be refused for each of the ten comparisons.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.params import flatten
from novacula.inference.tempered import Chains, log_likelihood, tempered_fits
from novacula.paths.learning_coefficient import polished

N = 100


class Product(nn.Module):
    """``f(x) = w1^a w2^b x``."""

    def __init__(self, a: int, b: int, at: tuple[float, float]) -> None:
        super().__init__()
        self.a, self.b = a, b
        self.w = nn.Parameter(torch.tensor(at, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (self.w[0] ** self.a * self.w[1] ** self.b) * x


def _quadrature(a: int, b: int, at: tuple[float, float], x: Tensor) -> float:
    # y = 0, so that n L_n − min is ½ Σ x² g² and any point with g = 0 is a minimum.
    t = torch.linspace(-6, 6, 2401, dtype=torch.float64)
    w1, w2 = t[:, None], t[None, :]
    excess = 0.5 * x.square().sum() * (w1**a * w2**b) ** 2 / math.log(N)
    mass = (-excess - 0.5 * ((w1 - at[0]) ** 2 + (w2 - at[1]) ** 2)).exp()
    return float((mass * excess).sum() / mass.sum())


CASES = [(1, 1, (0.0, 0.0)), (1, 2, (1.5, 0.0)), (2, 1, (0.0, 0.0)), (2, 2, (0.0, 0.0))]


@pytest.mark.parametrize(("a", "b", "at"), CASES)
def test_singular_minima_meet_quadrature_at_this_n(a: int, b: int, at: tuple[float, float]) -> None:
    x = torch.randn(N, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    held = nv.priors.Gaussian(precision=1.0, mean="start")
    target, data = nv.Target(Product(a, b, at), nv.Normal(sigma=1.0), held).prepare(nv.Data(x, 0 * x))
    fits = tempered_fits(target, data, target.params(), math.log(N), Chains(64, 300, 8, 0.8), seed=0)
    found = float(log_likelihood(target, data, target.params()) - fits.values.mean()) / math.log(N)
    error = fits.stderr / math.log(N)
    assert abs(found - _quadrature(a, b, at, x)) < 3 * error
    assert error < 0.03
    assert fits.warnings == ()


def test_a_regular_minimum_has_its_closed_form_which_is_not_half_the_weights() -> None:
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(60, 4, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 0.5, 0.3, 2.0])
    y = x @ torch.tensor([[1.0], [-2.0], [0.5], [0.3]], dtype=torch.float64)
    y = y + torch.randn(60, 1, generator=rng, dtype=torch.float64)
    net = nn.Linear(4, 1, bias=False).double()
    target, data = nv.Target(net, nv.Normal(sigma=1.0)), nv.Data(x, y)
    found = nv.paths.learning_coefficient(target, data, localisation=2.0, chains=32, steps=400, leapfrogs=4, seed=0)
    for row in found.details:
        h = torch.linalg.eigvalsh(x.T @ x) / math.log(60)
        exact = float(0.5 * (h / (h + row["localisation"])).sum())
        assert abs(row["value"] - exact) < 3.5 * row["stderr"], row
    assert found.stderr < 0.04
    assert float(found) == pytest.approx(found.parts["draws"] + found.parts["minimum"], abs=1e-9)
    minimum, slope = polished(target, data, target.params(), 1000)
    torch.testing.assert_close(flatten(minimum), torch.linalg.lstsq(x, y).solution[:, 0], atol=1e-6, rtol=0)
    assert slope < 1e-6
    assert found.to_dict()["details"] == list(found.details)


def test_a_start_that_is_no_minimum_is_warned_of() -> None:
    x = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    target = nv.Target(nn.Linear(1, 1).double(), nv.Normal(sigma=0.3))
    found = nv.paths.learning_coefficient(target, nv.Data(x, 3 * x), chains=4, steps=60, polish=0)
    assert any("no minimum" in w for w in found.warnings)


def test_wbic_comes_near_the_exact_evidence_of_a_linear_model() -> None:
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(N, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 0.5, 2.0])
    y = x @ torch.tensor([[0.5], [-0.4], [0.2]], dtype=torch.float64)
    y = y + torch.randn(N, 1, generator=rng, dtype=torch.float64)
    target = nv.Target(nn.Linear(3, 1, bias=False).double(), nv.Normal(sigma=1.0))
    found = nv.evidence.WBIC(chains=8, steps=300, leapfrogs=4)(target, nv.Data(x, y), seed=0)
    # E_T[log lik] in closed form, with the posterior N(m, S) at the temperature log n.
    t, gram = math.log(N), x.T @ x
    cov = torch.linalg.inv(gram / t + torch.eye(3, dtype=torch.float64))
    mean = cov @ x.T @ y / t
    expected = -0.5 * ((y - x @ mean).square().sum() + (gram @ cov).trace()) - N / 2 * math.log(2 * math.pi)
    assert abs(float(found) - float(expected)) < 3.5 * found.stderr
    exact = nv.evidence.LinearGaussian()(target, nv.Data(x, y), target.params(), seed=0)
    assert abs(float(found) - float(exact)) < 3 * math.sqrt(t)


def test_bad_input_is_refused() -> None:
    data = nv.load("digits").subset(range(30))
    net = nv.networks.make("linear", data.x_shape, 10, seed=0)
    for wrong in ({"localisation": 0.0}, {"chains": 1}, {"steps": 3}, {"polish": -1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            nv.paths.learning_coefficient(net, data, **wrong)  # type: ignore[arg-type]
    target = nv.Target(net, invariance=nv.invariances.Affine())
    with pytest.raises(InputError, match="transformations"):
        nv.paths.learning_coefficient(target, data)
    with pytest.raises(InputError, match="temperature 1"):
        nv.evidence.WBIC()(nv.Target(net, temperature=0.5), data, seed=0)
