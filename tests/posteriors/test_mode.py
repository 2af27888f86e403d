"""Laplace posteriors whose weights are not at the mode say so, and go there on request."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import NovaculaWarning
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.inference import Laplace, infer
from novacula.likelihoods import Normal
from novacula.posteriors.laplace import LaplacePosterior, laplace_posterior
from novacula.priors import Gaussian
from novacula.target import Target

STRUCTURES = ["exact", "kron", "diag", "last_layer", "matrix_free"]


def linear(n: int = 40) -> tuple[Target, Data, Tensor, Tensor]:
    """A linear model with its posterior in closed form: mean and covariance of (weights, bias)."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [2.0], [0.0]]).double() + 0.3 * torch.randn(n, 1, generator=rng, dtype=torch.float64)
    target = Target(nn.Linear(3, 1).double(), likelihood=Normal(sigma=0.3), prior=Gaussian(2.0))
    a = torch.cat([x, torch.ones(n, 1).double()], 1)
    cov = torch.linalg.inv(a.T @ a / 0.09 + 2 * torch.eye(4).double())
    data = Data(x, y)
    bound, data = target.prepare(data)
    return bound, data, (cov @ a.T @ y / 0.09)[:, 0], cov


def weights(v: Tensor) -> Params:
    return {"weight": v[:3].unsqueeze(0), "bias": v[3:]}


@pytest.mark.parametrize("structure", ["exact", "last_layer", "matrix_free"])
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_the_distance_is_that_of_the_closed_form(structure: Any, temperature: float) -> None:
    target, data, mean, cov = linear()
    off = torch.tensor([0.3, -0.2, 0.1, 0.4]).double()
    true = math.sqrt(float(off @ torch.linalg.solve(cov, off)))
    with pytest.warns(NovaculaWarning, match="posterior deviations from the mode"):
        post = laplace_posterior(target, weights(mean + off), data, structure=structure, temperature=temperature)
    assert post.distance is not None
    assert post.distance == pytest.approx(true, rel=1e-2 if structure == "matrix_free" else 1e-6)
    assert f" {post.distance / temperature**0.5:.3g} posterior deviations" in "".join(post.warnings)
    at = laplace_posterior(target, weights(mean), data, structure=structure)
    assert at.distance == pytest.approx(0, abs=1e-6)
    assert not at.away()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_run_that_stops_early_says_so_and_settles_on_request(structure: Any) -> None:
    target, data, mean, cov = linear()
    with pytest.warns(NovaculaWarning, match=rf"{structure}: the weights are .* Train longer"):
        post = infer(Laplace(structure), target, data, steps=20, seed=0)
    assert any("from the mode" in said for said in post.warnings)
    settled = infer(Laplace(structure, settle=True), target, data, steps=20, seed=0)
    assert not any("from the mode" in said for said in settled.warnings)
    assert isinstance(settled, LaplacePosterior)
    mode = settled.mode
    z = (torch.cat([mode["weight"].flatten(), mode["bias"]]) - mean) / cov.diag().sqrt()
    assert float(z.abs().max()) < 0.15


def test_settling_lowers_the_energy_of_a_network() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 3)
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    target, data = Target(net).prepare(Data(x, (x[:, 0] * x[:, 1] > 0).long()))
    for structure in STRUCTURES:
        post = laplace_posterior(target, target.params(), data, structure=structure, settle=True)  # type: ignore[arg-type]
        before = laplace_posterior(target, target.params(), data, structure=structure)  # type: ignore[arg-type]
        assert post.distance is not None
        assert before.distance is not None
        assert post.distance < min(1.0, before.distance)
