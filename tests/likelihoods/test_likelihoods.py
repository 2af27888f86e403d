"""Likelihoods against scipy, exact sums over labels, automatic Hessians and finite differences."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from novacula.core.errors import InputError, NovaculaWarning
from novacula.likelihoods import (
    Bernoulli,
    Categorical,
    Gibbs,
    HeteroscedasticNormal,
    Likelihood,
    Normal,
    ZeroOne,
    default_likelihood,
)
from strangers import Poisson


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(n: int, c: int, scale: float = 1.5, dtype: torch.dtype = torch.float64) -> Tensor:
    return scale * torch.randn(n, c, generator=rng(n * 31 + c), dtype=torch.float64).to(dtype)


def cross_entropy(f: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(f, y, reduction="none")


def quartic(f: Tensor, y: Tensor) -> Tensor:
    """Couples the outputs and has Hessians of either sign."""
    r = f - y
    return (r**4 / 12 - r.square() / 3).sum(1) + torch.sin(f[:, 0] * f[:, 1])


def gram(factor: Tensor) -> Tensor:
    return factor @ factor.mT


def hessian(likelihood: Likelihood, f: Tensor, y: Tensor) -> Tensor:
    """``−∂² log p(y|f)/∂f²`` of each example, one at a time."""

    # Reverse over reverse: forward mode scripts decompositions on first use, and warns that scripting is deprecated.
    def one(g: Tensor, i: int) -> Tensor:
        return -likelihood.log_prob(g[None], y[i : i + 1])[0]

    blocks = [torch.func.jacrev(torch.func.jacrev(one))(f[i], i) for i in range(len(f))]
    return torch.stack(blocks)


# ---------------------------------------------------------------------------------------------- log-densities


def test_categorical_log_prob_is_scipys() -> None:
    f, y = logits(7, 4), torch.tensor([0, 3, 1, 2, 3, 0, 1])
    p = torch.softmax(f, 1).numpy()
    want = [scipy.stats.multinomial.logpmf(np.eye(4)[k], 1, row) for k, row in zip(y.tolist(), p, strict=True)]
    np.testing.assert_allclose(Categorical().log_prob(f, y), want, rtol=1e-12)


def test_a_strangers_counts_are_scipys() -> None:
    f, y = logits(6, 3), torch.arange(18.0).reshape(6, 3)
    want = scipy.stats.poisson.logpmf(y.numpy(), f.exp().numpy()).sum(1)
    np.testing.assert_allclose(Poisson().log_prob(f, y), want, rtol=1e-12)


def test_bernoulli_log_prob_is_scipys() -> None:
    f = logits(6, 3)
    y = (logits(6, 3, 1.0) > 0.2).double()
    want = scipy.stats.bernoulli.logpmf(y.numpy(), torch.sigmoid(f).numpy()).sum(1)
    np.testing.assert_allclose(Bernoulli().log_prob(f, y), want, rtol=1e-11)


@pytest.mark.parametrize(
    "log_sigma", [torch.tensor(-0.7, dtype=torch.float64), torch.tensor([-1.0, 0.3, 2.0]).double()]
)
def test_normal_log_prob_is_scipys(log_sigma: Tensor) -> None:
    f, y = logits(5, 3), logits(5, 3, 4.0).flip(0)
    want = scipy.stats.norm.logpdf(y.numpy(), f.numpy(), log_sigma.exp().numpy()).sum(1)
    np.testing.assert_allclose(Normal(log_sigma=log_sigma).log_prob(f, y), want, rtol=1e-12)


def test_normal_keeps_the_precision_of_a_float_sigma() -> None:
    f, y = logits(5, 2), logits(5, 2).flip(0)
    want = scipy.stats.norm.logpdf(y.numpy(), f.numpy(), 0.3).sum(1)
    np.testing.assert_allclose(Normal(sigma=0.3).log_prob(f, y), want, rtol=1e-12)
    assert float(Normal(sigma=0.3).sigma) == pytest.approx(0.3, rel=1e-15)


def test_heteroscedastic_log_prob_is_scipys_with_means_before_scales() -> None:
    f, y = logits(5, 6), logits(5, 3, 2.0)
    want = scipy.stats.norm.logpdf(y.numpy(), f[:, :3].numpy(), f[:, 3:].exp().numpy()).sum(1)
    np.testing.assert_allclose(HeteroscedasticNormal().log_prob(f, y), want, rtol=1e-12)
    assert torch.equal(HeteroscedasticNormal().mean(f), f[:, :3])


def test_zero_one_counts_errors_and_does_not_hide_nan() -> None:
    f = torch.tensor([[1.0, 2.0, 0.0], [5.0, 1.0, 1.0], [0.0, 0.0, 9.0], [math.nan, 1.0, 0.0]])
    y = torch.tensor([1, 1, 2, 1])
    value = ZeroOne().log_prob(f, y)
    assert value[:3].tolist() == [0.0, -1.0, 0.0]
    assert value[3].isnan()
    assert ZeroOne().mean(f[:3]).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_gibbs_log_prob_is_minus_the_loss() -> None:
    f, y = logits(5, 3), logits(5, 3).flip(0)
    np.testing.assert_array_equal(Gibbs(quartic).log_prob(f, y), -quartic(f, y))


def test_discrete_probabilities_sum_to_one() -> None:
    f = logits(4, 3, 3.0)
    total = sum(Categorical().log_prob(f, torch.full((4,), k)).exp() for k in range(3))
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.float64))
    patterns = itertools.product([0.0, 1.0], repeat=3)
    total = sum(Bernoulli().log_prob(f, torch.tensor([p] * 4, dtype=torch.float64)).exp() for p in patterns)
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.float64))
    counts = torch.cartesian_prod(*[torch.arange(60.0)] * 2)  # rates below 10: the rest is less than 1e-25
    total = torch.stack([Poisson().log_prob(row.expand(len(counts), 2), counts).exp().sum() for row in logits(4, 2)])
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize(
    "likelihood, f", [(Normal(sigma=0.6), [[0.4]]), (HeteroscedasticNormal(), [[0.4, -0.9]])], ids=["normal", "hetero"]
)
def test_continuous_densities_integrate_to_one(likelihood: Likelihood, f: list[list[float]]) -> None:
    y = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    density = likelihood.log_prob(torch.tensor(f, dtype=torch.float64).expand(len(y), -1), y).exp()
    assert float(torch.trapezoid(density, y[:, 0])) == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize(
    "likelihood, f, y",
    [
        (Categorical(), (4, 3), torch.tensor([0, 1])),
        (Categorical(), (4, 3), torch.zeros(4, 1, dtype=torch.long)),
        (Bernoulli(), (4, 1), torch.zeros(4)),
        (Normal(), (4, 1), torch.zeros(4)),
        (Normal(), (4, 3), torch.zeros(4, 1)),
        (HeteroscedasticNormal(), (4, 6), torch.zeros(4, 6)),
        (ZeroOne(), (4, 3), torch.zeros(4, 1, dtype=torch.long)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_shapes_that_would_broadcast_are_refused(likelihood: Likelihood, f: tuple[int, int], y: Tensor) -> None:
    with pytest.raises(InputError, match=r"with labels of shape \("):
        likelihood.log_prob(torch.zeros(*f), y)


# ---------------------------------------------------------------------------------------------- Fisher factors


def test_categorical_factor_is_the_exact_fisher_and_the_hessian() -> None:
    f = logits(6, 4)
    got = gram(Categorical().factor(f, torch.zeros(6)))
    fisher = torch.zeros_like(got)
    for k in range(4):
        y = torch.full((6,), k)
        score = torch.func.jacrev(lambda g, y=y: Categorical().log_prob(g, y).sum())(f)
        fisher += Categorical().log_prob(f, y).exp()[:, None, None] * score[:, :, None] * score[:, None, :]
        torch.testing.assert_close(got, hessian(Categorical(), f, y), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(got, fisher, rtol=1e-12, atol=1e-13)


def test_bernoulli_factor_is_the_exact_fisher_and_the_hessian() -> None:
    f = logits(5, 3)
    got = gram(Bernoulli().factor(f, torch.zeros(5, 3)))
    expected = torch.zeros_like(got)
    for pattern in itertools.product([0.0, 1.0], repeat=3):
        y = torch.tensor([pattern] * 5, dtype=torch.float64)
        h = hessian(Bernoulli(), f, y)
        torch.testing.assert_close(got, h, rtol=1e-12, atol=1e-13)
        expected += Bernoulli().log_prob(f, y).exp()[:, None, None] * h
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


def test_a_strangers_factor_is_the_exact_fisher_and_the_hessian() -> None:
    f, y = logits(5, 3), torch.arange(15.0).reshape(5, 3)
    got = gram(Poisson().factor(f, y))
    torch.testing.assert_close(got, hessian(Poisson(), f, y), rtol=1e-12, atol=1e-13)
    counts = torch.arange(150.0, dtype=torch.float64)
    mass = scipy.stats.poisson.pmf(counts, f.exp().unsqueeze(-1).numpy())
    squares = (torch.from_numpy(mass) * (counts - f.exp().unsqueeze(-1)).square()).sum(-1)
    torch.testing.assert_close(got, torch.diag_embed(squares), rtol=1e-10, atol=1e-13)


def test_normal_factor_is_the_hessian() -> None:
    likelihood = Normal(log_sigma=torch.tensor([-0.5, 0.1, 0.9], dtype=torch.float64))
    f, y = logits(4, 3), logits(4, 3).flip(0)
    torch.testing.assert_close(gram(likelihood.factor(f, y)), hessian(likelihood, f, y), rtol=1e-12, atol=1e-13)


def test_heteroscedastic_factor_is_the_hessian_averaged_over_labels() -> None:
    """The Hessian is quadratic in ``y``: two-point Gauss–Hermite nodes ``μ ± σ`` in each output average it exactly."""
    likelihood, f = HeteroscedasticNormal(), logits(4, 4, 0.8)
    mu, sigma = f[:, :2], f[:, 2:].exp()
    signs = [torch.tensor(s, dtype=torch.float64) for s in itertools.product([-1.0, 1.0], repeat=2)]
    average = torch.stack([hessian(likelihood, f, mu + s * sigma) for s in signs]).mean(0)
    torch.testing.assert_close(gram(likelihood.factor(f, mu)), average, rtol=1e-11, atol=1e-12)


def test_gibbs_factor_of_a_convex_loss_is_its_hessian() -> None:
    f, y = logits(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    got = Gibbs(cross_entropy).factor(f, y)
    torch.testing.assert_close(gram(got), gram(Categorical().factor(f, y)), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(got, got.mT)


def test_gibbs_factor_projects_negative_curvature_away() -> None:
    f, y = logits(9, 3), logits(9, 3).flip(0)
    values, vectors = torch.linalg.eigh(hessian(Gibbs(quartic), f, y))
    assert (values < -0.1).any()
    assert (values > 0.1).any()
    want = vectors @ torch.diag_embed(values.clamp(min=0)) @ vectors.mT
    torch.testing.assert_close(gram(Gibbs(quartic).factor(f, y)), want, rtol=1e-10, atol=1e-11)


FACTORS = [
    (Categorical(), 4, torch.tensor([0, 1, 2])),
    (Bernoulli(), 3, torch.tensor([[0.0, 1, 1], [1, 0, 1], [0, 0, 0]])),
    (HeteroscedasticNormal(), 4, torch.ones(3, 2)),
    (Poisson(), 3, torch.tensor([[0.0, 2, 1], [7, 0, 1], [3, 0, 0]])),
    (Gibbs(cross_entropy), 4, torch.tensor([0, 1, 2])),
    (Gibbs(quartic), 3, torch.tensor([[0.3, -0.2, 1.1], [1.0, 0.4, -1.0], [0.0, 2.0, 0.7]]).double()),
]
FACTOR_IDS = ["categorical", "bernoulli", "heteroscedastic", "poisson", "gibbs-cross-entropy", "gibbs-indefinite"]


@pytest.mark.parametrize("likelihood, c, y", FACTORS, ids=FACTOR_IDS)
def test_factor_gradient_is_that_of_finite_differences(likelihood: Likelihood, c: int, y: Tensor) -> None:
    f = logits(3, c, 1.0)
    torch.autograd.gradcheck(lambda g: likelihood.factor(g, y), (f.requires_grad_(),), atol=1e-6, rtol=1e-5)


def test_gibbs_factor_has_a_gradient_where_eigenvalues_coincide() -> None:
    """At ``f = y`` the squared error's Hessian is the identity: an eigenvector's derivative is infinite there."""

    def loss(f: Tensor, y: Tensor) -> Tensor:
        r = f - y
        return 0.5 * r.square().sum(1) + r.pow(4).sum(1) + (r[:, 0] * r[:, 1] * r[:, 2])

    y = logits(2, 3)
    torch.autograd.gradcheck(lambda g: Gibbs(loss).factor(g, y), (y.clone().requires_grad_(),), atol=1e-6, rtol=1e-5)


def test_gibbs_factor_carries_a_gradient_to_the_losss_own_tensors() -> None:
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    f, y = logits(3, 2), logits(3, 2).flip(0)
    torch.autograd.gradcheck(
        lambda s: Gibbs(lambda f, y: ((f - y) / s.exp()).square().sum(1) / 2).factor(f, y),
        (scale,),
        atol=1e-6,
        rtol=1e-5,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "likelihood, y",
    [
        (Categorical(), torch.tensor([0, 3])),
        (Bernoulli(), torch.tensor([[0.0, 1, 0, 1], [1, 1, 0, 0]])),
        (HeteroscedasticNormal(), torch.ones(2, 2)),
        (Poisson(), torch.tensor([[0.0, 3, 1, 2], [9, 0, 0, 1]])),
        (Gibbs(cross_entropy), torch.tensor([0, 3])),
        (Normal(), torch.ones(2, 4)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_values_and_gradients_are_finite_at_extreme_outputs(
    likelihood: Likelihood, y: Tensor, dtype: torch.dtype
) -> None:
    f = torch.tensor([[60.0, -60, 0, -60], [-60, 60, 60, -60]], dtype=dtype, requires_grad=True)
    if isinstance(likelihood, HeteroscedasticNormal | Poisson):
        # In float32 a log density with σ = e⁻⁶⁰, or the square of one with a rate of e⁶⁰, overflows as it must.
        f = (f.detach() * (0.3 if dtype == torch.float32 else 1.0)).requires_grad_()
    for value in (likelihood.log_prob(f, y), likelihood.factor(f, y)):
        assert value.dtype == dtype
        assert torch.isfinite(value).all()
        if value.requires_grad:  # the factor of a Normal does not depend on f
            (grad,) = torch.autograd.grad(value.square().sum(), f)
            assert torch.isfinite(grad).all()


def test_categorical_factor_keeps_the_information_that_rounding_loses() -> None:
    """``p (1 − p)`` of a class with ``1 − p = 2e-9`` is 0 in float32; the factor's Gram matrix has it."""
    f = torch.tensor([[20.0, 0.0, -3.0]])
    got = gram(Categorical().factor(f, torch.zeros(1)))
    torch.testing.assert_close(got, gram(Categorical().factor(f.double(), torch.zeros(1))).float(), rtol=1e-5, atol=0)
    assert got[0, 0, 0] > 1e-9


