"""Which posteriors warn that they may predict worse than a point."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from novacula.data.data import Data
from novacula.inference import HMC, IVON, MAP, SGHMC, SWAG, Ensemble, MeanField, infer
from novacula.inference.method import Method
from novacula.posteriors.base import overparameterised
from novacula.target import Target

X = torch.linspace(-1, 1, 40).reshape(10, 4)
DATA = Data(X, (X[:, 0] > 0).long())  # 10 examples


def test_more_weights_than_examples_are_warned_of_unless_sharpened() -> None:
    target = Target(nn.Linear(3, 2))
    params = target.params()
    assert overparameterised(target, params, 8, 1.0, "draws") == ()
    assert "draws for 8 weights, from 7 examples" in overparameterised(target, params, 7, 1.0, "draws")[0]
    assert overparameterised(target, params, 7, 0.1, "draws") == ()
    cold = Target(nn.Linear(3, 2), likelihood_temperature=0.5)
    assert overparameterised(cold, params, 7, 1.0, "draws") == ()


@pytest.mark.parametrize("method", [SGHMC(keep=5), HMC(leapfrogs=2, keep=5), MeanField(), IVON()])
@pytest.mark.parametrize(("outputs", "temperature", "said"), [(2, 1.0, False), (3, 1.0, True), (3, 0.1, False)])
def test_posteriors_of_all_weights_say_so(method: Method, outputs: int, temperature: float, said: bool) -> None:
    """Two outputs make 10 weights of 10 examples, three make 15."""
    data = Data(X, DATA.y, classes=["a", "b", "c"][:outputs])
    post = infer(method, Target(nn.Linear(4, outputs), temperature=temperature), data, steps=20, batch_size=5, seed=0)
    assert any("worse than the most probable weights" in w for w in post.warnings) == said


def test_points_and_what_is_made_of_them_do_not() -> None:
    for method in (Ensemble(MAP(), members=2), SWAG()):
        post = infer(method, Target(nn.Linear(4, 3)), Data(X, DATA.y, classes=["a", "b", "c"]), steps=20, batch_size=5)
        assert not any("worse" in w for w in post.warnings)
