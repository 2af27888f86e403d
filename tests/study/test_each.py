"""A verdict for every transformation, on tasks where it is known."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import novacula as nv
from novacula.invariances.perturb import parse, perturb
from novacula.study.learning.each import word


@pytest.mark.parametrize(
    ("gain", "stderr", "said"),
    [
        (0.1, 0.02, "needed"),
        (-0.1, 0.02, "harmful"),
        (0.1, 0.07, "undecided"),
        (0.004, 0.002, "no effect"),
        (-0.015, 0.007, "undecided"),  # it may be less than is worth a word
        (0.0, 0.02, "undecided"),
    ],
)
def test_words(gain: float, stderr: float, said: str) -> None:
    assert word(gain, stderr, 0.4) == said


def test_networks_that_have_learned_nothing_say_of_nothing_that_it_has_no_effect() -> None:
    """Labels by the toss of a coin."""
    assert word(0.0, 1e-4, 0.69, learned=False) == "undecided"
    assert word(-0.1, 0.02, 0.69, learned=False) == "harmful"
    x, _, _ = digits()
    y = torch.randint(0, 2, (len(x),), generator=torch.Generator().manual_seed(0))
    found = learned(x, y, 2, nv.Affine(only=("rotation",))).verdicts["rotation"]
    assert found["verdict"] == "undecided"


@cache
def digits() -> tuple[Tensor, Tensor, Tensor]:
    data = nv.load("digits")
    turned = torch.rand(data.n, generator=torch.Generator().manual_seed(0)) < 0.5
    mixed = torch.where(turned[:, None, None, None], data.x.flip(3), data.x)
    return data.x, mixed, turned.long()


def learned(x: Tensor, y: Tensor, classes: int, invariance: Any) -> Any:
    data = nv.Data(x[:700], y[:700])
    net = nv.networks.make("mlp", data.x_shape, classes, seed=0)
    return nv.learn(nv.Target(net, invariance=invariance), data, epochs=30, seed=0)


def test_a_mirror_that_is_the_answer_is_harmful_though_its_extent_is_zero() -> None:
    _, mixed, turned = digits()
    fit = learned(mixed, turned, 2, nv.Flip())
    found = fit.verdicts["flip"]
    assert found["extent"] < 0.02
    assert found["verdict"] == "harmful"
    assert found["gain"] < -0.3  # half of all labels would be wrong: up to log 2


def test_each_of_several_has_a_verdict_of_its_own() -> None:
    """Digits that were turned by any angle: the rotation is needed, a shear is not."""
    upright, _, _ = digits()
    x = perturb(upright, [parse("rotate=180")], seed=1)
    fit = learned(x, nv.load("digits").y, 10, nv.Affine(only=("rotation", "shear")))
    assert fit.verdicts["rotation"]["verdict"] == "needed"
    assert fit.verdicts["rotation"]["extent"] > 0.5
    assert set(fit.verdicts["shear"]) == {"verdict", "extent", "interval", "gain", "stderr"}
    assert fit.verdicts["shear"]["verdict"] != "needed"
    assert fit.target.invariance is not None