def test_factor_works_inside_vmap() -> None:
    f = logits(5, 4)
    y = torch.zeros(5, dtype=torch.long)
    for likelihood in (Categorical(), Poisson(), Gibbs(cross_entropy)):
        one = torch.func.vmap(lambda g, t, lik=likelihood: lik.factor(g[None], t[None])[0])(f, y)
        torch.testing.assert_close(one, likelihood.factor(f, y))


# ---------------------------------------------------------------------------------------------- learned noise


def test_normal_carries_gradients_to_log_sigma() -> None:
    f, y = logits(4, 3), logits(4, 3).flip(0)
    for shape in ((), (3,)):
        log_sigma = torch.full(shape, -0.4, dtype=torch.float64, requires_grad=True)
        torch.autograd.gradcheck(lambda s: Normal(log_sigma=s).log_prob(f, y), (log_sigma,))
        torch.autograd.gradcheck(lambda s: Normal(log_sigma=s).factor(f, y), (log_sigma,))


def test_normal_log_sigma_is_a_leaf_that_can_be_learned() -> None:
    likelihood = Normal(sigma=2.0)
    likelihood.log_sigma.requires_grad_()
    likelihood.log_prob(logits(4, 2), logits(4, 2).flip(0)).sum().backward()
    assert likelihood.log_sigma.grad is not None
    moved = dataclasses.replace(likelihood, log_sigma=torch.tensor(1.5))
    assert float(moved.log_sigma) == 1.5


