"""Multiplied precisions, where the numbers behind them are found by differentiation; and priors where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors import FanIn, Gaussian, Prior
from novacula.priors.multiply import groups, handles, multiplied

W: Params = {"a": torch.ones(3, 2).double(), "b": torch.ones(3).double(), "c": torch.ones(2, 3).double()}


@dataclass(frozen=True, eq=False)
class Made(Prior):
    """A prior whose precisions are any function of two numbers."""

    rule: Callable[[Tensor], Tensor]
    theta: Tensor = field(default_factory=lambda: torch.tensor([0.4, 1.5], dtype=torch.float64))

    learnable: ClassVar[tuple[str, ...]] = ("theta",)
    gaussian: ClassVar[bool] = True

    def log_prob(self, params: Params) -> Tensor:
        raise NotImplementedError

    def precision(self, params: Params) -> Params:
        return dict.fromkeys(params, self.rule(self.theta))

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("prior", "slopes", "together"),
    [
        (Gaussian(2.5).bind(W), [1.0, 1.0, 1.0], [("a",), ("b",), ("c",)]),
        (Gaussian(2.5, per="all"), [1.0, 1.0, 1.0], [("a", "b", "c")]),
        (FanIn(1.4, 0.3), [-2.0, -2.0, -2.0], [("a", "c"), ("b",)]),
        (Made(lambda t: torch.exp(3 * t[1])), [3.0, 3.0, 3.0], [("a", "b", "c")]),
    ],
    ids=["gaussian", "isotropic", "fan-in", "own"],
)
def test_precisions_are_multiplied_by_what_is_asked(
    prior: Prior, slopes: list[float], together: list[tuple[str, ...]]
) -> None:
    found = handles(prior, W)
    assert [found[k].slope for k in W] == slopes
    assert groups(found, list(W)) == together
    logs = {k: 0.3 + 0.5 * i for i, several in enumerate(together) for k in several}
    values = multiplied(prior, W, found, logs)
    before = prior.precision(W)
    after = replace(prior, **values).precision(W)  # type: ignore[type-var]
    for k in W:
        assert float(after[k] / before[k]) == pytest.approx(float(torch.tensor(logs[k]).exp()), rel=1e-5)


def test_a_precision_of_no_number_or_of_two_is_refused() -> None:
    with pytest.raises(InputError, match=r"one learnable number behind the precision of a; got 2 of them in Made"):
        handles(Made(lambda t: torch.exp(t[0] + t[1])), W)
    with pytest.raises(InputError, match=r"0 of them in Made. Try: learn it by gradient: nv.learn"):
        handles(Made(lambda t: torch.ones(()).double()), W)
    with pytest.raises(InputError, match=r"0 of them in Made"):
        handles(Made(lambda t: torch.exp(0 * t[0])), W)


def test_a_precision_that_is_no_exponential_is_refused() -> None:
    """``λ = θ²`` has ``d log λ/dθ = 2/θ``, which moves with θ: so that a step in θ does not multiply as it should."""
    prior = Made(lambda t: t[0].square())
    found = handles(prior, W)
    assert found["a"].slope == pytest.approx(2 / 0.4)
    with pytest.raises(InputError, match="exponentials of the learnable numbers; got another function for a in Made"):
        multiplied(prior, W, found, {"a": 0.5})
