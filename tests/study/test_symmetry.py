"""Planted symmetries of points of the plane, and data without one or without anything."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import novacula as nv
from novacula.study.cross_fit.result import CrossFit
from novacula.study.symmetry import Symmetries

TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]])


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.simplefilter("ignore")


def found(kind: str, likelihood: nv.likelihoods.Likelihood | None = None, steps: int = 200) -> Symmetries:
    """What is said of 600 points whose label is of this kind."""
    x = torch.randn(600, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 1.5])
    stretched = torch.stack([x[:, 0], x[:, 1] / 1.5], 1)
    value = {
        "ellipse": stretched.norm(dim=1) - 1.2,
        "stripes": (2 * x[:, 0] + 1).sin(),
        "waves": (2.5 * x[:, 0]).cos() + (2 * x[:, 1] + 1 - x[:, 0]).cos(),
        "noise": torch.randn(600, generator=torch.Generator().manual_seed(2)),
    }[kind]
    y = value.unsqueeze(1) if likelihood is not None else (value > 0).long()
    net = nv.networks.make("mlp", (2,), 1 if likelihood is not None else 2, width=24)
    target = nv.Target(net, likelihood or nv.Categorical())
    return nv.study.symmetry(target, nv.Data(x, y), folds=2, steps=steps, seed=0)


@pytest.mark.parametrize("likelihood", [None, nv.Normal(sigma=0.2)])
def test_a_rotation_of_stretched_points_is_found(likelihood: nv.Normal | None) -> None:
    ellipse = torch.tensor([[0.0, -1 / 1.5], [1.5, 0.0]])
    said = found("ellipse", likelihood)
    assert said.verdict == "symmetry"
    known = said.invariance()
    assert known is not None
    assert known.angle(ellipse) < 8
    assert known.displacement(said.unseen.data.x) == pytest.approx(1, rel=1e-4)
    assert said.cost[0] < 0.1
    assert isinstance(said.unseen, CrossFit)


def test_a_function_of_one_number_has_the_maps_that_leave_it() -> None:
    """Maps that move the second number alone, by either: two generators, of which the plane's rotation is none."""
    said = found("stripes")
    assert said.verdict == "symmetry"
    assert float(said.generators[0][0].norm()) < 0.15 * float(said.generators[0][1].norm())


def test_no_symmetry_and_nothing_learned_are_told_apart() -> None:
    none, noise = found("waves", steps=100), found("noise", steps=100)
    assert none.verdict == "no symmetry"
    assert none.invariance() is None
    assert none.cost[0] > 0.1
    assert noise.verdict == "unknown"
    assert noise.cost == ()


def test_networks_go_on_while_they_learn() -> None:
    """What stops after 30 steps knows too little: it goes on to 480, and as it still learns, nothing is claimed."""
    said = found("stripes", steps=30)
    few = nv.cross_fit(said.unseen.target, said.unseen.data, folds=said.unseen.folds, steps=30, seed=0)
    known = [math.log(2) - float(fit.losses.mean()) for fit in (said.unseen, few)]
    assert known[0] > 3 * known[1] > 0
    assert said.verdict == "unknown"
    assert said.cost[0] < 0.1
