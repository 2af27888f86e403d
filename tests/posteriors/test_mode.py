"""Laplace posteriors whose weights are not at the mode say so, and go there on request."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from novacula import evidence
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


@pytest.mark.parametrize("structure", ["exact", "last_layer", "matrix_free"])
def test_draws_of_the_posterior_are_at_a_ratio_of_one(structure: Any) -> None:
    # With the columns of a root of the covariance in place of draws the mean is exact: Σ_i r_i² = tr(H Σ) / tr(H Σ).
    target, data, mean, cov = linear()
    a = torch.cat([data.x, torch.ones(data.n, 1).double()], 1)
    h, total = a.T @ a / 0.09, 0.0
    for off in torch.linalg.cholesky(cov).T:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NovaculaWarning)
            gap = laplace_posterior(target, weights(mean + off), data, structure=structure).gap
        assert gap is not None
        closed = math.sqrt(float(off @ h @ off) / float((h @ cov).trace()))
        assert gap.ratio == pytest.approx(closed, rel=5e-2 if structure == "matrix_free" else 1e-6)
        total += gap.ratio**2
    assert total == pytest.approx(1, rel=5e-2 if structure == "matrix_free" else 1e-6)


@pytest.mark.parametrize("structure", ["exact", "last_layer"])
def test_the_ratio_of_a_large_matrix_is_told_by_probes(structure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By sixteen: of the four weights of the line, of which 3.9 are determined, the ratio is known within 3 %."""
    target, data, mean, _ = linear()
    off = torch.tensor([0.3, -0.2, 0.1, 0.4]).double()
    found = []
    for large in (1_000, 1):
        monkeypatch.setattr("novacula.posteriors.mode._LARGE", large)
        with pytest.warns(NovaculaWarning, match="posterior deviations from the mode"):
            gap = laplace_posterior(target, weights(mean + off), data, structure=structure).gap
        assert gap is not None
        found.append(gap)
        said = evidence.Laplace(structure)(target, data, weights(mean + off), seed=0).warnings
        assert not said  # exact for a linear model, at whatever weights
    assert found[1].ratio == pytest.approx(found[0].ratio, rel=0.03)
    assert found[1].ratio != found[0].ratio
    assert found[1].distance == found[0].distance


def wide() -> tuple[Target, Data, Tensor, Tensor]:
    """400 weights and 20 rows: the data determine few of the weights."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(20, 400, generator=rng, dtype=torch.float64) / 20
    y = x @ torch.randn(400, 1, generator=rng, dtype=torch.float64)
    net = nn.Linear(400, 1, bias=False).double()
    target, data = Target(net, likelihood=Normal(sigma=0.3), prior=Gaussian(1.0)).prepare(Data(x, y))
    h = x.T @ x / 0.09
    return target, data, h, torch.linalg.inv(h + torch.eye(400).double())


def test_untrained_weights_are_found_however_many_the_data_leave_to_the_prior() -> None:
    target, data, h, cov = wide()
    gradient = -(data.x.T @ data.y / 0.09)[:, 0]
    step = cov @ gradient
    distance = math.sqrt(float(gradient @ step))
    ratio = math.sqrt(float(step @ h @ step) / float((h @ cov).trace()))
    assert distance < math.sqrt(400)  # nearer than the draws of the posterior are, in all weights together
    assert ratio > 2
    said = f"exact: the weights are {distance:.3g} posterior deviations .* {ratio:.2g} times as far"
    with pytest.warns(NovaculaWarning, match=said):
        laplace_posterior(target, {"weight": torch.zeros(1, 400).double()}, data, structure="exact")
    mode = laplace_posterior(target, {"weight": -step.unsqueeze(0)}, data, structure="exact")
    assert not mode.away()


def trained(net: nn.Module, data: Data, steps: int) -> nn.Module:
    """By a loop of a person's own, with the prior as a penalty."""
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        penalty = sum(w.square().sum() for w in net.parameters()) / (2 * data.n)
        (nn.functional.cross_entropy(net(data.x), data.y) + penalty).backward()
        optimiser.step()
    return net.eval()


@pytest.mark.parametrize("kind", ["mlp", "batch norm"])
def test_networks_are_told_apart_by_their_training(kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 6)
    data = Data(x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).long())
    norm = nn.BatchNorm1d(150) if kind == "batch norm" else nn.Identity()
    net = nn.Sequential(nn.Linear(6, 150), norm, nn.Tanh(), nn.Linear(150, 2))
    found = []
    for steps in (0, 400):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            post = laplace_posterior(Target(trained(net, data, steps)), Target(net).params(), data)
        assert post.gap is not None
        found.append(post.gap.ratio)
        assert any("from the mode" in str(w.message) for w in caught) == (post.gap.ratio > 1)
        score = evidence.Laplace("kron", repeats=1)(Target(net), data, Target(net).params(), seed=0)
        assert any("from the mode" in said for said in score.warnings) == (post.gap.ratio > 1)
    assert found[0] > 2
    assert found[1] < 0.7


def test_the_evidence_says_what_the_distance_costs() -> None:
    # The structure has no exact peak to go to, so that a value off the mode is lower by d²/2; Lanczos is exact here.
    target, data, mean, cov = linear()
    off = torch.tensor([0.3, -0.2, 0.1, 0.4]).double()
    loss = float(off @ torch.linalg.solve(cov, off)) / 2
    score = evidence.Laplace("matrix_free", repeats=1)
    at, there = (score(target, data, weights(w), seed=0) for w in (mean, mean + off))
    assert float(at) - float(there) == pytest.approx(loss, rel=1e-6)
    assert not any("from the mode" in said for said in at.warnings)
    assert any(said.endswith(f"too low, by about {loss:.3g} nats") for said in there.warnings)
    assert "in .warnings" in repr(there)


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
