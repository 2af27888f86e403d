"""How sure random networks are, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.functions import after_labels, prior_predictive, unsaturated_scale
from novacula.inference import SMC
from novacula.priors import Gaussian
from novacula.target import Target
from novacula.target.many import prior_outputs


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


def test_after_labels_is_the_prior_weighted_by_the_likelihood() -> None:
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    prior = Gaussian(precision=1.0, per="all")
    rng = torch.Generator().manual_seed(4)
    data = Data(torch.randn(4, 2, generator=rng, dtype=torch.float64), torch.tensor([0, 2, 1, 2]))
    x = torch.randn(6, 2, generator=rng, dtype=torch.float64)
    found = after_labels(
        Target(net, prior=prior), data, x, (0, 4), method=SMC(particles=100, move="elliptical"), seed=1
    )
    f = prior_outputs(Target(net, prior=prior), torch.cat([data.x, x]), 20_000, rng)
    sure = f[:, 4:].softmax(2).amax(2).mean(1)
    logs = f[:, :4].log_softmax(2).gather(2, data.y[None, :, None].expand(len(f), -1, 1)).sum((1, 2))
    truth = float((logs.softmax(0) * sure).sum())
    # Weights are worth a thousand draws; Student's t of three degrees at 6 standard errors is 9e-3 at a fixed seed.
    assert abs(found[4].confidence - truth) < 6 * found[4].stderr[0] + 0.005
    assert abs(found[0].confidence - float(sure.mean())) < 6 * found[0].stderr[0] + 0.005
    assert abs(truth - float(sure.mean())) > 0.02  # data have changed it
    with pytest.raises(InputError, match="0 to 4 labels"):
        after_labels(Target(net, prior=prior), data, x, (5,))
    with pytest.raises(InputError, match="more steps"):
        after_labels(Target(net, prior=prior), data, x, (4,), method=SMC(particles=20), steps=1)
