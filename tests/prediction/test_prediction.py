"""Predictives against quadrature, conjugate formulas and naive references; independence of the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn

from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.memory import is_out_of_memory, with_halving
from novacula.core.params import Params, unflatten, unstack
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.inference import Point, laplace_posterior
from novacula.invariances import Affine
from novacula.likelihoods import Bernoulli, Categorical, Gibbs, HeteroscedasticNormal, Normal
from novacula.likelihoods.base import Likelihood
from novacula.posteriors.linearised import (
    Rule,
    check_rule,
    default_rule,
    effective_outputs,
    log_predictive,
    normal_draws,
    spread,
)
from novacula.prediction import Predictive, predict
from novacula.prediction.predict import Kind
from novacula.priors import Gaussian
from novacula.target import Copies, Target


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(module: nn.Module) -> nn.Module:
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for w in module.double().parameters():
            w.copy_(0.5 * torch.randn(w.shape, generator=rng, dtype=torch.float64))
    return module


def covariances(n: int, c: int, scale: float = 1.0) -> Tensor:
    a = draw(n, c, c, seed=5)
    return scale * (a @ a.mT / c + 0.05 * torch.eye(c, dtype=torch.float64))


def gauss(function: object, mean: float, variance: float) -> float:
    """``E function(f)`` for ``f ~ N(mean, variance)`` by adaptive quadrature."""
    sd = math.sqrt(variance)
    return quad(lambda f: function(f) * norm.pdf(f, mean, sd), mean - 12 * sd, mean + 12 * sd, limit=400)[0]  # type: ignore[operator]


# ------------------------------------------------------------------ Gaussian outputs


@pytest.mark.parametrize("mean", [-6.0, -1.5, 0.0, 0.4, 3.0])
@pytest.mark.parametrize("variance", [0.01, 1.0, 9.0, 100.0])
def test_the_probit_formula_is_close_to_quadrature_for_one_label(mean: float, variance: float) -> None:
    true = gauss(lambda f: 1 / (1 + math.exp(-f)), mean, variance)
    m, v = torch.tensor([[mean]], dtype=torch.float64), torch.tensor([[[variance]]], dtype=torch.float64)
    f = effective_outputs("probit", m, v, None, Bernoulli())
    assert float(f.sigmoid()) == pytest.approx(true, abs=0.02)
    # A softmax over two classes is the sigmoid of their difference, whatever they share.
    shared = 7.0
    pair = torch.tensor([[mean + 2.0, 2.0]], dtype=torch.float64)
    joint = torch.tensor([[[variance + shared, shared], [shared, shared]]], dtype=torch.float64)
    two = effective_outputs("probit", pair, joint, None, Categorical())[0].softmax(-1)
    torch.testing.assert_close(two[:, :1], f[0].sigmoid(), rtol=1e-10, atol=1e-12)
    mc = effective_outputs("monte_carlo", pair, joint, normal_draws(512, 2, 0, pair), Categorical()).softmax(-1)
    assert float(mc.mean(0)[0, 0]) == pytest.approx(true, abs=0.01)


def test_probit_and_monte_carlo_agree_for_many_classes() -> None:
    """Both against 200,000 independent draws, whose standard error is below 0.0012: 5 of them are allowed for."""
    m, v = 2 * draw(6, 5), covariances(6, 5, 2.0)
    brute = spread(m, v, draw(200_000, 5, seed=8)).softmax(-1).mean(0)
    mc = effective_outputs("monte_carlo", m, v, normal_draws(256, 5, 0, m), Categorical()).softmax(-1).mean(0)
    probit = effective_outputs("probit", m, v, None, Categorical())[0].softmax(-1)
    assert float((mc - brute).abs().max()) < 0.01 + 0.006
    assert float((probit - brute).abs().max()) < 0.05 + 0.006


def test_only_the_diagonal_rule_takes_a_shared_variance_for_doubt() -> None:
    m, v = draw(4, 3), covariances(4, 3)
    shifted = v + 50.0
    for rule, draws in (("probit", None), ("monte_carlo", normal_draws(64, 3, 0, m))):
        a, b = (effective_outputs(rule, m, w, draws, Categorical()).softmax(-1).mean(0) for w in (v, shifted))  # type: ignore[arg-type]
        assert float((a - b).abs().max()) < (1e-9 if rule == "probit" else 0.03)
    a, b = (effective_outputs("probit_diagonal", m, w, None, Categorical())[0].softmax(-1) for w in (v, shifted))
    assert float(b.amax(1).mean()) < float(a.amax(1).mean()) - 0.05
    torch.testing.assert_close(
        effective_outputs("probit_diagonal", m, v, None, Categorical())[0],
        m / (1 + math.pi / 8 * v.diagonal(dim1=1, dim2=2)).sqrt(),
    )


def test_draws_have_the_right_moments_and_leave_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    z = normal_draws(512, 3, 7, torch.zeros(1, dtype=torch.float64))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(z, normal_draws(512, 3, 7, z))
    assert not torch.equal(z, normal_draws(512, 3, 8, z))
    m, v = draw(2, 3), covariances(2, 3)
    f = spread(m, v, z) - m
    torch.testing.assert_close(f.mean(0), torch.zeros_like(m), rtol=0, atol=0.02)
    torch.testing.assert_close(torch.einsum("snc,snd->ncd", f, f) / 512, v, rtol=0.05, atol=0.05)


def test_a_singular_variance_is_spread_along_what_it_spans() -> None:
    a = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    v = torch.stack([a.T @ a, torch.zeros(3, 3, dtype=torch.float64)])
    f = spread(torch.zeros(2, 3, dtype=torch.float64), v, normal_draws(256, 3, 0, a))
    assert torch.isfinite(f).all()
    assert float((f[:, 0] @ torch.tensor([2.0, -1.0, 0.0]).double()).abs().max()) < 1e-3
    assert float(f[:, 0, 0].var()) == pytest.approx(1.0, abs=0.1)
    assert float(f[:, 1].abs().max()) == 0


def test_the_analytic_rule_is_the_conjugate_density() -> None:
    sigma = torch.tensor([0.3, 1.2], dtype=torch.float64)
    m, v, y = draw(4, 2), covariances(4, 2), draw(4, 2, seed=1)
    got = log_predictive("analytic", Normal(log_sigma=sigma.log()), m, v, y)
    want = [multivariate_normal(m[i], v[i] + torch.diag(sigma.square())).logpdf(y[i]) for i in range(4)]
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-10, atol=1e-12)
    # Monte Carlo approaches it.
    near, z = m + 0.3, normal_draws(4096, 2, 0, m)
    got, mc = (log_predictive(r, Normal(log_sigma=sigma.log()), m, v, near, z) for r in ("analytic", "monte_carlo"))
    torch.testing.assert_close(mc, got, rtol=0, atol=0.05)


def test_rules_that_do_not_fit_are_refused() -> None:
    assert [default_rule(x) for x in (Normal(), Bernoulli(), Categorical(), HeteroscedasticNormal())] == [
        "analytic",
        "probit",
        "monte_carlo",
        "monte_carlo",
    ]
    for rule, likelihood in (("analytic", Categorical()), ("probit", Normal()), ("laplace-bridge", Categorical())):
        with pytest.raises(InputError, match="rule"):
            check_rule(rule, likelihood)  # type: ignore[arg-type]


# ------------------------------------------------------------------ the predictive


def test_a_mixture_averages_probabilities() -> None:
    f, y = draw(3, 5, 4), torch.tensor([0, 3, 1, 1, 2])
    mixture = Predictive(Categorical(), f, "mixture")
    p = f.softmax(-1)
    torch.testing.assert_close(mixture.mean(), p.mean(0))
    torch.testing.assert_close(mixture.samples, p)
    torch.testing.assert_close(mixture.log_prob(y), p.mean(0)[torch.arange(5), y].log())
    multilabel, labels = Predictive(Bernoulli(), f, "mixture"), (draw(5, 4, seed=2) > 0).double()
    q = torch.where(labels.bool(), f.sigmoid(), 1 - f.sigmoid())
    torch.testing.assert_close(multilabel.log_prob(labels), q.prod(-1).mean(0).log())


def test_entropies_of_classes_and_labels() -> None:
    f = draw(3, 5, 4)
    for likelihood, p in ((Categorical(), f.softmax(-1)), (Bernoulli(), f.sigmoid())):
        q = p if isinstance(likelihood, Categorical) else torch.cat([p, 1 - p], -1)
        total, aleatoric = -(q.mean(0) * q.mean(0).log()).sum(-1), -(q * q.log()).sum(-1).mean(0)
        got = Predictive(likelihood, f, "mixture").entropy()
        torch.testing.assert_close(got.total, total)
        assert got.aleatoric is not None
        assert got.epistemic is not None
        torch.testing.assert_close(got.aleatoric, aleatoric)
        torch.testing.assert_close(got.epistemic, total - aleatoric)
        assert float(got.epistemic.min()) > 0
    assert Predictive(Categorical(), f[:1], "plug-in").entropy().epistemic is None


def test_gaussian_entropies() -> None:
    sigma, v = torch.tensor([0.5, 2.0], dtype=torch.float64), covariances(3, 2)
    likelihood = Normal(log_sigma=sigma.log())
    got = Predictive(likelihood, draw(1, 3, 2), "analytic", covariance=v).entropy()
    want = [multivariate_normal(np.zeros(2), v[i] + torch.diag(sigma.square())).entropy() for i in range(3)]
    torch.testing.assert_close(got.total, torch.tensor(want))
    assert got.aleatoric is not None
    assert float(got.aleatoric[0]) == pytest.approx(sum(norm(0, float(s)).entropy() for s in sigma))
    # A mixture of two: quadrature.
    mu, sd = torch.tensor([[[-1.0]], [[2.0]]], dtype=torch.float64), 0.7
    mixed = Predictive(Normal(sigma=sd), mu, "mixture").entropy()
    density = lambda y: (norm.pdf(y, -1, sd) + norm.pdf(y, 2, sd)) / 2  # noqa: E731
    true = quad(lambda y: -density(y) * math.log(density(y)), -8, 9, limit=400)[0]
    assert float(mixed.total) == pytest.approx(true, abs=0.02)
    assert mixed.epistemic is not None
    assert float(mixed.epistemic) == pytest.approx(true - norm(0, sd).entropy(), abs=0.02)


def test_intervals_and_variances_of_gaussians_and_mixtures() -> None:
    one = Predictive(Normal(sigma=0.5), torch.tensor([[[1.0]]]).double(), "analytic", torch.tensor([[[2.0]]]).double())
    low, high = one.interval(0.8)
    want = norm(1.0, 1.5).interval(0.8)
    assert (float(low), float(high)) == pytest.approx(want, rel=1e-9)
    assert float(one.variance()) == pytest.approx(2.25)
    f = draw(4, 3, 4)
    mixture = Predictive(HeteroscedasticNormal(), f, "mixture")
    mu, sd = f[..., :2].numpy(), f[..., 2:].exp().numpy()
    for end, p in zip(mixture.interval(0.9), (0.05, 0.95), strict=True):
        torch.testing.assert_close(torch.tensor(norm.cdf(end, mu, sd).mean(0)), torch.full((3, 2), p).double())
    np.testing.assert_allclose(mixture.variance(), (sd**2).mean(0) + mu.var(0), rtol=1e-9)
    np.testing.assert_allclose(mixture.mean(), mu.mean(0))


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_intervals_want_a_probability_and_a_regression(level: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        Predictive(Normal(), draw(1, 2, 1), "plug-in").interval(level)
    with pytest.raises(InputError, match="regression"):
        Predictive(Categorical(), draw(1, 2, 3), "plug-in").interval(0.5)


def test_quantiles_of_gaussians_and_mixtures() -> None:
    f = draw(4, 3, 4)
    mixture = Predictive(HeteroscedasticNormal(), f, "mixture")
    mu, sd = f[..., :2].numpy(), f[..., 2:].exp().numpy()
    levels = [1e-4, 0.3, 0.5, 0.999]
    found = mixture.quantile(levels)
    assert found.shape == (4, 3, 2)
    for q, p in zip(found, levels, strict=True):
        np.testing.assert_allclose(norm.cdf(q, mu, sd).mean(0), p, rtol=1e-9)
        torch.testing.assert_close(mixture.quantile(p), q)
    torch.testing.assert_close(
        mixture.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64))[1], mixture.interval(0.9)[1]
    )
    torch.testing.assert_close(mixture.quantile(np.float32(0.5)), found[2])  # type: ignore[arg-type]
    one = Predictive(Normal(sigma=0.5), torch.tensor([[[1.0]]]).double(), "analytic", torch.tensor([[[2.0]]]).double())
    assert float(one.quantile(0.8)) == pytest.approx(norm.ppf(0.8, 1, 1.5), rel=1e-9)
    for wrong in (0.0, [0.5, 1.0], [], math.nan, [[0.5]]):
        with pytest.raises(InputError, match="between 0 and 1"):
            mixture.quantile(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="regression"):
        Predictive(Categorical(), f, "mixture").quantile(0.5)


def test_draws_of_labels_have_the_predictives_frequencies() -> None:
    """20,000 draws; each frequency within 5 binomial standard errors, so false alarms are below 1e-5."""
    f, n = draw(3, 4, 5), 20_000
    rng = torch.Generator().manual_seed(1)
    classes = Predictive(Categorical(), f, "mixture")
    y = classes.sample(n, rng)
    assert (y.shape, y.dtype) == ((n, 4), torch.int64)
    p = classes.mean()
    counts = torch.stack([(y == c).double().mean(0) for c in range(5)], 1)
    assert bool(((counts - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all())
    labels = Predictive(Bernoulli(), f, "mixture")
    y, p = labels.sample(n, rng), labels.mean()
    assert (y.shape, set(y.unique().tolist())) == ((n, 4, 5), {0.0, 1.0})
    assert bool(((y.mean(0) - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all())
    mixture = Predictive(HeteroscedasticNormal(), f[..., :4], "mixture")
    y = mixture.sample(n, rng)
    for p in (0.1, 0.5, 0.8):
        share = (y <= mixture.quantile(p)).double().mean(0)
        assert bool(((share - p).abs() < 5 * math.sqrt(p * (1 - p) / n)).all())


def test_draws_of_one_gaussian_have_its_covariance() -> None:
    """20,000 draws; 5 standard errors of a covariance, ``√((v₁₁ v₂₂ + v₁₂²)/n)``."""
    v, n = covariances(3, 2, 4.0), 20_000
    likelihood = Normal(log_sigma=torch.tensor([0.5, 2.0], dtype=torch.float64).log(), per_output=True)
    predictive = Predictive(likelihood, draw(1, 3, 2), "analytic", covariance=v)
    y = predictive.sample(n, torch.Generator().manual_seed(0))
    for i in range(3):
        want = v[i] + torch.diag(torch.tensor([0.25, 4.0]).double())
        d = want.diagonal()
        slack = 5 * ((d[:, None] * d + want.square()) / n).sqrt()
        assert bool(((torch.cov(y[:, i].T) - want).abs() < slack).all())
        assert bool(((y[:, i].mean(0) - predictive.mean()[i]).abs() < 5 * (d / n).sqrt()).all())


def test_one_draw_is_one_function() -> None:
    # Two components that are sure of opposite classes: all inputs of a draw agree on which of them it is.
    f = torch.tensor([[[50.0, 0.0], [0.0, 50.0]], [[0.0, 50.0], [50.0, 0.0]]])
    y = Predictive(Categorical(), f, "mixture").sample(200, torch.Generator().manual_seed(0))
    assert bool((y.sum(1) == 1).all())
    assert 60 < int(y[:, 0].sum()) < 140  # false alarms below 1e-8
    assert 20 < int(y[:100, 0].sum()) < 80  # and not component after component
    shared = Predictive(Normal(sigma=0.1, per_output=True), f, "mixture").sample(3, torch.Generator())
    assert shared.shape == (3, 2, 2)
    for n, rng in ((0, torch.Generator()), (2, 0)):
        with pytest.raises(InputError, match=r"torch\.Generator|n as a whole number"):
            Predictive(Categorical(), f, "mixture").sample(n, rng)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sampled"):
        Predictive(Gibbs(lambda f, y: f.sum(1), name="sum"), f, "mixture").sample(1, torch.Generator())


# ------------------------------------------------------------------ predict


def conjugate_case() -> tuple[Target, Data, Tensor, Tensor]:
    """Linear regression with two outputs: target, data, and the posterior's mean and covariance in closed form."""
    x, sigma = draw(11, 3), torch.tensor([0.4, 0.9], dtype=torch.float64)
    data = Data(x, x @ draw(3, 2, seed=1) + sigma * draw(11, 2, seed=2))
    prior = Gaussian(log_precision=torch.tensor(1.7, dtype=torch.float64).log(), per="all")
    target = Target(seeded(nn.Linear(3, 2, bias=False)), likelihood=Normal(log_sigma=sigma.log()), prior=prior)
    j = torch.kron(torch.eye(2).double(), x)  # outputs one after the other
    noise = sigma.repeat_interleave(11).square()
    covariance = torch.linalg.inv(j.T @ (j / noise[:, None]) + 1.7 * torch.eye(6).double())
    return target, data, covariance @ (j.T @ (data.y.T.flatten() / noise)), covariance


