"""Soft labels: every number is the average over hard labels that they stand for; and the Dirichlet model of the logits.

Nothing is drawn but from fixed seeds, and no check is stochastic, but for the coverage of sets by e-values, whose
false-alarm rate is stated there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import integrate, stats
from torch.autograd.functional import hessian as hessian_of

import novacula as nv
from novacula.data.folds import folds_of
from novacula.likelihoods import Categorical, Dirichlet
from novacula.prediction import Predictive, evaluate
from novacula.prediction.conformal import e_sets, e_values
from novacula.prediction.scores.by_example import by_example


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _soft(n: int, c: int, seed: int = 0) -> torch.Tensor:
    votes = torch.randint(0, 4, (n, c), generator=_rng(seed)).double() + torch.eye(c).repeat(n, 1)[:n]
    return votes / votes.sum(1, keepdim=True)


def _normal(m: float, s: float) -> Callable[[float], float]:
    return lambda z: math.exp(-(((z - m) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))


def test_the_log_likelihood_of_votes_is_that_of_the_votes_one_by_one() -> None:
    f = torch.randn(4, 3, generator=_rng(), dtype=torch.float64)
    votes = torch.tensor([[2, 1, 0], [0, 0, 3], [1, 1, 1], [0, 3, 0]])
    one_by_one = torch.stack([Categorical().log_prob(f, torch.full((4,), c)) for c in range(3)], 1)
    expected = (votes * one_by_one).sum(1) / 3
    torch.testing.assert_close(Categorical().log_prob(f, votes / 3.0), expected)


def test_a_label_for_certain_is_the_hard_label() -> None:
    f = torch.randn(5, 3, generator=_rng(), dtype=torch.float64)
    y = torch.tensor([0, 2, 1, 1, 0])
    one_hot = torch.nn.functional.one_hot(y, 3).double()
    for likelihood in (Categorical(), Dirichlet(0.1)):
        torch.testing.assert_close(likelihood.log_prob(f, one_hot), likelihood.log_prob(f, y))
        torch.testing.assert_close(likelihood.factor(f, one_hot), likelihood.factor(f, y))
    sure = torch.tensor([[0.0, -math.inf, -math.inf]], dtype=torch.float64)
    assert float(Categorical().log_prob(sure, torch.tensor([[1.0, 0.0, 0.0]]))) == 0.0


def test_the_factor_is_the_root_of_the_hessian() -> None:
    f, y = torch.randn(3, 4, generator=_rng(1), dtype=torch.float64), _soft(3, 4)
    for likelihood in (Categorical(), Dirichlet(0.3)):
        whole = hessian_of(lambda g, one=likelihood: -one.log_prob(g, y).sum(), f)
        assert isinstance(whole, torch.Tensor)
        hessian = torch.stack([whole[i, :, i] for i in range(3)])
        factor = likelihood.factor(f, y)
        torch.testing.assert_close(factor @ factor.mT, hessian)


def test_scores_are_expected_over_labels() -> None:
    f, q = torch.randn(2, 6, 3, generator=_rng(), dtype=torch.float64), _soft(6, 3)
    predictive = Predictive(Categorical(), f, "mixture")
    # All labelings, each with its probability.
    labelings = torch.cartesian_prod(*[torch.arange(3)] * 6)
    weights = q[torch.arange(6), labelings].prod(1)
    each = [evaluate(predictive, y) for y in labelings[weights > 0]]
    found, single = evaluate(predictive, q), by_example(predictive, q)
    for name in ("accuracy", "nll", "brier", "aurc"):
        expected = sum(float(w) * s[name] for w, s in zip(weights[weights > 0], each, strict=True))
        assert found[name] == pytest.approx(expected, abs=1e-9), name
        if name in single:
            assert float(single[name].mean()) == pytest.approx(expected, abs=1e-9)


def test_data_take_probabilities_and_say_so() -> None:
    x, y = torch.randn(30, 2, generator=_rng()), _soft(30, 3)
    with pytest.warns(nv.NovaculaWarning, match="taken as probabilities of classes"):
        data = nv.Data(x, y)
    assert data.task == "classification"
    assert data.y.shape == (30, 3)
    assert data.y.dtype == x.dtype
    assert "3 classes" in data.meaning[0]
    assert nv.Data(x, y, task="regression").task == "regression"
    named = nv.Data(x, y, task="classification", classes=["a", "b", "c"])
    assert named.classes == ("a", "b", "c")
    with pytest.raises(nv.InputError, match="sum of 3 in row 0"):
        nv.Data(x, 3 * y, task="classification")
    with pytest.raises(nv.InputError, match="3 class names"):
        nv.Data(x, y, task="classification", classes=["a", "b"])
    # Folds and strata hold the most probable classes in proportion.
    counts = torch.stack([y[folds_of(data) == k].argmax(1).bincount(minlength=3) for k in range(3)])
    assert int((counts.amax(0) - counts.amin(0)).max()) <= 1
    assert data.split(0.5, stratify=True)[0].n == 15


def test_a_network_learns_from_votes_and_is_calibrated_by_them() -> None:
    # Six inputs, each with the shares of its votes: with a flat prior the fit is the shares themselves.
    x, y = torch.eye(6).repeat(4, 1), _soft(6, 3).float().repeat(4, 1)
    data = nv.Data(x, y, task="classification")
    target = nv.Target(torch.nn.Linear(6, 3), Categorical(), prior=nv.Gaussian(1e-6))
    point = nv.infer(nv.MAP(lr=0.1), target, data, epochs=400, seed=0)
    torch.testing.assert_close(nv.predict(point, x).mean(), y, atol=5e-3, rtol=0)
    estimate = nv.evidence.Laplace("exact")(target, data, target.params(), seed=0)
    assert math.isfinite(estimate.value)
    fit = nv.cross_fit(target, data, seed=0, epochs=5)
    assert fit.score()["accuracy"] <= float(y.amax(1).mean()) + 1e-6
    with pytest.raises(nv.InputError, match="one class for each example, for controls"):
        nv.study.controls(data, ["trees"], folds=fit.folds)


def test_what_needs_one_class_refuses_soft_labels() -> None:
    q = _soft(20, 3)
    predictive = Predictive(Categorical(), torch.randn(1, 20, 3, generator=_rng()), "plug-in")
    with pytest.raises(nv.InputError, match="for conformal sets"):
        nv.prediction.conformal.calibrate(predictive, q)
    with pytest.raises(nv.InputError, match="a network with 3 outputs"):
        Categorical().validate(q, 4)
    with pytest.raises(nv.InputError, match="of one class for certain"):
        Categorical().validate(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 2)


def test_lognormals_have_the_moments_of_gammas() -> None:
    y = torch.tensor([[0.7, 0.3]], dtype=torch.float64)
    mean, sd = Dirichlet(0.05).observed(y, 2)
    for c in range(2):
        gamma = stats.gamma(0.05 + float(y[0, c]))
        density = _normal(float(mean[0, c]), float(sd[0, c]))
        moments = [integrate.quad(lambda z, k=k, p=density: p(z) * math.exp(k * z), -60, 60)[0] for k in (1, 2)]
        assert moments[0] == pytest.approx(gamma.mean(), rel=1e-6)
        assert moments[1] - moments[0] ** 2 == pytest.approx(gamma.var(), rel=1e-6)


def test_the_evidence_of_a_linear_network_is_that_of_its_gaussian() -> None:
    x = torch.randn(7, 3, generator=_rng(), dtype=torch.float64)
    y = torch.tensor([0, 1, 1, 0, 2, 1, 0])
    data, likelihood = nv.Data(x, y), Dirichlet(0.1)
    module = torch.nn.Linear(3, 3, bias=False).double()
    target = nv.Target(module, likelihood, nv.Gaussian(2.0))
    mean, sd = likelihood.observed(y, 3)
    expected = 0.0
    weights = torch.zeros(3, 3, dtype=torch.float64)
    for c in range(3):
        noise = torch.diag(sd[:, c].square())
        expected += float(
            torch.distributions.MultivariateNormal(torch.zeros(7).double(), noise + x @ x.T / 2).log_prob(mean[:, c])
        )
        precision = 2 * torch.eye(3).double() + x.T @ torch.linalg.inv(noise) @ x
        weights[c] = torch.linalg.solve(precision, x.T @ (mean[:, c] / sd[:, c].square()))
    found = nv.evidence.Laplace("exact")(target, data, {"weight": weights}, seed=0)
    assert found.value == pytest.approx(expected, rel=1e-9)
    with pytest.raises(nv.InputError, match="alpha"):
        Dirichlet(0.0)


def test_sets_by_e_values_hold_the_truth() -> None:
    # Markov's bound is loose: the miss rate is far below α, so that 4,000 draws raise no false alarm (< 1e-9).
    rng = _rng(3)
    f = torch.randn(1, 4000, 4, generator=rng, dtype=torch.float64) * 2
    y = Categorical().sample(f[0], rng)
    known, new = (Predictive(Categorical(), part, "plug-in") for part in (f[:, :2000], f[:, 2000:]))
    values = e_values(known, y[:2000], new)
    own = values.gather(1, y[2000:, None])[:, 0]
    assert abs(float(own.mean()) - 1) < 0.1  # four standard errors: a false alarm in 16,000
    for alpha in (0.1, 0.3):
        sets = e_sets(values, alpha=alpha)
        miss = 1 - float(sets.member.gather(1, y[2000:, None]).double().mean())
        assert miss <= alpha
        assert float(sets.size.double().mean()) < 4
    # The e-value of the definition, by hand.
    p = known.mean()
    losses = -p.gather(1, y[:2000, None]).log()
    s = -new.mean()[5, 2].log()
    assert float(values[5, 2]) == pytest.approx(float(2001 * s / (losses.sum() + s)), rel=1e-9)
    with pytest.raises(nv.InputError, match="2000 labels"):
        e_values(known, y[:10], new)
