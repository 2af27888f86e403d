"""How alike outputs are at two inputs, against kernels in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.functions import correlation
from novacula.kernels import arc_cosine
from novacula.priors import FanIn


def test_a_hidden_layer_of_any_width_has_the_kernel_of_a_wide_one() -> None:
    # With one hidden layer the second moment is a mean over units, so that the arc-cosine kernel is exact at width 7.
    x = torch.randn(4, 3, generator=generator(0), dtype=torch.float64)
    other = torch.randn(4, 3, generator=generator(1), dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2)).double()
    found = correlation(net, x, other, 20_000, prior=FanIn(1.3, 0.4), seed=2)
    k = arc_cosine(torch.cat([x, other]), 1, sigma_w=1.3, sigma_b=0.4)
    exact = k[:4, 4:].diagonal() / (k.diagonal()[:4] * k.diagonal()[4:]).sqrt()
    # The interval is ± 2.1 standard errors of the mean; 5 of them are a false alarm in 10^4 for Student's t of 19.
    assert abs(found.mean.value - float(exact.mean())) < 2.4 * (found.mean.high - found.mean.value)
    assert found.mean.high - found.mean.low < 0.05
    torch.testing.assert_close(found.pairs, exact, atol=0.06, rtol=0)


def test_intervals_hold_the_truth() -> None:
    # 95 % of 100 seeds; fewer than 87 once in 10^3.
    x, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, -0.5]])
    exact = float((x * other).sum() / (x.norm() * other.norm()))
    net = nn.Linear(2, 1, bias=False)
    found = [correlation(net, x, other, 200, seed=s).mean for s in range(100)]
    assert sum(i.low <= exact <= i.high for i in found) >= 87


def test_what_has_no_partner_is_refused() -> None:
    with pytest.raises(InputError, match="one for each input"):
        correlation(nn.Linear(2, 1), torch.eye(2), torch.ones(1, 2))
    with pytest.raises(InputError, match="n as a whole number"):
        correlation(nn.Linear(2, 1), torch.eye(2), torch.ones(2, 2), 10)
    assert math.isclose(correlation(nn.Linear(2, 1), torch.eye(2), torch.eye(2), 50).mean.value, 1.0)