def test_normal_learns_the_mean_square_residual() -> None:
    """The stationary point of the log-likelihood in log σ is ``σ² = mean r²``, output by output."""
    f, y = logits(50, 2), logits(50, 2, 3.0).flip(0)
    best = (y - f).square().mean(0).log() / 2
    best.requires_grad_()
    (grad,) = torch.autograd.grad(Normal(log_sigma=best).log_prob(f, y).sum(), best)
    torch.testing.assert_close(grad, torch.zeros(2, dtype=torch.float64), atol=1e-10, rtol=0)


def test_normal_per_output_must_be_bound_and_keeps_the_users_graph() -> None:
    f, y = logits(4, 3), logits(4, 3).flip(0)
    with pytest.raises(InputError, match="bind"):
        Normal(per_output=True).log_prob(f, y)
    with pytest.raises(InputError, match="bind"):
        Normal(per_output=True).factor(f, y)

    plain = Normal(sigma=0.5, per_output=True).bind(3)
    assert plain.log_sigma.shape == (3,)
    assert plain.log_sigma.is_leaf
    plain.log_sigma.requires_grad_()
    assert plain.bind(3) is plain
    with pytest.raises(InputError, match=r"log_sigma of shape \(2,\)"):
        plain.bind(2)

    mine = torch.tensor(-0.2, dtype=torch.float64, requires_grad=True)
    Normal(log_sigma=mine, per_output=True).bind(3).log_prob(f, y).sum().backward()
    (want,) = torch.autograd.grad(Normal(log_sigma=mine).log_prob(f, y).sum(), mine)
    assert mine.grad is not None
    torch.testing.assert_close(mine.grad, want)
    shared = Normal()
    assert shared.bind(3) is shared


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, "1", torch.tensor(1.0)])
def test_normal_refuses_a_sigma_that_is_not_positive(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma as a positive number"):
        Normal(sigma=sigma)


def test_normal_refuses_wrong_log_sigmas() -> None:
    with pytest.raises(InputError, match="either sigma or log_sigma"):
        Normal(sigma=2.0, log_sigma=torch.tensor(0.0))
    for wrong in (torch.zeros(2, 2), torch.tensor(0), 0.0):
        with pytest.raises(InputError, match="floating tensor of shape"):
            Normal(log_sigma=wrong)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InputError, match=r"log_sigma of shape \(3,\)"):
        Normal(log_sigma=torch.zeros(2)).log_prob(torch.zeros(4, 3), torch.zeros(4, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_outputs(dtype: torch.dtype) -> None:
    f, y = logits(4, 2, dtype=dtype), logits(4, 2)
    for likelihood, target in (
        (Normal(log_sigma=torch.zeros(2, dtype=torch.float64)), y),
        (Normal(log_sigma=torch.zeros(2, dtype=torch.float32)), y),
        (Bernoulli(), (y > 0).double()),
        (HeteroscedasticNormal(), y[:, :1]),
        (Poisson(), (4 * y.abs()).floor()),
        (Gibbs(lambda f, y: (f - y).square().sum(1)), y),
    ):
        assert likelihood.log_prob(f, target).dtype == dtype
        assert likelihood.factor(f, target).dtype == dtype
        assert likelihood.mean(f).dtype == dtype


# ---------------------------------------------------------------------------------------------- sampling


def test_categorical_samples_have_the_right_frequencies() -> None:
    """Chi-square at 3 degrees of freedom; seeded. False-alarm rate of the threshold: 1e-6."""
    f = torch.tensor([[0.0, 1.0, -1.5, 0.4]], dtype=torch.float64)
    y = Categorical().sample(f.expand(20_000, -1), rng(1))
    assert y.dtype == torch.int64
    assert y.shape == (20_000,)
    expected = 20_000 * f.softmax(1)[0].numpy()
    statistic = float(((np.bincount(y.numpy(), minlength=4) - expected) ** 2 / expected).sum())
    assert statistic < scipy.stats.chi2.isf(1e-6, 3)


def test_categorical_never_samples_an_impossible_class() -> None:
    f = torch.tensor([[-1e4, 0.0, -1e4, 0.5, -1e4]])
    assert set(Categorical().sample(f.expand(5_000, -1), rng(2)).tolist()) == {1, 3}


def z(sample: Tensor, mean: Tensor, sd: Tensor) -> float:
    return float(((sample.mean(0) - mean) / (sd / math.sqrt(len(sample)))).abs().max())


def test_bernoulli_samples_have_the_right_means() -> None:
    """Three z-scores within 5; seeded. False-alarm rate: 1.7e-6."""
    f = torch.tensor([[-2.0, 0.3, 1.4]], dtype=torch.float64)
    y, p = Bernoulli().sample(f.expand(20_000, -1), rng(3)), f.sigmoid()[0]
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert z(y, p, (p * (1 - p)).sqrt()) < 5
    torch.testing.assert_close(Bernoulli().mean(f)[0], p)


def test_a_strangers_samples_have_the_right_moments() -> None:
    """Four z-scores within 5 (mean and variance of two outputs); seeded. False-alarm rate: 2.3e-6."""
    f = torch.tensor([[0.7, 2.1]], dtype=torch.float64)
    y, rate = Poisson().sample(f.expand(20_000, -1), rng(3)), f.exp()[0]
    assert (y == y.round()).all()
    assert z(y, rate, rate.sqrt()) < 5
    assert z((y - rate).square(), rate, (2 * rate**2 + rate).sqrt()) < 5


@pytest.mark.parametrize("kind", ["normal", "heteroscedastic"])
def test_gaussian_samples_have_the_right_moments(kind: str) -> None:
    """Four z-scores within 5 (mean and variance of two outputs); seeded. False-alarm rate: 2.3e-6."""
    mu, sigma = torch.tensor([0.5, -3.0], dtype=torch.float64), torch.tensor([0.2, 4.0], dtype=torch.float64)
    if kind == "normal":
        likelihood, f = Normal(log_sigma=sigma.log().requires_grad_()), mu[None]
    else:
        likelihood, f = HeteroscedasticNormal(), torch.cat([mu, sigma.log()])[None].requires_grad_()
    y = likelihood.sample(f.expand(20_000, -1), rng(4))
    assert not y.requires_grad
    assert z(y, mu, sigma) < 5
    assert z((y - mu).square(), sigma**2, math.sqrt(2) * sigma**2) < 5


@pytest.mark.parametrize("likelihood", [Categorical(), Bernoulli(), Normal(), HeteroscedasticNormal(), Poisson()])
def test_samples_follow_the_seed_and_fit_their_own_likelihood(likelihood: Likelihood) -> None:
    f = logits(200, 4, 0.5)
    y = likelihood.sample(f, rng(5))
    assert torch.equal(y, likelihood.sample(f, rng(5)))
    assert not torch.equal(y, likelihood.sample(f, rng(6)))
    assert torch.equal(likelihood.validate(y, 4), y)
    assert torch.isfinite(likelihood.log_prob(f, y)).all()


@pytest.mark.parametrize("likelihood", [Gibbs(quartic), ZeroOne()])
def test_unnormalised_likelihoods_cannot_be_sampled(likelihood: Likelihood) -> None:
    assert not likelihood.normalised
    with pytest.raises(InputError, match="no sampling distribution"):
        likelihood.sample(torch.zeros(2, 3), rng())


def test_zero_one_has_no_factor() -> None:
    with pytest.raises(InputError, match="0-1 loss"):
        ZeroOne().factor(torch.zeros(2, 3), torch.tensor([0, 1]))


# ---------------------------------------------------------------------------------------------- validation


@pytest.mark.parametrize(
    "y, outputs, message",
    [
        (torch.tensor([0, 1, 2, 12, 0, 15]), 10, r"labels in 0\.\.9; got label 12 in row 3 \(and 1 more row\)"),
        (torch.tensor([0, 1, -1]), 3, r"label -1 in row 2"),
        (torch.tensor([0.0, 1.0, 0.5]), 3, r"label 0\.5 in row 2"),
        (torch.tensor([0.0, math.nan, 1.0]), 3, r"label nan in row 1"),
        (torch.tensor([0.0, 1.0, math.inf]), 3, r"label inf in row 2"),
        (torch.tensor([0.0, 1.0, 1e30]), 3, r"label 1e\+30 in row 2"),
        (torch.tensor([2, 2, 2]), 3, r"at least two classes; got 3 rows, all of class 2"),
        (torch.tensor([], dtype=torch.long), 3, r"at least 1 row; got no rows"),
        (torch.tensor([1]), 3, r"at least 2 rows; got 1 row\."),
        (torch.eye(3).long(), 3, r"shape \(N,\); got shape \(3, 3\).*one-hot"),
        (torch.tensor(3), 3, r"one row per example; got shape \(\)"),
        (torch.tensor([0, 1]), 1, r"at least two outputs"),
    ],
)
@pytest.mark.parametrize("likelihood", [Categorical(), ZeroOne()], ids=["categorical", "zero-one"])
def test_bad_class_labels_are_named(likelihood: Likelihood, y: Tensor, outputs: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        likelihood.validate(y, outputs)


def test_class_labels_come_back_as_int64_vectors() -> None:
    for y in (
        torch.tensor([[0.0], [2.0], [1.0]]),
        torch.tensor([0, 2, 1], dtype=torch.uint8),
        torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64),
    ):
        got = Categorical().validate(y, 5)
        assert got.dtype == torch.int64
        assert got.tolist() == [0, 2, 1]


def test_test_labels_may_be_one_row_or_one_class() -> None:
    assert Categorical().validate(torch.tensor([2]), 3, training=False).tolist() == [2]
    assert Categorical().validate(torch.tensor([2, 2]), 3, training=False).tolist() == [2, 2]
    assert Bernoulli().validate(torch.tensor([1]), 1, training=False).tolist() == [[1.0]]
    assert Normal().validate(torch.tensor([0.5]), 1, training=False).tolist() == [[0.5]]
    with pytest.raises(InputError, match="row 0"):
        Categorical().validate(torch.tensor([3]), 3, training=False)


def test_number_of_outputs() -> None:
    assert Categorical().outputs(torch.tensor([0, 4, 1])) == 5
    assert Categorical(classes=7).outputs(torch.tensor([0, 4, 1])) == 7
    assert ZeroOne().outputs(torch.tensor([0, 4, 1])) == 5
    assert Bernoulli().outputs(torch.tensor([0, 1, 1])) == 1
    assert Bernoulli().outputs(torch.tensor([[0, 1, 1], [1, 1, 0]])) == 3
    assert Normal().outputs(torch.zeros(5, 3)) == 3
    assert HeteroscedasticNormal().outputs(torch.zeros(5, 3)) == 6
    assert Poisson().outputs(torch.zeros(5, 3)) == 3
    assert Gibbs(quartic).outputs(torch.zeros(5, 3)) == 3
    assert Gibbs(quartic, width=4).outputs(torch.zeros(5, 3)) == 4
    assert Gibbs(cross_entropy).outputs(torch.tensor([0, 4, 1])) == 5
    with pytest.raises(InputError, match=r"labels in 0\.\.3; got label 4 in row 1"):
        Categorical(classes=4).outputs(torch.tensor([0, 4, 1]))
    with pytest.raises(InputError, match="at least two classes"):
        Categorical().outputs(torch.tensor([3, 3]))


def test_outputs_must_fit_the_labels() -> None:
    with pytest.raises(InputError, match="a network with 4 outputs; got 3"):
        Categorical(classes=4).validate(torch.tensor([0, 1]), 3)
    with pytest.raises(InputError, match=r"a network with 2 outputs.*; got 1"):
        Bernoulli().validate(torch.tensor([[0, 1], [1, 0]]), 1)
    with pytest.raises(InputError, match=r"a network with 2 outputs.*; got 3"):
        Normal().validate(torch.zeros(4, 2), 3)
    with pytest.raises(InputError, match=r"a network with 4 outputs.*; got 2"):
        HeteroscedasticNormal().validate(torch.zeros(4, 2), 2)
    with pytest.raises(InputError, match="an even number of outputs"):
        HeteroscedasticNormal().mean(torch.zeros(4, 3))
    with pytest.raises(InputError, match=r"log_sigma of shape \(2,\)"):
        Normal(log_sigma=torch.zeros(3)).validate(torch.zeros(4, 2), 2)
    for wrong in (1, 0, 2.5, True):
        with pytest.raises(InputError, match="classes as a whole number"):
            Categorical(classes=wrong)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    "likelihood, outputs", [(Normal(), 2), (HeteroscedasticNormal(), 4), (Poisson(), 2), (Gibbs(quartic), 2)]
)
def test_bad_targets_are_named_by_row_and_column(likelihood: Likelihood, outputs: int) -> None:
    y = torch.zeros(5, 2)
    y[3, 1], y[4, 0] = math.nan, math.inf
    with pytest.raises(InputError, match=r"got nan in row 3, column 1 \(and 1 more row\)"):
        likelihood.validate(y, outputs)
    with pytest.raises(InputError, match="at least 2 rows; got 1 row"):
        likelihood.validate(y[:1], outputs)
    with pytest.raises(InputError, match="got no rows"):
        likelihood.validate(y[:0], outputs)


def test_targets_come_back_as_floats_in_columns() -> None:
    got = Normal().validate(torch.tensor([3, 4, 7]), 1)
    assert got.shape == (3, 1)
    assert got.dtype == torch.get_default_dtype()
    assert Normal().validate(torch.zeros(3, dtype=torch.float64), 1).dtype == torch.float64
    for wrong in (torch.zeros(3, 2, 2), torch.zeros(3, 0)):
        with pytest.raises(InputError, match=r"targets of shape \(N,\) or \(N, D\)"):
            Normal().validate(wrong, 2)
    with pytest.raises(InputError, match="a tensor; got a ndarray"):
        Normal().validate(np.zeros(3), 1)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InputError, match="real labels"):
        Normal().validate(torch.zeros(3, dtype=torch.complex64), 1)