def test_a_linear_gaussian_predictive_is_the_conjugate_one() -> None:
    target, data, mean, covariance = conjugate_case()
    post = laplace_posterior(target, unflatten(mean, target.params()), data, structure="exact", temperature=0.6)
    x, y = draw(4, 3, seed=7), draw(4, 2, seed=8)
    predictive = predict(post, x)
    assert predictive.kind == "analytic"
    noise = torch.diag(torch.tensor([0.4, 0.9], dtype=torch.float64).square())
    for i in range(4):
        j = torch.kron(torch.eye(2).double(), x[i : i + 1])
        law = multivariate_normal(j @ mean, 0.6 * j @ covariance @ j.T + noise)
        np.testing.assert_allclose(predictive.mean()[i], j @ mean, rtol=1e-9)
        assert float(predictive.log_prob(y)[i]) == pytest.approx(law.logpdf(y[i]), rel=1e-9)
        np.testing.assert_allclose(predictive.variance()[i], np.diag(law.cov), rtol=1e-9)
    # Weights sampled from a linear model's posterior predict the same: 4,000 of them, within 5 standard errors.
    sampled = predict(post, x, kind="mixture", samples=4_000)
    sd = predictive.variance().sqrt()
    assert bool(((sampled.mean() - predictive.mean()).abs() < 5 * sd / 4_000**0.5).all())


