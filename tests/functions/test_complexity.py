"""Formulas, codes with errors, roughness and slopes, against enumeration and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.functions import Coins, cube, expression_size, roughness, sample, slope_interval
from novacula.kernels import rate_distortion
from novacula.priors import FanIn, Gaussian


def test_formulas_of_known_functions() -> None:
    x = cube(3).numpy().astype(int)
    strings = np.stack([x[:, 0] & x[:, 1], x[:, 0], 1 - x[:, 2], x.sum(1) > 1, x.sum(1) % 2, 0 * x[:, 0], x.any(1)])
    # Majority: three products of two and two sums. Parity: four products of three, each with two or no negations.
    assert expression_size(strings.astype(bool)).tolist() == [1, 0, 1, 5, 17, 0, 2]
    with pytest.raises(InputError, match="at most 6 inputs"):
        expression_size(np.zeros((1, 128), bool))


def test_no_formula_is_longer_than_its_table() -> None:
    # All functions of two inputs: by hand, constants and inputs 0, negations 1, AND and OR 1 to 3, differences 5.
    every = np.array(list(itertools.product((0, 1), repeat=4)))
    sizes = dict(zip(map(tuple, every.tolist()), expression_size(every).tolist(), strict=True))
    assert sizes[0, 1, 1, 0] == sizes[1, 0, 0, 1] == 5
    assert sizes[1, 1, 1, 0] == 3  # ~a | ~b
    assert max(sizes.values()) == 5


def test_bits_of_a_ball_of_coins() -> None:
    found = sample(Coins(), cube(3), 100_000)
    for k in (0, 1, 3):
        ball = sum(math.comb(8, i) for i in range(k + 1)) / 256
        told = found.bits_within("01101001", k)
        assert told.low - 0.05 <= -math.log2(ball) <= told.high + 0.05
    assert found.bits_within([0] * 8, 8).value == 0
    assert sample(Coins(), torch.arange(60.0)[:, None], 10).bits_within([1] * 60).high == math.inf


@pytest.mark.parametrize("share", [0.03, 0.2, 0.7])
def test_water_is_filled_to_one_level(share: float) -> None:
    k = nv.kernels.arc_cosine(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), 2)
    values = torch.linalg.eigvalsh(k).numpy()
    low, high, level = 0.0, float(values.max()), 0.0
    for _ in range(200):  # by bisection
        level = (low + high) / 2
        low, high = (level, high) if np.minimum(values, level).sum() < share * values.sum() else (low, level)
    bits = np.maximum(0, 0.5 * np.log2(values / level)).sum()
    assert rate_distortion(k, share) == pytest.approx(bits, abs=1e-9)
    with pytest.raises(InputError, match="distortion between"):
        rate_distortion(k, 1.0)


def test_roughness_of_lines_is_known() -> None:
    # f = w x with w of either sign, between 1 and 3 and back to −2: |f| / rms does not depend on w.
    x = torch.tensor([[1.0], [3.0], [-2.0]], dtype=torch.float64)
    net = nn.Linear(1, 1, bias=False).double()
    found = roughness(net, x, 5, prior=Gaussian(), points=101)
    t = np.linspace(0, 1, 101)
    rms = math.sqrt(np.mean([(1 + 2 * t) ** 2, (3 - 5 * t) ** 2]))
    assert found.variation.value == pytest.approx((2 + 5) / 2 / rms)
    assert found.gradient.value == pytest.approx(1 / rms)
    assert found.critical.value == 0  # zero is further away than a tenth of the inputs' size
    # The cosine coefficients of a line are those of its odd half-waves, 1/k²: Σ k^-3 / Σ k^-4.
    odd = np.arange(1, 99, 2.0)
    assert found.half_waves.value == pytest.approx((odd**-3).sum() / (odd**-4).sum(), rel=1e-2)


def test_larger_weights_are_rougher() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    net = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 2))
    calm, wild = (roughness(net, x, 60, prior=FanIn(s, 0.3), seed=1) for s in (0.5, 8.0))
    for a, b in zip(calm[:3], wild[:3], strict=True):
        assert a.high < b.low


def test_labels_near_a_boundary_are_critical() -> None:
    # w x + b changes its sign at −b/w, a Cauchy variable, within the radius of x; of eight directions on a line both
    # are tried. The interval of 2,000 networks at 5 standard errors: a false alarm in 10^6.
    x = torch.tensor([[1.0], [-0.5]])
    found = roughness(nn.Linear(1, 1), x, 2_000, prior=Gaussian(), radius=0.5, directions=8).critical
    r = 0.5 * math.sqrt((1 + 0.25) / 2)
    truth = np.mean([(math.atan(v + r) - math.atan(v - r)) / math.pi for v in (1.0, -0.5)])
    assert abs(found.value - truth) < 5 * (found.high - found.low) / 2 / 1.96
    assert found.high - found.low < 0.05


def test_slopes_have_intervals_and_small_sizes_are_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    found = slope_interval(net, cube(3), 4_000, prior=FanIn(), replicas=3)
    assert found.low < found.value < found.high < 0
    with pytest.raises(InputError, match="replicas"):
        slope_interval(net, cube(3), 100, replicas=1)
    with pytest.raises(InputError, match="two inputs or more"):
        roughness(net, cube(3)[:1], 5)
