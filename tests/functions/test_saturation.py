"""How sure random networks are, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from novacula.core.errors import InputError
from novacula.functions import prior_predictive, unsaturated_scale
from novacula.priors import Gaussian


def sure(scale: float) -> float:
    # Of two classes the difference of outputs is N(0, 2 scale² |x|²).
    sd = scale * math.sqrt(2 * (3**2 + 1.5**2))
    return quad(lambda z: 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (1 + math.exp(-sd * z)), 0, 12)[0]


NET, X = nn.Linear(2, 2, bias=False).double(), torch.tensor([[3.0, 1.5]], dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.1, 0.7, 4.0])
def test_confidence_of_a_linear_network_is_an_integral(scale: float) -> None:
    found = prior_predictive(NET, X, 4_000, prior=Gaussian(precision=scale**-2, per="all"), seed=2)
    assert abs(found.confidence - sure(scale)) < 5 * found.stderr[0]  # false alarm 6e-7
    assert (found.top_share, found.class_entropy) == (1.0, 0.0)  # of one input


def test_answers_on_opposite_inputs_are_one_of_each() -> None:
    found = prior_predictive(NET, torch.cat([X, -X]), 50)
    assert found.top_share == 0.5
    assert found.class_entropy == pytest.approx(math.log(2))


def test_the_scale_has_the_confidence_that_was_asked_for() -> None:
    scale = unsaturated_scale(NET, X, 1_000, confidence=0.8, seed=3)
    assert prior_predictive(NET, X, 1_000, prior=Gaussian(precision=scale**-2, per="all"), seed=3).confidence == (
        pytest.approx(0.8, abs=1e-4)
    )
    assert abs(sure(scale) - 0.8) < 5 * 0.15 / math.sqrt(1_000)


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(InputError, match="one output"):
        prior_predictive(nn.Linear(2, 1), torch.eye(2))
    with pytest.raises(InputError, match="a confidence from"):
        unsaturated_scale(NET, X, 10, confidence=0.3)
