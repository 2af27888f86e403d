"""Solving for prior and noise: the maximum of the closed form, in any units."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.data.standardise import Standardiser
from novacula.study.learning.solve import Solver, unsolved


def linear(n: int, noise: float, outputs: int = 1) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64) + torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64)
    f = x @ torch.randn(3, outputs, generator=rng, dtype=torch.float64)
    return x, f / f.std(0) + noise * torch.randn(n, outputs, generator=rng, dtype=torch.float64)


def closed_form(log: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    # Log precisions of weights and bias, and the logarithm of σ; in the space of weights.
    a = np.concatenate([x, np.ones((len(x), 1))], 1)
    prior, variance = np.exp(log[[0, 0, 0, 1]]), np.exp(2 * log[2])
    h = a.T @ a / variance + np.diag(prior)
    w = np.linalg.solve(h, a.T @ y / variance)
    distance = np.square(y - a @ w).sum() / variance + prior @ w**2
    volume = np.linalg.slogdet(h)[1] - np.log(prior).sum() + len(y) * np.log(2 * np.pi * variance)
    return float(-(distance + volume) / 2)


@pytest.mark.parametrize(("n", "noise"), [(20, 1.0), (20, 1e-2), (500, 1e-3), (2_000, 1e-4), (2_000, 0.3)])
def test_a_linear_model_ends_at_the_maximum_of_its_closed_form(n: int, noise: float) -> None:
    """Noise and the weights' precision within 1 %, the evidence within half a nat.

    In standard units the bias is nothing, and its precision has no finite maximum; it enters by what was found.
    """
    x, y = linear(n, noise)
    data = nv.Data(x, y)
    data = Standardiser.fit(data).apply(data)
    with nv.networks.seeded(0):
        net = nn.Linear(3, 1).double()
    fit = nv.learn(nv.Target(net, likelihood=nv.Normal()), data, epochs=4, folds=0)
    precision = fit.target.prior.precision(fit.params)
    mine = np.log([float(precision["weight"]), float(precision["bias"]), float(fit.target.likelihood.sigma)])  # type: ignore[attr-defined]
    inputs, labels = data.x.numpy(), data.y[:, 0].numpy()
    best = scipy.optimize.minimize(
        lambda v: -closed_form(np.array([v[0], mine[1], v[1]]), inputs, labels),
        mine[[0, 2]],
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-9},
    )
    np.testing.assert_allclose(mine[[0, 2]], best.x, atol=0.01)
    assert float(fit.evidence) == pytest.approx(-best.fun, abs=0.5)
    entry = fit.hyper["noise"]
    assert entry["converged"]
    assert entry["interval"][0] < entry["value"] < entry["interval"][1]


@pytest.mark.parametrize(("a", "c"), [(1e6, 1e-6), (1e-6, 1e6), (1e3, 1e3)])
def test_nothing_depends_on_units(a: float, c: float) -> None:
    """Of inputs and of two targets of different size: predictions, noise and evidence follow."""
    x, y = linear(60, 0.2, outputs=2)
    y = y * torch.tensor([1.0, 40.0], dtype=torch.float64)

    def fit(x: Tensor, y: Tensor) -> nv.LearnResult:
        with nv.networks.seeded(0):
            net = nn.Linear(3, 2).double()
        return nv.learn(nv.Target(net, likelihood=nv.Normal()), nv.Data(x, y), epochs=4, folds=0)

    one, other = fit(x, y), fit(a * x + 3 * a, c * y - 2 * c)
    p, q = nv.predict(one.posterior, x[:9]), nv.predict(other.posterior, a * x[:9] + 3 * a)
    torch.testing.assert_close((q.mean() + 2 * c) / c, p.mean(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(q.variance() / c**2, p.variance(), rtol=1e-3, atol=0)
    sigma = [f.target.likelihood.sigma for f in (one, other)]  # type: ignore[attr-defined]
    torch.testing.assert_close(sigma[1] / c, sigma[0], rtol=1e-3, atol=0)
    assert sigma[0].shape == (2,)
    assert float(other.evidence) == pytest.approx(float(one.evidence) - 120 * np.log(c), abs=0.05)


def test_a_run_in_units_of_its_own_is_saved_and_read(tmp_path: object) -> None:
    x, y = linear(40, 0.2)
    data = nv.Data(1e3 * x, 1e-3 * y)
    with nv.networks.seeded(0):
        net = nn.Linear(3, 1).double()
    target = nv.Target(net, likelihood=nv.Normal())
    fit = nv.learn(target, data, epochs=200)
    record = fit.save(str(tmp_path))
    assert record["out_of_fold"]["rmse"] < 1e-3
    assert record["hyper"]["noise"]["value"] == pytest.approx(float(fit.target.likelihood.sigma))  # type: ignore[attr-defined]
    again = nv.study.load_run(str(tmp_path), target=target, data=data)
    torch.testing.assert_close(again.predict(data.x).mean(), nv.predict(fit.posterior, data.x).mean())


def test_what_cannot_be_solved_for_moves_by_gradient() -> None:
    solver, net = Solver(), nn.Linear(3, 1)
    normal, names = nv.Target(net, likelihood=nv.Normal()), ("prior.log_precision", "likelihood.log_sigma")
    assert unsolved(solver, normal, names) == ()
    heavy = nv.Target(net, likelihood=nv.Normal(), prior=nv.StudentT())
    assert unsolved(solver, heavy, ("prior.log_scale", "likelihood.log_sigma")) == (
        "prior.log_scale",
        "likelihood.log_sigma",
    )
    assert unsolved(solver.learning(("likelihood",)), normal, names) == ("prior.log_precision",)
    assert unsolved(solver, nv.Target(nn.Linear(3, 2)), ("invariance.eta",)) == ("invariance.eta",)


def test_images_and_signals_keep_their_zero() -> None:
    rng = torch.Generator().manual_seed(0)
    for x, size in (
        (255 * torch.rand(8, 1, 4, 4, generator=rng), 255.0),
        (torch.randn(8, 2, 9, generator=rng) * 40, 40.0),
    ):
        net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2))
        fit = nv.learn(nv.Target(net), nv.Data(x, torch.arange(8) % 2), epochs=1, folds=0)
        units = fit.target.forward.units
        assert units.x_mean.tolist() == [0.0]
        assert float(units.x_sd) == pytest.approx(size, rel=0.2)
        assert not units.y_sd.numel()
