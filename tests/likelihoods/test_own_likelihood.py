"""Likelihoods written as a stranger would: a Poisson against sums over counts, and ones that are not what they say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.evidence import Laplace, tune
from novacula.likelihoods import Likelihood, Normal
from novacula.target import Target
from strangers import Poisson


def test_density_and_fisher_information_are_the_known_ones() -> None:
    f, counts = torch.tensor([[0.3], [1.2]], dtype=torch.float64), torch.arange(80, dtype=torch.float64)
    assert (Poisson.loss, Poisson.task) == ("poisson", "regression")
    for row in f:
        wide = row.expand(80, 1)
        log = Poisson().log_prob(wide, counts[:, None])
        np.testing.assert_allclose(log, scipy.stats.poisson.logpmf(counts, row.exp().numpy()), rtol=1e-9)
        score = counts - row.exp()
        root = Poisson().factor(wide[:1], counts[:1, None])[0]
        torch.testing.assert_close((log.exp() * score.square()).sum(), (root @ root.T)[0, 0])


def test_what_only_gaussian_noise_has_is_refused() -> None:
    for ask in (lambda: Poisson().log_noise(1), lambda: Poisson().scaled(0.5)):
        with pytest.raises(InputError, match=r"a likelihood with Gaussian noise; got Poisson\. Try: use Normal"):
            ask()


def test_laplace_evidence_is_near_the_integral() -> None:
    """One weight: the integral by a sum over a grid."""
    x = torch.linspace(0.5, 1.5, 40, dtype=torch.float64).unsqueeze(1)
    y = torch.poisson(x.exp(), generator=torch.Generator().manual_seed(0))
    target, data = Target(nn.Linear(1, 1, bias=False).double(), Poisson()), Data(x, y)
    grid = torch.linspace(-4, 4, 8_001, dtype=torch.float64)
    logs = Poisson().log_prob((x * grid).T.reshape(-1, 1), y.repeat(8_001, 1)).reshape(8_001, 40).sum(1)
    logs = logs - grid.square() / 2 - np.log(2 * np.pi) / 2
    want = float(logs.logsumexp(0) + np.log(1e-3))
    found = Laplace("exact")(target, data, {"weight": grid[logs.argmax()].reshape(1, 1)}, seed=0)
    assert abs(float(found.value) - want) < 0.02


@dataclass(frozen=True, eq=False)
class Noise(Likelihood):
    """``y = f + σ ε`` with ε Gaussian, or Student's t with ν degrees of freedom; declared quadratic whichever it is."""

    log_sigma: Tensor = field(default_factory=lambda: torch.tensor(-0.5, dtype=torch.float64))
    df: float = np.inf
    told: float = 0.0  # how far the noise that it states is from its own
    known: float = 0.0  # and how far that of its factor

    learnable: ClassVar[tuple[str, ...]] = ("log_sigma",)
    quadratic: ClassVar[bool] = True

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        z = (y - f) * (-self.log_sigma).exp()
        unit = torch.distributions.Normal(0, 1) if np.isinf(self.df) else torch.distributions.StudentT(self.df)
        return (unit.log_prob(z) - self.log_sigma).sum(-1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.diag_embed((self.known - self.log_sigma).exp().expand_as(f))

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        return f + self.log_sigma.exp() * torch.randn(f.shape, generator=rng, dtype=f.dtype)

    def mean(self, f: Tensor) -> Tensor:
        return f

    def log_noise(self, outputs: int) -> Tensor:
        return self.log_sigma + self.told

    def scaled(self, log_factor: float) -> Noise:
        return replace(self, log_sigma=self.log_sigma.detach() + log_factor)


@dataclass(frozen=True, eq=False)
class Boast(Poisson):
    """Counts that are declared quadratic."""

    quadratic: ClassVar[bool] = True


def some() -> tuple[nn.Module, Data, dict[str, Tensor]]:
    x = torch.linspace(-1, 2, 40, dtype=torch.float64).reshape(20, 2)
    weights = {"weight": torch.tensor([[1.5, -0.5]]).double(), "bias": torch.tensor([0.3]).double()}
    return nn.Linear(2, 1).double(), Data(x, x @ weights["weight"].T + torch.sin(9 * x[:, :1])), weights


def test_gaussian_noise_of_ones_own_is_tuned_as_ours_is() -> None:
    network, data, weights = some()
    own, ours = (
        tune(Target(network, likelihood), data, weights, structure="exact", seed=0)
        for likelihood in (Noise(), Normal(log_sigma=torch.tensor(-0.5, dtype=torch.float64)))
    )
    assert float(own.evidence.value) == pytest.approx(float(ours.evidence.value), rel=1e-10)
    assert own.factors == pytest.approx(ours.factors, rel=1e-9)
    assert own.factors["noise"] != pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("wrong", [Noise(df=3.0), Noise(df=100.0), Noise(told=0.01), Noise(known=0.01)])
def test_noise_that_is_not_what_it_is_declared_is_refused(wrong: Noise) -> None:
    """A t distribution with 100 degrees of freedom is the nearest of them to a Gaussian; noise, one percent off."""
    network, data, weights = some()
    target = Target(network, wrong)
    for refused in (
        lambda: tune(target, data, weights, structure="exact", seed=0),
        lambda: Laplace("exact")(target, data, weights, seed=0),
        lambda: nv.learn(target, data, epochs=1),
    ):
        with pytest.raises(InputError, match=r"declared quadratic; got Noise.*take quadratic = True out"):
            refused()


def test_labels_far_from_zero_accuse_no_likelihood() -> None:
    """A step of σ = 1 is lost beside 1e18, which says nothing of the density."""
    network, data, _ = some()
    far = data.with_values(data.x, data.y + 1e18)
    assert Target(network, Normal()).prepare(far)[1].y.min() > 9e17
    with pytest.raises(InputError, match=r"declared quadratic; got Noise"):
        Target(network, Noise(df=3.0)).prepare(far)


def test_a_head_of_means_and_spreads_is_told_its_likelihood() -> None:
    network, data, _ = some()
    double = torch.nn.Sequential(network, torch.nn.Linear(data.y.shape[1], 2 * data.y.shape[1]).double())
    with pytest.raises(InputError, match=r"Try: likelihood=nv\.HeteroscedasticNormal\(\)"):
        Target(double, Normal()).prepare(data)


def test_counts_that_are_declared_gaussian_are_refused() -> None:
    network, data, _ = some()
    with pytest.raises(InputError, match=r"with Gaussian noise; got Boast.*log_noise and scaled"):
        Target(network, Boast()).prepare(data.with_values(data.x, data.y.abs().round()))
