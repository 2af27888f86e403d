"""Counting with many last layers on one network beneath, against plain counting and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.evidence import Counting


def case(outputs: int, *, bias: bool = True) -> tuple[nv.Target, nv.Data]:
    x = torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, outputs, bias=bias)).double()
    y = (x[:, :2] > 0).double() if outputs == 2 else (x.argmax(1))
    if outputs == 2:
        target = nv.Target(net, prior=nv.FanIn(1.4, 0.7), likelihood=nv.Bernoulli())
        return target, nv.Data(x, y, task="multilabel")
    return nv.Target(net, prior=nv.FanIn(1.4, 0.7)), nv.Data(x, y)


@pytest.mark.parametrize(("outputs", "bias"), [(2, True), (2, False), (3, True)])
def test_last_layers_count_as_networks_do(outputs: int, bias: bool) -> None:
    target, data = case(outputs, bias=bias)
    plain = Counting(60_000)(target, data, seed=0)
    many = Counting(400_000, heads=100)(target, data, seed=1)
    assert plain.parts["fits"] > 50
    # Five standard errors: a false alarm in 10^6.
    assert abs(float(plain) - float(many)) < 5 * math.hypot(plain.stderr, many.stderr)
    assert many.parts["evaluations"] == 4_000
    assert many.parts["effective"] > 10


def test_a_perceptrons_columns_are_a_product() -> None:
    # Twelve labels in four columns, each of three orthogonal inputs: 2^-12, at every network beneath of which there is
    # none. The share of 200 is off by a binomial error, that of four columns by about √(4 · 7/200/100).
    target = nv.Target(nn.Linear(3, 4, bias=False).double(), likelihood=nv.Bernoulli())
    y = (torch.rand(3, 4, generator=generator(2)) < 0.5).double()
    found = Counting(20_000, heads=200)(target, nv.Data(torch.eye(3).double(), y, task="multilabel"), seed=0)
    assert abs(float(found) + 12 * math.log(2)) < 5 * found.stderr
    assert 0.3 < found.stderr / math.sqrt(4 * 7 / 200 / 100) < 2


def test_the_error_is_that_of_clusters() -> None:
    # Estimates of 40 seeds spread as their error says: the ratio is within a factor of 1.6 but once in 10^4.
    target, data = case(3)
    found = [Counting(40_000, heads=200)(target, data, seed=s) for s in range(40)]
    spread = torch.tensor([float(e) for e in found]).std()
    said = torch.tensor([e.stderr for e in found]).mean()
    assert 1 / 1.6 < float(spread / said) < 1.6
    # Independent fits would have a smaller error.
    assert float(said) > 1.1 / math.sqrt(sum(e.parts["fits"] for e in found) / 40)


def test_signs_have_many_last_layers_too() -> None:
    x = torch.randn(4, 5, generator=generator(3), dtype=torch.float64)
    y = (x[:, 0] > 0).double()[:, None]
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    target = nv.Target(net, likelihood=nv.Bernoulli(), prior=nv.priors.Signs(fan_in=True))
    data = nv.Data(x, y, task="multilabel")
    plain, many = Counting(40_000)(target, data, seed=0), Counting(200_000, heads=50)(target, data, seed=1)
    assert abs(float(plain) - float(many)) < 5 * math.hypot(plain.stderr, many.stderr)


def test_what_has_no_last_layer_is_refused() -> None:
    _, data = case(3)
    with pytest.raises(InputError, match="even number"):
        Counting(100, heads=7)
    with pytest.raises(InputError, match="ends in a linear layer"):
        Counting(100, heads=10)(nv.Target(nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()), data, seed=0)
    # Of x and −x a perceptron without a bias says the contrary: one in 3/clusters at most, whatever the last layers.
    perceptron = nv.Target(nn.Linear(2, 1, bias=False), likelihood=nv.Bernoulli())
    x, y = torch.tensor([[1.0, 0.2], [-1.0, -0.2], [0.3, 1.0]]), torch.tensor([[1.0], [1.0], [0.0]])
    none = nv.Data(x, y, task="multilabel")
    found = Counting(20_000, heads=100)(perceptron, none, seed=0)
    assert (found.kind, float(found)) == ("upper bound", pytest.approx(math.log(3 / 200)))


def test_counting_for_longer_than_a_day_is_refused_after_a_second() -> None:
    target, data = case(3)
    for far in (Counting(10**13), Counting(10**15, heads=100)):
        with pytest.raises(InputError, match=r"at most a day; got .* hours"):
            far(target, data, seed=0)
    with pytest.raises(InputError, match="fewer heads"):
        Counting(10**12, heads=10**12)(target, data, seed=0)