def image_case(likelihood: Likelihood | None = None) -> tuple[Target, Data, Tensor]:
    net = seeded(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3)))
    x = torch.rand(20, 1, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = Target(
        net,
        likelihood=likelihood or Categorical(),
        invariance=Affine(eta=torch.full((6,), 0.2)),
        copies=Copies(predict=5, evidence=3),
    )
    y = torch.arange(14) % 3 if likelihood is None else (draw(14, 3, seed=3) > 0).double()
    return target, Data(x[:14], y), x[14:]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("plug-in", None),
        ("mixture", None),
        ("linearised", None),
        ("linearised", "probit"),
        ("linearised", "probit_diagonal"),
    ],
)
def test_predictions_do_not_depend_on_the_batch(kind: Kind, rule: Rule | None) -> None:
    target, data, x = image_case()
    post = laplace_posterior(target, target.params(), data, structure="kron", temperature=0.5, check=False)
    whole = predict(post, x, kind=kind, rule=rule, samples=7, seed=4)
    few = predict(post, x[:2], kind=kind, rule=rule, samples=7, seed=4)
    one = predict(post, x, kind=kind, rule=rule, samples=7, seed=4, chunk=1)
    torch.testing.assert_close(whole.outputs[:, :2], few.outputs, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(whole.outputs, one.outputs, rtol=1e-9, atol=1e-10)
    other = predict(post, x, kind=kind, rule=rule, samples=7, seed=5)
    assert not torch.allclose(whole.mean(), other.mean(), rtol=1e-6)
    torch.testing.assert_close(whole.mean().sum(1), torch.ones(6, dtype=torch.float64))


def test_a_plug_in_averages_outputs_or_probabilities_over_the_copies() -> None:
    target, _, x = image_case()
    point = Point(target.params(), target)
    assert target.invariance is not None
    noise = target.invariance.noise(5, x[:1], generator(4, "copies"))
    each = torch.stack([target.forward(point.mode, target.invariance(x, u.expand(6, -1))) for u in noise]).detach()
    a = predict(point, x, seed=4)
    torch.testing.assert_close(a.mean(), each.mean(0).softmax(-1))
    b = predict(point, x, seed=4, average="probabilities")
    torch.testing.assert_close(b.mean(), each.softmax(-1).mean(0))
    assert (a.kind, b.outputs.shape) == ("plug-in", (5, 6, 3))
    torch.testing.assert_close(predict(point, x, seed=4, copies=1).mean(), each_first(target, x, 4))


def each_first(target: Target, x: Tensor, seed: int) -> Tensor:
    assert target.invariance is not None
    noise = target.invariance.noise(1, x[:1], generator(seed, "copies"))
    return target.forward(target.params(), target.invariance(x, noise.expand(len(x), -1))).softmax(-1).detach()


def test_a_mixture_predicts_with_sampled_weights() -> None:
    target, data, x = image_case()
    post = laplace_posterior(target, target.params(), data, structure="diag", temperature=0.1, check=False)
    got = predict(post, x, kind="mixture", samples=3, seed=2)
    points: list[Params] = unstack(post.sample(3, generator(derive(2, "weights"))))
    want = [predict(Point(w, target), x, seed=2).mean() for w in points]
    torch.testing.assert_close(got.samples, torch.stack(want))


def test_the_linearised_mean_and_variance_are_those_of_the_network() -> None:
    target, data, x = image_case(Bernoulli())
    post = laplace_posterior(target, target.params(), data, structure="exact", temperature=0.5, check=False)
    got = predict(post, x, seed=2, copies=3)
    assert got.kind == "probit"
    mean = predict(post, x, kind="plug-in", seed=2, copies=3).outputs[0]
    assert target.invariance is not None
    noise = target.invariance.noise(3, x[:1], generator(2, "copies"))
    xs = torch.stack([target.invariance(x, u.expand(6, -1)) for u in noise], 1)
    v = post.functional_variance(xs).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(got.outputs[0], mean / (1 + math.pi / 8 * v).sqrt())


def test_a_heteroscedastic_predictive_is_near_quadrature() -> None:
    """Over one input's two outputs, a grid of 201 × 201 points."""
    net = seeded(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)))
    data = Data(draw(25, 2), draw(25, 1, seed=1))
    target = Target(net, likelihood=HeteroscedasticNormal())
    post = laplace_posterior(target, target.params(), data, structure="exact", check=False)
    x, y = draw(1, 2, seed=4), torch.tensor([[0.3]]).double()
    v = post.functional_variance(x.unsqueeze(1))[0]
    m = target.forward(post.mode, x)[0].detach()
    axes = [torch.linspace(-6, 6, 201).double() for _ in range(2)]
    z = torch.cartesian_prod(*axes)
    weight = torch.exp(-0.5 * z.square().sum(1))
    f = m + z @ torch.linalg.cholesky(v).T
    p = HeteroscedasticNormal().log_prob(f, y.expand(len(f), 1)).exp()
    true = float((weight * p).sum() / weight.sum())
    assert float(predict(post, x, samples=1024).log_prob(y).exp()) == pytest.approx(true, rel=0.01)


