"""Counts, whose predictive is no mixture of Gaussians: every number against sums over the counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import novacula as nv
from novacula.prediction import Predictive, conformal, evaluate
from novacula.prediction.scores.by_example import by_example
from strangers import Poisson

LOGS = torch.tensor([[[0.3], [2.0]], [[1.1], [2.6]], [[-0.4], [1.7]]], dtype=torch.float64)
RATES = LOGS[..., 0].exp().numpy()
COUNTS = np.arange(120)
SHARES = stats.poisson.pmf(COUNTS[:, None, None], RATES).mean(1)  # (counts, N)


def counts() -> Predictive:
    return Predictive(Poisson(), LOGS, "mixture")


def test_moments_and_quantiles() -> None:
    mean = (SHARES * COUNTS[:, None]).sum(0)
    var = (SHARES * (COUNTS[:, None] - mean) ** 2).sum(0)
    np.testing.assert_allclose(counts().mean()[:, 0], mean, rtol=1e-9)
    np.testing.assert_allclose(counts().variance()[:, 0], var, rtol=0.08)
    cdf = SHARES.cumsum(0)
    for p in (0.05, 0.5, 0.9):
        found = counts().quantile(p)[:, 0].numpy()
        assert (found == found.round()).all()
        # The share at or below it is at least p, and below it less, within the draws' own error.
        for i, q in enumerate(found.astype(int)):
            assert cdf[q, i] > p - 0.03
            assert q == 0 or cdf[q - 1, i] < p + 0.03


def test_scores_and_decisions() -> None:
    y = torch.tensor([[2.0], [9.0]], dtype=torch.float64)
    cdf = SHARES.cumsum(0)
    wanted = ((cdf - (COUNTS[:, None] >= y[:, 0].numpy())) ** 2).sum(0).mean()
    found = evaluate(counts(), y)
    assert found["crps"] == pytest.approx(wanted, rel=0.05)
    assert found["nll"] == pytest.approx(-np.log(SHARES[[2, 9], [0, 1]]).mean(), rel=1e-9)
    assert set(by_example(counts(), y)) >= {"nll", "rmse", "crps"}
    best = counts().decide("pinball", tau=0.8)
    gap = COUNTS[:, None] - best.value[:, 0].numpy()
    cost = (SHARES * np.maximum(0.8 * gap, -0.2 * gap)).sum(0)
    np.testing.assert_allclose(best.expected[:, 0], cost, rtol=0.05)
    chosen = counts().decide(lambda a, y: (y[..., 0] > a).double() + 0.1 * a, actions=[0.0, 2.0, 8.0])
    risk = [(SHARES * (COUNTS[:, None] > a)).sum(0) + 0.1 * a for a in (0.0, 2.0, 8.0)]
    np.testing.assert_allclose(chosen.expected.numpy().T, risk, atol=0.05)


def test_decisions_by_function_see_labels_in_their_own_units() -> None:
    none = torch.empty(0, dtype=torch.float64)
    scale = nv.Standardiser(none, none, torch.tensor([50.0]).double(), torch.tensor([4.0]).double())
    seen = counts().in_units(scale).decide(lambda a, y: (y[..., 0] - a).abs(), actions=[0.0])
    np.testing.assert_allclose(seen.expected[:, 0], 50 + 4 * counts().mean()[:, 0], rtol=0.02)


def test_entropies_are_sums_over_the_counts() -> None:
    total, aleatoric, epistemic = counts().entropy()
    each = stats.poisson(RATES).entropy().mean(0)
    whole = -(SHARES * np.log(np.maximum(SHARES, 1e-300))).sum(0)
    np.testing.assert_allclose(total, whole, atol=0.06)
    np.testing.assert_allclose(aleatoric, each, atol=0.06)
    np.testing.assert_allclose(epistemic, whole - each, atol=0.03)


def test_a_whole_run_of_counts(tmp_path: Path) -> None:
    """Learn, tune, predict, score, conformal intervals, save, report: as for any likelihood of the house."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(160, 2, generator=rng) * 2
    y = torch.poisson((0.4 + x[:, :1] - 0.3 * x[:, 1:]).exp(), generator=rng)
    data, test = nv.Data(x[:110], y[:110]), nv.Data(x[110:], y[110:])
    target = nv.Target(nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)), likelihood=Poisson())
    fit = nv.learn(target, data, epochs=60, seed=0)
    tuned = nv.evidence.tune(fit.target, data, fit.params, structure="exact", seed=0)
    assert tuned.gradient < 1e-6
    assert float(tuned.evidence.value) >= tuned.history[0] - 1e-9 >= float(fit.evidence.value) - 0.5
    found = nv.predict(fit.posterior, test.x)
    scores = evaluate(found, test.y)
    # The truth is the log-linear rate: no model of these inputs can do much better than it does.
    truth = -stats.poisson.logpmf(test.y.numpy(), (0.4 + test.x[:, :1] - 0.3 * test.x[:, 1:]).exp().numpy()).mean()
    assert scores["nll"] < truth + 0.15
    sets = found.conformal(0.2, nv.predict(fit.posterior, data.x), data.y)
    assert sets.coverage(test.y) > 0.6
    assert conformal.calibrate(found, test.y, alpha=0.2).score.name == "absolute"
    fit.save(tmp_path / "run", test=test)
    nv.report(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    back = nv.study.load_run(tmp_path / "run", target=target, data=data)
    torch.testing.assert_close(back.predict(test.x).mean(), found.mean())
