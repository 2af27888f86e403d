"""Laplace posteriors that are kept, far from their mode, or of networks with weights that are not used."""

from __future__ import annotations

import io
import multiprocessing
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.posteriors.laplace import offset

STRUCTURES = ("exact", "kron", "diag", "last_layer", "matrix_free")


def case() -> tuple[nv.Target, nv.Data]:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    with nv.networks.seeded(0):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return nv.Target(net), nv.Data(x, (x[:, 0] > 0).long())


def predicted(post: Any, x: Tensor) -> Tensor:
    return nv.predict(post, x, seed=3).mean()


def _elsewhere(sent: bytes, x: Tensor) -> Tensor:
    return predicted(pickle.loads(sent), x)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("members", [1, 2])
def test_posteriors_come_back_from_pickles_and_files(structure: Any, members: int) -> None:
    target, data = case()
    method = nv.Laplace(structure, check=False)
    post = nv.infer(nv.Ensemble(method, members=2) if members > 1 else method, target, data, steps=20, batch_size=16)
    expected = predicted(post, data.x[:4])
    torch.testing.assert_close(_elsewhere(pickle.dumps(post), data.x[:4]), expected)
    file = io.BytesIO()
    torch.save(post, file)
    file.seek(0)
    torch.testing.assert_close(predicted(torch.load(file, weights_only=False), data.x[:4]), expected)


def test_a_posterior_crosses_to_another_process() -> None:
    target, data = case()
    post = nv.infer(nv.Laplace("exact", check=False), target, data, steps=20, batch_size=16)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(_elsewhere, (pickle.dumps(post), data.x[:4]))
    torch.testing.assert_close(found, predicted(post, data.x[:4]))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.idle, self.last, self.spare = (
            nn.Linear(3, 4),
            nn.Linear(4, 5),
            nn.Linear(4, 2),
            nn.Linear(2, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


def test_weights_that_are_not_used_keep_their_prior_in_every_structure() -> None:
    _, data = case()
    with nv.networks.seeded(0):
        target = nv.Target(Unused(), prior=nv.Gaussian(4.0))
    params = target.params()
    values = {}
    for structure in ("exact", "kron", "diag", "matrix_free"):
        estimate = nv.evidence.Laplace(structure=structure)(target, data, params, seed=0)
        values[structure] = float(estimate)
        post = nv.posteriors.laplace_posterior(target, params, data, structure=structure, check=False)
        draws = post.sample(400, torch.Generator().manual_seed(0))
        # 6,000 draws of a standard deviation of 1/2: its error is .5 %, and 3 % six of them.
        assert float((draws["idle.weight"] - params["idle.weight"]).std()) == pytest.approx(0.5, rel=0.03)
    assert values["matrix_free"] == pytest.approx(values["exact"], abs=1.0)


def linear() -> tuple[nv.Target, nv.Data, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=rng).double()
    y = x @ torch.tensor([[1.0], [2.0], [0.0]]).double() + 0.3 * torch.randn(60, 1, generator=rng).double()
    target = nv.Target(nn.Linear(3, 1).double(), likelihood=nv.Normal(sigma=0.3), prior=nv.Gaussian(1.0))
    a = torch.cat([x, torch.ones(60, 1).double()], 1)
    precision = a.T @ a / 0.09 + torch.eye(4).double()
    mean = torch.linalg.solve(precision, a.T @ y / 0.09)[:, 0]
    target, data = target.prepare(nv.Data(x, y))
    return target, data, mean, precision


@pytest.mark.parametrize("structure", ["exact", "kron", "last_layer", "matrix_free"])
@pytest.mark.parametrize("size", [0.0, 0.1, 1.0])
def test_the_offset_is_the_mahalanobis_distance_from_the_mode(structure: Any, size: float) -> None:
    target, data, mean, precision = linear()
    moved = size * torch.tensor([1.0, -2.0, 0.5, 1.5]).double()
    w = mean + moved
    params = {"weight": w[:3].unsqueeze(0), "bias": w[3:]}
    post = nv.posteriors.laplace_posterior(target, params, data, structure=structure, check=False)
    found = offset(target, params, data, post.covariance, post.curvature.names, seed=0)
    expected = float(moved @ precision @ moved) ** 0.5
    rel = 0.4 if structure == "kron" else 1e-3  # its block of weight and bias is an approximation
    assert found == pytest.approx(expected, rel=rel, abs=1e-5)
    checked = nv.posteriors.laplace_posterior(target, params, data, structure=structure)
    assert any("no mode" in w for w in checked.warnings) == (size > 0)