def test_bad_binary_labels_are_named() -> None:
    y = torch.tensor([[0.0, 1.0], [1.0, 2.0], [0.5, 0.0]])
    with pytest.raises(InputError, match=r"0 or 1; got 2 in row 1, column 1 \(and 1 more row\)"):
        Bernoulli().validate(y, 2)
    with pytest.raises(InputError, match="nan in row 1, column 0"):
        Bernoulli().validate(torch.tensor([[0.0, 1.0], [math.nan, 2.0]]), 2)
    with pytest.raises(InputError, match="at least two classes"):
        Bernoulli().validate(torch.ones(4), 1)
    with pytest.raises(InputError, match="at least two classes"):
        Bernoulli().validate(torch.ones(4, 12), 12)
    got = Bernoulli().validate(torch.tensor([True, False, True]), 1)
    assert got.shape == (3, 1)
    assert got.dtype == torch.get_default_dtype()


# ---------------------------------------------------------------------------------------------- Gibbs


@pytest.mark.parametrize(
    "loss, got",
    [
        (lambda f, y: (f - y).square().mean(), r"shape \(\)"),
        (lambda f, y: (f - y).square(), r"shape \(4, 3\)"),
        (lambda f, y: (f - y).square().sum(1, keepdim=True), r"shape \(4, 1\)"),
        (lambda f, y: 1.0, "a float"),
    ],
)
def test_a_loss_of_the_wrong_shape_is_refused(loss: Callable[[Tensor, Tensor], Tensor], got: str) -> None:
    likelihood, y = Gibbs(loss, name="mine"), torch.zeros(4, 3)
    for call in (likelihood.log_prob, likelihood.factor):
        with pytest.raises(InputError, match=rf"a loss of shape \(4,\).*got {got} from gibbs:mine"):
            call(torch.zeros(4, 3), y)
    with pytest.raises(InputError, match=rf"a loss of shape \(4,\).*got {got}"):
        likelihood.validate(y, 3)


