"""The evidence of infinitely wide networks against exact values, each other, and networks that are wide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.evidence import NNGP, LinearGaussian
from novacula.kernels import arc_cosine
from novacula.target.many import prior_outputs

X = torch.randn(6, 3, generator=generator(0), dtype=torch.float64)


def wide(outputs: int, width: int = 300) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, outputs)).double()


def test_regression_is_a_gaussian_density() -> None:
    y = torch.randn(6, 2, generator=generator(1), dtype=torch.float64)
    target = nv.Target(wide(2), likelihood=nv.Normal(sigma=0.3), prior=nv.FanIn(sigma_w=1.3, sigma_b=0.4))
    found = NNGP()(target, nv.Data(X, y), seed=0)
    k = arc_cosine(X, 1, sigma_w=1.3, sigma_b=0.4) + 0.09 * torch.eye(6).double()
    law = MultivariateNormal(torch.zeros(6).double(), k)
    assert float(found) == pytest.approx(float(law.log_prob(y[:, 0]) + law.log_prob(y[:, 1])), rel=1e-9)
    assert found.kind == "exact"
    assert any("infinite width" in a for a in found.assumptions)


def test_a_linear_network_is_linear_gaussian() -> None:
    net = nn.Linear(3, 1).double()
    target = nv.Target(net, likelihood=nv.Normal(sigma=0.5), prior=nv.Gaussian(2.0))
    data = nv.Data(X, X[:, :1] - 0.5)
    exact = LinearGaussian()(target, data, target.params(), seed=0)
    assert float(NNGP()(target, data, seed=0)) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
def test_wide_networks_fit_as_often(classes: int) -> None:
    y = torch.tensor([0, 1, 1, 0, 1, 1]) if classes == 2 else torch.tensor([0, 2, 1, 0])
    rows = len(y)
    target = nv.Target(wide(classes, 100), prior=nv.FanIn(sigma_w=1.4, sigma_b=0.5))
    n = 30_000
    f = torch.cat([prior_outputs(target, X[:rows], n // 10, generator(i, "brute")) for i in range(10)])
    hits = int((f.argmax(2) == y).all(1).sum())
    assert hits > 100
    # What is not Gaussian is one over the width.
    for estimator, slack in ((NNGP("ep"), 0.1), (NNGP("tilting"), 0.03)):
        found = estimator(target, nv.Data(X[:rows], y), seed=0)
        assert abs(float(found) - math.log(hits / n)) < 4.5 * hits**-0.5 + slack  # 7e-6


def test_one_output_and_two_are_the_same_problem() -> None:
    y = torch.tensor([0, 1, 1, 0, 1, 1])
    prior = nv.FanIn(sigma_w=1.4, sigma_b=0.5)
    two = NNGP("ep")(nv.Target(wide(2), prior=prior), nv.Data(X, y), seed=0)
    labels = nv.Data(X, y.double()[:, None], task="multilabel")
    one = NNGP("ep")(nv.Target(wide(1), likelihood=nv.Bernoulli(), prior=prior), labels, seed=0)
    assert float(one) == pytest.approx(float(two), abs=1e-5)


def test_any_other_network_by_drawn_kernels() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = wide(2, 30)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x)

    data = nv.Data(X[:4], torch.tensor([0, 1, 1, 0]))
    prior = nv.FanIn(sigma_w=1.4, sigma_b=0.5)
    drawn = NNGP("ep", draws=2_000)(nv.Target(Same().double(), prior=prior), data, seed=0)
    exact = NNGP("ep")(nv.Target(wide(2), prior=prior), data, seed=0)
    assert drawn.stderr > 0
    assert abs(float(drawn) - float(exact)) < 5 * drawn.stderr + 0.02
    with pytest.raises(InputError, match="draws"):
        NNGP("ep", draws=5)(nv.Target(Same().double(), prior=prior), data, seed=0)


def test_contradictions_are_refused() -> None:
    data = nv.Data(torch.cat([X, X[:1]]), torch.tensor([0, 1, 1, 0, 1, 1, 1]))
    with pytest.raises(InputError, match="rows 0 and 6"):
        NNGP()(nv.Target(wide(2)), data, seed=0)


@dataclass(frozen=True)
class Wide:
    """The network's own kernel, as one that a person brings."""

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return arc_cosine(torch.cat([a, b]), 1, sigma_w=1.4, sigma_b=0.5)[: len(a), len(a) :]

    def learnable(self) -> dict[str, torch.Tensor]:
        return {}

    def with_learnable(self, values: dict[str, torch.Tensor]) -> Wide:
        return self


def test_a_kernel_stands_in_the_networks_place() -> None:
    target = nv.Target(wide(3, 10), prior=nv.FanIn(sigma_w=1.4, sigma_b=0.5))
    data = nv.Data(X, torch.tensor([0, 2, 1, 0, 2, 2]))
    own, given = NNGP("ep")(target, data, seed=0), NNGP("ep", kernel=Wide())(target, data, seed=0)
    assert float(own) == pytest.approx(float(given), rel=1e-8)
    # Under a kernel of inputs that know nothing of each other, classes are as good as dealt.
    length, amplitude = torch.tensor(-5.0).double(), torch.tensor(0.3).double()
    control = NNGP("ep", kernel=nv.kernels.SquaredExponential(length, amplitude))
    assert float(control(target, data, seed=0)) == pytest.approx(-6 * math.log(3), abs=0.03)
    assert "SquaredExponential" in control.name
    assert "given kernel" in control(target, data, seed=0).assumptions[1]