def test_a_loss_predicts_through_its_link() -> None:
    loss = Gibbs(lambda f, y: (f - y).square().sum(1), link=torch.tanh, name="squares")
    target = Target(seeded(nn.Linear(2, 1)), likelihood=loss)
    x = draw(3, 2)
    point = Point(target.params(), target)
    torch.testing.assert_close(predict(point, x).mean(), torch.tanh(target.forward(point.mode, x)).detach())
    with pytest.raises(InputError, match="entropy"):
        predict(point, x).entropy()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "bayes"}, "kind"),
        ({"kind": "linearised"}, "Laplace posterior"),
        ({"rule": "probit"}, "linearised predictive"),
        ({"samples": 0}, "sample"),
        ({"copies": 0}, "copies as a whole number of 1 or more"),
        ({"average": "logits"}, "average"),
        ({"chunk": 0}, "chunk as a whole number"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], match: str) -> None:
    target, _, x = image_case()
    with pytest.raises(InputError, match=match):
        predict(Point(target.params(), target), x, **options)  # type: ignore[arg-type]


def test_bad_inputs_are_refused() -> None:
    target, _, x = image_case()
    point = Point(target.params(), target)
    with pytest.raises(InputError, match="shape"):
        predict(point, x[:, :, :3, :3])
    with pytest.raises(InputError, match="float32"):
        predict(point, x.float())
    with pytest.raises(InputError, match="one or more inputs"):
        predict(point, x[:0])
    broken = x.clone()
    broken[3, 0, 2, 2] = math.nan
    with pytest.raises(InputError, match="row 3"):
        predict(point, broken)
    bad = {k: w * math.inf for k, w in target.params().items()}
    with pytest.raises(NonFiniteError, match="row 0"):
        predict(Point(bad, target), x)