def test_gibbs_rehearses_the_loss() -> None:
    y = logits(6, 3)
    assert Gibbs(quartic).validate(y, 3) is y
    with pytest.raises(InputError, match="each example alone"):
        Gibbs(lambda f, y: (f - y - (f - y).mean(0)).square().sum(1)).validate(y, 3)
    with pytest.raises(InputError, match="RuntimeError from gibbs:bad"):
        Gibbs(lambda f, y: (f @ y).sum(1), name="bad").validate(y, 3)
    with pytest.raises(InputError, match="a network with 2 outputs; got 3"):
        Gibbs(quartic, width=2).validate(y, 3)
    with pytest.raises(InputError, match="finite labels; got nan in row 1, column 0"):
        Gibbs(cross_entropy).validate(torch.tensor([0.0, math.nan]), 3)
    with pytest.warns(NovaculaWarning, match="no curvature"):
        Gibbs(lambda f, y: (f - y).abs().sum(1)).validate(y, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Gibbs(cross_entropy).validate(torch.tensor([0, 2, 1]), 3)
        # A loss that needs positive outputs is NaN at made-up ones; that is for training to find, not for a rehearsal.
        Gibbs(lambda f, y: (f - y * f.log()).sum(1)).validate(y.abs(), 3)


def test_gibbs_names_tell_losses_apart() -> None:
    assert Gibbs(quartic).loss.endswith("test_likelihoods.quartic")
    one = Gibbs(lambda f, y: f.sum(1))
    two = Gibbs(lambda f, y: f.square().sum(1))
    assert one.loss != two.loss
    assert Gibbs(torch.nn.CrossEntropyLoss(reduction="none")).loss.endswith("CrossEntropyLoss")
    assert Gibbs(quartic, name="q").loss == "gibbs:q"
    assert dataclasses.replace(Gibbs(quartic, name="q"), width=3).loss == "gibbs:q"
    with pytest.raises(InputError, match="a callable function"):
        Gibbs(3.0)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InputError, match="a callable link"):
        Gibbs(quartic, link=3.0)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InputError, match="width as a positive whole number"):
        Gibbs(quartic, width=0)


