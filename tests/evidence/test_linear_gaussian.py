"""Linear-Gaussian models have a closed form, here by numpy: every estimator that claims to be exact must give it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.curvature.structures.names import build
from novacula.data.data import Data
from novacula.evidence import ELBO, Laplace, LinearGaussian, tune
from novacula.evidence.linearity import is_linear_gaussian
from novacula.invariances import Custom
from novacula.likelihoods import Categorical, Normal
from novacula.priors import FanIn, Gaussian
from novacula.priors import Laplace as LaplacePrior
from novacula.target import Copies, Target

SHAPES = [(9, 3), (4, 7)]  # N·D against P: 18 > 8 (primal), 8 < 16 (dual)


def case(
    n: int, d: int, *, temperature: float = 1.0, log_precision: Tensor | None = None, log_sigma: Tensor | None = None
):
    """Two outputs with noise of their own, weight and bias with precisions of their own, labels off centre."""
    rng = generator(5, n, d)
    x = torch.randn(n, d, generator=rng, dtype=torch.float64)
    y = torch.randn(n, 2, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 2.5]) + 0.7
    log_precision = torch.tensor([-0.4, 0.9], dtype=torch.float64) if log_precision is None else log_precision
    log_sigma = torch.tensor([-0.5, 0.3], dtype=torch.float64) if log_sigma is None else log_sigma
    net = nn.Linear(d, 2).double()
    likelihood, prior = Normal(log_sigma=log_sigma), Gaussian(log_precision=log_precision)
    return Target(net, likelihood, prior, temperature=temperature), Data(x, y)


def closed_form(x: np.ndarray, y: np.ndarray, log_precision: np.ndarray, log_sigma: np.ndarray) -> float:
    """Each output is ``N(0, σ_d² I + X Xᵀ/λ_w + 1 1ᵀ/λ_b)``: outputs share no weight."""
    total = 0.0
    for column in range(2):
        k = x @ x.T / np.exp(log_precision[0]) + 1 / np.exp(log_precision[1])
        k = k + np.exp(2 * log_sigma[column]) * np.eye(len(x))
        z = y[:, column]
        total += -0.5 * (np.linalg.slogdet(2 * np.pi * k)[1] + z @ np.linalg.solve(k, z))
    return float(total)


def anywhere(target: Target, seed: int, size: float) -> Params:
    rng = generator(seed)
    return {k: size * torch.randn(w.shape, generator=rng, dtype=w.dtype) for k, w in target.params().items()}


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("estimator", [LinearGaussian(), Laplace("exact"), Laplace("last_layer")])
@pytest.mark.parametrize("size", [0.0, 1.0, 100.0])
def test_the_value_is_the_closed_form_from_any_start(
    n: int, d: int, estimator: Laplace | LinearGaussian, size: float
) -> None:
    target, data = case(n, d)
    want = closed_form(data.x.numpy(), data.y.numpy(), np.array([-0.4, 0.9]), np.array([-0.5, 0.3]))
    found = estimator(target, data, anywhere(target, 1, size), seed=3)
    assert float(found) == pytest.approx(want, rel=1e-8, abs=1e-8)
    assert (found.kind, found.stderr) == ("exact", 0.0)


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("estimator", [LinearGaussian(), Laplace("exact"), Laplace("last_layer")])
def test_gradients_are_those_of_the_closed_form_from_any_start(
    n: int, d: int, estimator: Laplace | LinearGaussian
) -> None:
    """The gradient at the point of the start, where it is no mode, would be another one."""
    log_precision = torch.tensor([-0.4, 0.9], dtype=torch.float64, requires_grad=True)
    log_sigma = torch.tensor([-0.5, 0.3], dtype=torch.float64, requires_grad=True)
    target, data = case(n, d, log_precision=log_precision, log_sigma=log_sigma)
    estimator(target, data, anywhere(target, 2, 3.0), seed=3).value.backward()
    x, y, h = data.x.numpy(), data.y.numpy(), 1e-5
    for leaf, other, place in ((log_precision, log_sigma, 0), (log_sigma, log_precision, 1)):
        for i in range(2):
            values = []
            for sign in (1, -1):
                moved = leaf.detach().numpy().copy()
                moved[i] += sign * h
                pair = (moved, other.detach().numpy())
                values.append(closed_form(x, y, *(pair if place == 0 else pair[::-1])))
            assert float(leaf.grad[i]) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-7, abs=1e-7)


def test_batches_and_two_passes_change_nothing() -> None:
    """Chunks of 2 are recomputed in the backward pass; one chunk of all keeps its graph."""
    found = []
    for chunk in (2, 100):
        log_sigma = torch.tensor([-0.5, 0.3], dtype=torch.float64, requires_grad=True)
        target, data = case(9, 3, log_sigma=log_sigma)
        estimate = Laplace("exact", chunk=chunk)(target, data, anywhere(target, 2, 3.0), seed=3)
        estimate.value.backward()
        found.append((estimate.value.detach(), log_sigma.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
@pytest.mark.parametrize("estimator", [LinearGaussian(), Laplace("exact")])
def test_tempered_evidence_against_quadrature(temperature: float, estimator: Laplace | LinearGaussian) -> None:
    """Two weights, by brute force on a grid: ``∫ [p(D|w) p(w)]^(1/T) / ∫ p(w)^(1/T)``."""
    rng = generator(8)
    x = torch.randn(6, 2, generator=rng, dtype=torch.float64)
    data = Data(x, torch.randn(6, 1, generator=rng, dtype=torch.float64))
    prior = Gaussian(log_precision=torch.tensor(0.4, dtype=torch.float64))
    likelihood = Normal(log_sigma=torch.tensor(-0.2, dtype=torch.float64))
    target = Target(nn.Linear(2, 1, bias=False).double(), likelihood, prior, temperature=temperature)
    axis = torch.linspace(-8, 8, 801, dtype=torch.float64)
    w = torch.cartesian_prod(axis, axis)
    z = (data.y - data.x @ w.T) / math.exp(-0.2)
    fit = (-0.5 * z.square() + 0.2 - 0.5 * math.log(2 * math.pi)).sum(0)
    log_prior = -0.5 * math.exp(0.4) * w.square().sum(1) + 0.4 - math.log(2 * math.pi)
    want = ((fit + log_prior) / temperature).logsumexp(0) - (log_prior / temperature).logsumexp(0)
    assert float(estimator(target, data, anywhere(target, 2, 1.0), seed=0)) == pytest.approx(float(want), abs=1e-9)


def test_kron_is_exact_for_one_layer_without_bias_at_its_mode() -> None:
    rng = generator(4)
    x = torch.randn(11, 3, generator=rng, dtype=torch.float64)
    y = torch.randn(11, 2, generator=rng, dtype=torch.float64)
    target = Target(nn.Linear(3, 2, bias=False).double(), Normal(sigma=0.6), Gaussian(precision=1.7))
    data = Data(x, y)
    mode = {"weight": torch.linalg.solve(x.T @ x / 0.36 + 1.7 * torch.eye(3), x.T @ y / 0.36).T.contiguous()}
    want = float(LinearGaussian()(target, data, mode, seed=0))
    assert float(Laplace("kron")(target, data, mode, seed=0)) == pytest.approx(want, abs=1e-9)
    assert float(Laplace("diag")(target, data, mode, seed=0)) < want - 0.01  # Hadamard: too low


def test_one_transformation_more_of_the_features_is_one_feature_averaged() -> None:
    """With an invariance, the closed form is that of the averaged features, and there is an error between draws."""
    shift = Custom(lambda x, u, eta: x + eta * u, eta=torch.tensor([0.8], dtype=torch.float64))
    plain, data = case(9, 3)
    target = Target(plain.network, plain.likelihood, plain.prior, shift, copies=Copies(evidence=3))
    found = [Laplace("exact", repeats=1)(target, data, target.params(), seed=s) for s in range(2)]
    assert float(found[0]) != float(found[1])
    assert math.isnan(found[0].stderr)
    assert (found[0].kind, found[0].warnings) == (
        "estimate",
        ("one draw of what is random: no standard error (use repeats=2 or more)",),
    )
    assert Laplace("exact", repeats=3)(target, data, target.params(), seed=0).stderr > 0
    assert LinearGaussian()(target, data, target.params(), seed=0).kind == "estimate"


def test_the_last_layer_is_scored_given_its_features() -> None:
    """The exact evidence of a linear model whose inputs are the hidden units, from any last layer."""
    rng = generator(6)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    data = Data(
        torch.randn(10, 3, generator=rng, dtype=torch.float64), torch.randn(10, 2, generator=rng, dtype=torch.float64)
    )
    target = Target(net, Normal(sigma=0.5), Gaussian(precision=0.8))
    found = Laplace("last_layer")(target, data, target.params(), seed=0)
    hidden = Data(net[:2](data.x).detach(), data.y)
    head = Target(nn.Linear(4, 2).double(), Normal(sigma=0.5), Gaussian(precision=0.8))
    want = LinearGaussian()(head, hidden, head.params(), seed=0)
    assert float(found) == pytest.approx(float(want), abs=1e-9)
    assert found.kind == "exact"
    assert any("last layer" in a for a in found.assumptions)


def test_fan_in_priors_have_a_closed_form_too() -> None:
    target, data = case(9, 3)
    target = Target(target.network, target.likelihood, FanIn(sigma_w=1.5, sigma_b=0.5))
    logs = np.array([math.log(3 / 1.5**2), math.log(1 / 0.5**2)])
    want = closed_form(data.x.numpy(), data.y.numpy(), logs, np.array([-0.5, 0.3]))
    assert float(LinearGaussian()(target, data, target.params(), seed=0)) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("structure", ["exact", "last_layer"])
def test_the_elbo_is_the_evidence_where_the_posterior_is_exact(structure: str) -> None:
    """Within five standard errors of 200 pairs of draws; false alarms in 1 of 10⁵ cases (t with 199 degrees)."""
    log_sigma = torch.tensor([-0.5, 0.3], dtype=torch.float64, requires_grad=True)
    log_precision = torch.tensor([-0.4, 0.9], dtype=torch.float64, requires_grad=True)
    target, data = case(9, 3, log_sigma=log_sigma, log_precision=log_precision)
    mode = gaussian_mode(target, data)
    exact = LinearGaussian()(target, data, mode, seed=0)
    found = ELBO(structure, samples=400)(target, data, mode, seed=0)
    assert abs(float(found) - float(exact)) < 5 * found.stderr
    assert found.kind == "lower bound"
    want = torch.autograd.grad(exact.value, [log_precision, log_sigma])
    got = torch.autograd.grad(found.value, [log_precision, log_sigma])
    # In the precisions the gradient has no noise at all: it is that of the divergence, in closed form.
    torch.testing.assert_close(got[0], want[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got[1], want[1], rtol=0.1, atol=0.5)


@pytest.mark.parametrize("structure", ["kron", "diag"])
def test_the_elbo_of_a_poorer_posterior_is_lower(structure: str) -> None:
    """By the divergence of the two Gaussians, which has a closed form; five standard errors, 1 of 10⁵ false alarms."""
    target, data = case(9, 3)
    mode = gaussian_mode(target, data)
    exact = float(LinearGaussian()(target, data, mode, seed=0))
    found = ELBO(structure, samples=400)(target, data, mode, seed=0)
    problem = target.problem(mode, data, seed=0)
    precision = torch.cat([target.prior.precision(mode)[k].expand(w.shape).flatten() for k, w in mode.items()]).diag()
    true, mine = (c.dense() + precision for c in (build("exact", problem, seed=0), build(structure, problem, seed=0)))
    gap = 0.5 * (torch.linalg.solve(mine, true).trace() - len(true) + mine.logdet() - true.logdet())
    assert float(gap) > 0.05
    assert abs(float(found) - (exact - float(gap))) < 5 * found.stderr


def gaussian_mode(target: Target, data: Data) -> Params:
    """Solved by hand, output by output."""
    precision = {k: float(v.detach()) for k, v in target.prior.precision(target.params()).items()}
    design = torch.cat([data.x, torch.ones(data.n, 1, dtype=torch.float64)], 1)
    ridge = torch.tensor([precision["weight"]] * data.x.shape[1] + [precision["bias"]], dtype=torch.float64).diag()
    rows = []
    for d in range(2):
        s = float((-2 * target.likelihood.log_sigma.detach()[d]).exp())  # type: ignore[attr-defined]
        rows.append(torch.linalg.solve(s * design.T @ design + ridge, s * design.T @ data.y[:, d]))
    solved = torch.stack(rows)
    return {"weight": solved[:, :-1].contiguous(), "bias": solved[:, -1].contiguous()}


def test_tuning_and_refitting_in_turn_reaches_the_maximum_of_the_closed_form() -> None:
    """MacKay's iteration: at its fixed point the gradient of the exact evidence vanishes."""
    target, data = case(30, 3)
    target = Target(target.network, Normal(log_sigma=torch.zeros(2, dtype=torch.float64)), Gaussian(per="all"))
    for _ in range(60):
        target = tune(target, data, gaussian_mode(target, data), structure="exact", seed=0).target
    log_precision = target.prior.log_precision.requires_grad_()  # type: ignore[attr-defined]
    target = target.with_learnable({"prior.log_precision": log_precision})
    value = LinearGaussian()(target, data, target.params(), seed=0).value
    (gradient,) = torch.autograd.grad(value, log_precision)
    assert abs(float(gradient)) < 1e-6