# ------------------------------------------------------------------ memory


def test_memory_that_runs_out_halves_the_chunk_and_says_so() -> None:
    calls: list[tuple[int, int]] = []

    def work(start: int, stop: int) -> list[int]:
        if stop - start > 3:
            raise torch.OutOfMemoryError("out of memory")
        calls.append((start, stop))
        return list(range(start, stop))

    with pytest.warns(NovaculaWarning) as caught:
        found = with_halving(work, 11, 11, what="rows")
    assert [str(w.message).split(": ")[1] for w in caught] == ["going on with 5", "going on with 2"]
    assert "11 rows at once" in str(caught[0].message)
    assert [i for part in found for i in part] == list(range(11))
    assert calls[0] == (0, 2)


def test_memory_for_not_even_one_is_an_error() -> None:
    def work(start: int, stop: int) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    with pytest.warns(NovaculaWarning), pytest.raises(InputError, match="memory for one of the inputs"):
        with_halving(work, 2, 2, what="inputs")
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))

    def fails(start: int, stop: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        with_halving(fails, 2, 2)


@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "last_layer", "matrix_free"])
def test_predictions_in_inference_mode_are_the_same(structure: str) -> None:
    rng = generator(0)
    x = torch.randn(20, 3, generator=rng, dtype=torch.float64)
    data = Data(x, (x[:, 0] > 0).long())
    target = Target(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()).prepare(data)[0]
    post = laplace_posterior(target, target.params(), data, structure=structure)
    wanted = predict(post, x).mean()
    with torch.inference_mode():
        found = predict(post, x * 1.0).mean()  # rows that are made in it
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
