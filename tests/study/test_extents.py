"""Extents without an example, against the evidence in closed form, maximised anew without each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

import novacula as nv
from novacula import InputError
from novacula.evidence.laplace import newton_step, stream_of
from novacula.study.extents import _added
from novacula.target.given import prepared

SIGMA, PRECISION, N = 0.4, 2.0, 80


class Features(nn.Module):
    """Functions of the plane that turning and stretching change."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.unbind(1)
        return torch.stack([a, b, a * b, a.square() - b.square(), (a.square() + b.square()).sqrt(), torch.sin(a)], 1)


def moved(x: Tensor, noise: Tensor, eta: Tensor) -> Tensor:
    """Turned by one extent, and stretched by the other."""
    angle, size = eta[0] * noise[:, 0], (eta[1] * noise[:, 1]).exp()
    a, b = x.unbind(1)
    return torch.stack([size * (angle.cos() * a - angle.sin() * b), size * (angle.sin() * a + angle.cos() * b)], 1)


def case(eta: list[float]) -> tuple[nv.Target, nv.Data]:
    """Measurements of a function that is nearly invariant, and a network that is linear in its weights."""
    rng = torch.Generator().manual_seed(4)
    x = torch.randn(N, 2, generator=rng).double()
    radius = x.norm(dim=1, keepdim=True)
    y = torch.cat([radius.log(), 0.5 * radius + 0.3 * x[:, :1]], 1) + SIGMA * torch.randn(N, 2, generator=rng).double()
    net = nn.Sequential(Features(), nn.Linear(6, 2, bias=False)).double()
    turn = nv.invariances.Custom(moved, torch.tensor(eta).double(), names=("turn", "size"), unit=torch.ones(2).double())
    likelihood, prior = nv.Normal(sigma=SIGMA), nv.Gaussian(precision=PRECISION)
    return nv.Target(net, likelihood, prior, invariance=turn, copies=nv.Copies(8, 8, 8)), nv.Data(x, y)


def evidence(target: nv.Target, data: nv.Data, eta: Tensor, left: int | None = None) -> Tensor:
    """``log N(y; 0, σ² + Φ Φᵀ/λ)`` of both outputs, of all examples or of all but one; the copies of each stay."""
    bound, rows = prepared(target.with_learnable({"invariance.eta": eta}), data)
    problem = bound.problem(bound.params(), rows, seed=stream_of(0, 0))
    ((xs, y),) = problem.batches()
    phi = Features()(xs.flatten(0, 1)).unflatten(0, xs.shape[:2]).mean(1)
    kept = torch.arange(N) != (N if left is None else left)
    covariance = phi[kept] @ phi[kept].T / PRECISION + SIGMA**2 * torch.eye(int(kept.sum())).double()
    normal = torch.distributions.MultivariateNormal(torch.zeros(len(covariance)).double(), covariance)
    return normal.log_prob(y[kept].T).sum()


def highest(target: nv.Target, data: nv.Data, start: Tensor, left: int | None = None) -> Tensor:
    """Where the evidence is highest, by its gradient."""

    def negative(eta: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.tensor(eta, requires_grad=True)
        value = -evidence(target, data, leaf, left)
        return value.item(), torch.autograd.grad(value, leaf)[0].numpy()

    return torch.tensor(minimize(negative, start.numpy(), jac=True, tol=1e-10).x)


def test_extents_move_as_those_that_are_learned_anew_without_each_example() -> None:
    target, data = case([1.6, 0.3])
    best = highest(target, data, torch.tensor([1.6, 0.3]).double())
    assert float(best.min()) > 0.1
    target = target.with_learnable({"invariance.eta": best})
    found = nv.study.extent_influence(target, data, None, step=0.01)
    truth = torch.stack([highest(target, data, best, n) - best for n in range(N)], 1)
    # What a step of Newton leaves out is of second order: most where an example moves extents by a width or so.
    for k in range(2):
        assert np.corrcoef(found.values[k].numpy(), truth[k].numpy())[0, 1] > 0.98
        assert float((found.values[k] * truth[k]).sum() / found.values[k].square().sum()) == pytest.approx(1, abs=0.1)
    leaf = best.clone()
    hessian = torch.autograd.functional.hessian(lambda eta: evidence(target, data, eta), leaf)
    torch.testing.assert_close(found.stderr, torch.linalg.inv(-hessian).diagonal().sqrt(), rtol=0.02, atol=0)
    assert float(found.away.abs().max()) < 0.05
    assert found.warnings == ()


def test_what_an_example_adds_is_the_difference_of_evidences() -> None:
    target, data = case([1.6, 0.3])
    bound, rows = prepared(target, data)
    weights = newton_step(bound, rows, bound.params(), seed=0)
    eta = bound.learnable()["invariance.eta"]
    wanted = torch.stack([evidence(target, data, eta) - evidence(target, data, eta, n) for n in range(N)])
    torch.testing.assert_close(_added(bound, rows, weights, 0), wanted, rtol=1e-8, atol=1e-9)


def test_extents_that_stay_and_what_is_refused() -> None:
    target, data = case([1.55, 0.01])
    found = nv.study.extent_influence(target, data, None, step=0.02)
    assert found.names == ("turn", "size")
    assert bool((found.values[1] == 0).all())
    assert bool(found.stderr[1].isnan())
    assert any("widths from the maximum" in w for w in found.warnings)
    with pytest.raises(InputError, match="a maximum of the evidence"):
        nv.study.extent_influence(case([1.2, 0.01])[0], data, None)
    with pytest.raises(InputError, match="an extent that may move"):
        nv.study.extent_influence(case([0.01, 0.0])[0], data, None)
    with pytest.raises(InputError, match="a target with an invariance"):
        nv.study.extent_influence(nv.Target(target.network, target.likelihood), data, None)
    tempered = nv.Target(target.network, target.likelihood, invariance=target.invariance, temperature=0.5)
    with pytest.raises(InputError, match="a tempered one"):
        nv.study.extent_influence(tempered, data, None)