def test_other_models_are_refused() -> None:
    target, data = case(9, 3)
    deep = Target(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double(), Normal())
    sparse = Target(target.network, Normal(), LaplacePrior())
    for model in (deep, sparse):
        assert not is_linear_gaussian(model, model.params(), data, seed=0)
        with pytest.raises(InputError, match=r"affine in the weights.*nv\.evidence\.Laplace"):
            LinearGaussian()(model, data, model.params(), seed=0)
    classes = Target(nn.Linear(3, 2).double(), Categorical())
    assert not is_linear_gaussian(classes, classes.params(), Data(data.x, torch.arange(9) % 2), seed=0)
    with pytest.raises(InputError, match="copies as a whole number"):
        LinearGaussian(copies=0)


def test_networks_that_are_linear_only_near_the_weights_are_not_linear() -> None:
    _, data = case(9, 3)
    for activation in (nn.ReLU(), nn.Hardtanh(-50.0, 50.0), nn.Softplus()):
        target = Target(nn.Sequential(nn.Linear(3, 2), activation).double(), Normal())
        start = {k: 0.01 * w + (k.endswith("bias")) for k, w in target.params().items()}
        assert not is_linear_gaussian(target, start, Data(20 * data.x, data.y), seed=0)
    single = Target(nn.Linear(3, 2), Normal())
    assert is_linear_gaussian(single, single.params(), data.to(dtype=torch.float32), seed=0)
