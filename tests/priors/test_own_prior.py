"""A Gaussian prior of the user's own, written as a stranger would: one precision for each kind of tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.evidence import Laplace
from novacula.evidence.tuning.tune import tune
from novacula.likelihoods import Normal
from novacula.priors import FanIn, Prior, StudentT
from novacula.priors.restrict import restricted
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class PerKind(Prior):
    """``λ = exp(θ_0)`` of matrices, ``exp(θ_1)`` of vectors."""

    theta: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))

    learnable: ClassVar[tuple[str, ...]] = ("theta",)
    gaussian: ClassVar[bool] = True

    def log_prob(self, params: Params) -> Tensor:
        found = self.precision(params)
        normals = {k: torch.distributions.Normal(0.0, found[k].rsqrt()) for k in params}
        return torch.stack([normals[k].log_prob(w).sum() for k, w in params.items()]).sum()

    def precision(self, params: Params) -> Params:
        return {k: self.theta[0 if w.ndim > 1 else 1].exp().to(w.dtype) for k, w in params.items()}

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        found = self.precision(params)
        return {k: torch.randn(n, *w.shape, generator=rng).to(w) * found[k].rsqrt() for k, w in params.items()}


def test_tuning_moves_a_prior_of_ones_own_as_it_moves_ours() -> None:
    """Of one input a fan-in is 1, so that `FanIn` has the same precisions."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).unsqueeze(1)
    data, network = Data(x, 3 * x - 0.5 + 0.1 * torch.sin(40 * x)), nn.Linear(1, 1).double()
    start = {"weight": torch.tensor([[3.0]], dtype=torch.float64), "bias": torch.tensor([-0.5], dtype=torch.float64)}
    own, ours = (
        tune(Target(network, Normal(0.2), p), data, start, structure="diag", seed=0) for p in (PerKind(), FanIn())
    )
    assert float(own.evidence.value) == pytest.approx(float(ours.evidence.value), rel=1e-9)
    found = ours.target.prior.describe(start)
    assert own.target.prior.describe(start) == pytest.approx(found, rel=1e-6)
    assert found["weight"] != pytest.approx(1.0, rel=0.1)


def test_a_part_keeps_its_density_and_a_temperature_its_integral() -> None:
    prior = PerKind(torch.tensor([0.7, -0.4], dtype=torch.float64))
    w = {"a": torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    part = restricted(prior, {**w, "b": torch.ones(2).double()}, {"a": "part"})
    assert float(part.log_prob({"part": w["a"]})) == pytest.approx(float(prior.log_prob(w)), rel=1e-12)
    assert float(prior.log_partition(w, 1.0)) == pytest.approx(0.0, abs=1e-12)


@dataclass(frozen=True, eq=False)
class Boast(Prior):
    """Declared Gaussian: Student's t, a mean that is not zero, or a precision that is a percent off."""

    df: float = float("inf")
    mean: float = 0.0
    off: float = 1.0

    gaussian: ClassVar[bool] = True

    def log_prob(self, params: Params) -> Tensor:
        heavy = torch.isfinite(torch.tensor(self.df))
        unit = torch.distributions.StudentT(self.df) if heavy else torch.distributions.Normal(0, 1)
        return torch.stack([unit.log_prob(w - self.mean).sum() for w in params.values()]).sum()

    def precision(self, params: Params) -> Params:
        return {k: torch.tensor(self.off, dtype=w.dtype) for k, w in params.items()}

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        return {k: self.mean + torch.randn(n, *w.shape, generator=rng).to(w) for k, w in params.items()}


@pytest.mark.parametrize("wrong", [Boast(df=4.0), Boast(df=100.0), Boast(mean=0.1), Boast(off=1.01)])
def test_a_prior_that_is_not_what_it_is_declared_is_refused(wrong: Boast) -> None:
    """A t distribution with 100 degrees of freedom is the nearest of them to a Gaussian."""
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).unsqueeze(1)
    network, data = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double(), Data(x, x**2)
    target = Target(network, Normal(0.2), wrong)
    for refused in (lambda: Laplace()(target, data, target.params(), seed=0), lambda: nv.learn(target, data, epochs=1)):
        with pytest.raises(InputError, match=r"declared gaussian; got Boast.*take gaussian = True out"):
            refused()
    assert Target(network, Normal(0.2), Boast()).prepare(data)[1].n == 30


def test_precisions_that_move_with_the_weights_are_refused() -> None:
    """The Gaussian that touches a t distribution from below, in the place of its curvature."""
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).unsqueeze(1)

    @dataclass(frozen=True, eq=False)
    class Touching(Boast):
        def precision(self, params: Params) -> Params:
            return StudentT(df=5.0).precision(params)

    with pytest.raises(InputError, match="declared gaussian; got Touching"):
        Target(nn.Linear(1, 1).double(), Normal(0.2), Touching()).prepare(Data(x, x))
