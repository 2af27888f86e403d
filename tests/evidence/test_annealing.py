"""Fits found through a softened constraint, and the ladder's agreement."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.evidence import NNGP, Annealing, Counting, Ladder
from novacula.inference import SMC


def test_orthogonal_inputs_fit_with_one_half_each() -> None:
    y = (torch.arange(20) % 3 == 0).float()[:, None]
    target = nv.Target(nn.Linear(20, 1, bias=False), likelihood=nv.Bernoulli())
    data = nv.Data(torch.eye(20), y, task="multilabel")
    found = [Annealing(method=SMC(150, "elliptical", moves=4))(target, data, seed=s) for s in range(8)]
    away = torch.tensor([float(f) + 20 * math.log(2) for f in found])
    # Of the mean of eight, Student's t with seven degrees of freedom: 4 standard errors, 5e-3 at fixed seeds.
    spread = float(away.std())
    assert abs(float(away.mean())) < 4 * spread / 8**0.5
    # Each states what four populations tell of its error: too much rather than too little, on the average.
    assert 0.8 * spread < sum(f.stderr for f in found) / 8 < 4 * spread
    assert spread < 0.8
    assert {f.loss for f in found} == {"zero training error"}
    assert min(f.parts["share"] for f in found) >= 0.1


@pytest.mark.parametrize("strength", [3.0, 30.0])
def test_three_classes_are_counted_at_any_strength(strength: float) -> None:
    x = torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    target, data = nv.Target(net, prior=nv.FanIn(1.4, 0.7)), nv.Data(x, x.argmax(1))
    counted = Counting(200_000, heads=100)(target, data, seed=0)
    found = Annealing(strength=strength, attempts=1, method=SMC(200, "elliptical", moves=4))(target, data, seed=1)
    assert abs(float(found) - float(counted)) < 5 * math.hypot(found.stderr, counted.stderr) + 0.05


def test_what_no_network_fits_is_a_bound() -> None:
    target = nv.Target(nn.Linear(2, 1, bias=False), likelihood=nv.Bernoulli())
    x = torch.tensor([[1.0, 0.2], [-1.0, -0.2], [0.3, 1.0]])
    data = nv.Data(x, torch.tensor([[1.0], [1.0], [0.0]]), task="multilabel")
    found = Annealing(attempts=2, method=SMC(40, "elliptical", moves=1))(target, data, seed=0)
    assert found.kind == "upper bound"
    assert "no network" in found.warnings[0]
    signs = nv.Target(nn.Linear(2, 1, bias=False), likelihood=nv.Bernoulli(), prior=nv.priors.Signs())
    with pytest.raises(InputError, match="a Gaussian prior"):
        Annealing()(signs, data, seed=0)


def test_expectation_propagation_is_held_against_the_others_errors() -> None:
    x = torch.randn(6, 3, generator=generator(0), dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 300), nn.ReLU(), nn.Linear(300, 1)).double()
    target = nv.Target(net, prior=nv.FanIn(1.4, 0.5), likelihood=nv.Bernoulli())
    data = nv.Data(x, (x[:, :1] > 0).double(), task="multilabel")
    ep, sharp, coarse = (
        NNGP("ep")(target, data, seed=0),
        NNGP("tilting", samples=200_000)(target, data, seed=0),
        Counting(2_000)(target, data, seed=0),
    )
    found = Ladder({"ep": ep, "sharp": sharp, "coarse": coarse, "ep again": ep}, {}).agree
    # It is some hundredths of a nat low, which a coarse estimate cannot see and a sharp one does.
    assert 0.003 < abs(float(ep) - float(sharp)) < 0.1
    assert found["ep", "coarse"]
    assert not found["ep", "sharp"]
    assert ("ep", "ep again") not in found
