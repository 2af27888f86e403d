"""Kernels of wide networks against drawn networks and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from novacula.core.errors import InputError
from novacula.kernels import arc_cosine, erf, monte_carlo
from novacula.kernels.recursions import erf_moment, relu_moment
from novacula.priors import FanIn, Gaussian

X = torch.tensor([[1.0, 0.5, -0.3], [0.2, -1.0, 0.8], [-0.7, 0.1, 2.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


class Erf(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.erf()


def perceptron(activation: type[nn.Module], depth: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    fan = 3
    for _ in range(depth):
        layers += [nn.Linear(fan, width), activation()]
        fan = width
    return nn.Sequential(*layers, nn.Linear(fan, 1)).double()


@pytest.mark.parametrize(("kernel", "activation"), [(arc_cosine, nn.ReLU), (erf, Erf)])
def test_one_hidden_layer_has_its_kernel_at_any_width(
    kernel: Callable[..., torch.Tensor], activation: type[nn.Module]
) -> None:
    network = perceptron(activation, 1, 20)
    prior = FanIn(sigma_w=1.4, sigma_b=0.6)
    drawn = monte_carlo(network, prior, X, draws=40_000, seed=0)[:, 0, :, 0]
    exact = kernel(X, 1, sigma_w=1.4, sigma_b=0.6)
    # Products of outputs have a standard deviation of about 2 of their scale: 4.5 σ for each of ten entries, 7e-5.
    scale = exact.diagonal().sqrt()[:, None] * exact.diagonal().sqrt()
    assert ((drawn - exact).abs() / scale).max() < 4.5 * 2 / math.sqrt(40_000)


@pytest.mark.parametrize(("kernel", "activation"), [(arc_cosine, nn.ReLU), (erf, Erf)])
def test_deep_wide_networks_come_near_their_kernel(
    kernel: Callable[..., torch.Tensor], activation: type[nn.Module]
) -> None:
    drawn = monte_carlo(perceptron(activation, 3, 100), FanIn(sigma_w=1.2, sigma_b=0.4), X, draws=1_000, seed=1)
    exact = kernel(X, 3, sigma_w=1.2, sigma_b=0.4)
    scale = exact.diagonal().sqrt()[:, None] * exact.diagonal().sqrt()
    assert ((drawn[:, 0, :, 0] - exact).abs() / scale).max() < 0.3  # 4.5 · 2/√1000, and 1/width


def test_moments_by_quadrature() -> None:
    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(120))
    weights = weights / weights.sum()
    k = torch.tensor([[1.7, 0.6], [0.6, 0.5]], dtype=torch.float64)
    low = torch.linalg.cholesky(k)
    u = low[0, 0] * nodes[:, None].expand(120, 120)
    v = low[1, 0] * nodes[:, None] + low[1, 1] * nodes
    joint = weights[:, None] * weights
    assert float(erf_moment(k)[0, 1]) == pytest.approx(float((joint * u.erf() * v.erf()).sum()), abs=1e-6)
    assert float(relu_moment(k)[0, 1]) == pytest.approx(float((joint * u.relu() * v.relu()).sum()), abs=2e-3)


def test_no_hidden_layer_is_linear() -> None:
    expected = 0.25 + 4 / 3 * X @ X.T
    torch.testing.assert_close(arc_cosine(X, 0, sigma_w=2.0, sigma_b=0.5), expected)


def test_kernels_of_a_linear_network_are_exact_in_expectation() -> None:
    x = X[:3].float()
    drawn = monte_carlo(nn.Linear(3, 2), Gaussian(precision=4.0), x, draws=20_000, seed=2)
    expected = torch.einsum("nm,cd->ncmd", (0.25 * (1 + x @ x.T)).double(), torch.eye(2, dtype=torch.float64))
    assert (drawn - expected).abs().max() < 4.5 * 2 * float(expected.max()) / math.sqrt(20_000)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="depth"):
        arc_cosine(X, -1)
    with pytest.raises(InputError, match="sigma_w"):
        erf(X, 1, sigma_w=0.0)
    with pytest.raises(InputError, match="draws"):
        monte_carlo(nn.Linear(3, 2), Gaussian(), X.float(), draws=0, seed=0)