def test_gibbs_link_maps_outputs_to_predictions() -> None:
    f = logits(4, 3)
    assert Gibbs(quartic).mean(f) is f
    torch.testing.assert_close(Gibbs(quartic, link=lambda f: f.softmax(1)).mean(f), f.softmax(1))


# ---------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    "y, kind",
    [
        (torch.tensor([0, 1, 2, 1]), Categorical),
        (torch.tensor([[0], [1], [1]]), Categorical),
        (torch.tensor([0.0, 1.0, 2.0]), Normal),
        (torch.rand(4, 2, generator=rng(7)), Normal),
        (torch.tensor([True, False]), Bernoulli),
        (torch.tensor([[0, 1], [1, 1]]), Bernoulli),
    ],
)
def test_default_likelihood_goes_by_dtype(y: Tensor, kind: type) -> None:
    assert type(default_likelihood(y)) is kind


@pytest.mark.parametrize("y", [torch.tensor([-1, 0, 1]), torch.tensor([100, 2_000, 30])])
def test_default_likelihood_refuses_to_guess(y: Tensor) -> None:
    with pytest.raises(InputError, match="whole numbers from"):
        default_likelihood(y)


ALL = [Categorical(), Bernoulli(), Normal(), HeteroscedasticNormal(), Gibbs(quartic), ZeroOne(), Poisson()]


@pytest.mark.parametrize("likelihood", ALL, ids=lambda v: type(v).__name__)
def test_protocol(likelihood: Likelihood) -> None:
    assert dataclasses.is_dataclass(likelihood)
    assert likelihood.bind(4) is likelihood
    assert all(isinstance(getattr(likelihood, name), Tensor) for name in likelihood.learnable)
    assert likelihood.task in {"classification", "multilabel", "regression", "other"}
    copy = pickle.loads(pickle.dumps(likelihood))
    assert (copy.loss, copy.task, copy.normalised) == (likelihood.loss, likelihood.task, likelihood.normalised)
    assert dataclasses.replace(likelihood).loss == likelihood.loss
    with pytest.raises(dataclasses.FrozenInstanceError):
        likelihood.loss = "other"  # type: ignore[misc]  # the point of the test


def test_losses_have_distinct_names() -> None:
    assert len({likelihood.loss for likelihood in ALL}) == len(ALL)
