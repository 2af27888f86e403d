"""Targets: what they refuse, and the likelihood of examples by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.invariances import Custom
from novacula.likelihoods import Normal
from novacula.target import Copies, LogDensity, Target


@pytest.mark.parametrize("name", ["train", "evidence", "predict"])
def test_no_copy_at_all_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name} as a whole number of 1 or more; got 0\. Try: {name}=1"):
        Copies(**{name: 0})


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", ["temperature", "likelihood_temperature"])
def test_temperatures_that_are_none_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{name} as a finite number above zero; got {value}\. Try: {name}=1.0"):
        Target(nn.Linear(3, 2), **{name: value})  # type: ignore[arg-type]


def test_a_density_that_is_no_function_is_refused() -> None:
    with pytest.raises(InputError, match=r"a function of a dictionary of tensors; got a Tensor\. Try: pass it"):
        LogDensity(torch.zeros(()), {"a": torch.zeros(2)})  # type: ignore[arg-type]


def test_the_likelihood_of_examples_is_that_of_outputs_averaged_over_copies() -> None:
    """Of a linear network, whose outputs at shifted inputs are its outputs at their mean."""
    x = torch.tensor([[0.3, -1.0], [2.0, 0.5], [-0.7, 1.1]], dtype=torch.float64)
    y, w = torch.tensor([[0.2], [1.0], [-0.4]], dtype=torch.float64), torch.tensor([[0.8, -0.6]], dtype=torch.float64)
    shift = Custom(lambda x, u, eta: x + eta * u, eta=torch.tensor([0.9], dtype=torch.float64))
    target = Target(nn.Linear(2, 1, bias=False).double(), Normal(0.5), invariance=shift)
    found = target.log_likelihood({"weight": w}, x, y, 4, generator(3))
    inputs = target.warp(x, 4, generator(3))
    assert float((inputs - x.unsqueeze(1)).abs().max()) > 0.01
    gap = (y - inputs.mean(1) @ w.T)[:, 0]
    want = -0.5 * (gap / 0.5).square() - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12)
