"""Conditional and prequential scores against closed forms, quadrature and direct summation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.rng import derive, generator
from novacula.curvature import plan, rows
from novacula.curvature.gradients.jacobian import unit_factor
from novacula.curvature.structures.names import build
from novacula.data.data import Data
from novacula.evidence import Conditional, LinearGaussian, Prequential, training
from novacula.evidence.filtering import log_joint
from novacula.evidence.function_space import joint_outputs
from novacula.inference import MAP
from novacula.inference.loop import run
from novacula.invariances import Custom
from novacula.likelihoods import Bernoulli, Categorical, Gibbs, HeteroscedasticNormal, Normal
from novacula.likelihoods.base import Likelihood
from novacula.priors import Gaussian
from novacula.target import Copies, Target


def covariance(size: int, rank: int, seed: int = 0) -> Tensor:
    a = torch.randn(size, rank, generator=generator(seed, "covariance"), dtype=torch.float64)
    return a @ a.T


def classes(n: int = 16) -> tuple[Target, Data]:
    rng = generator(4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    return Target(net, Categorical(), Gaussian(precision=0.7)), Data(x, (x[:, 0] > 0.1).long())


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> int:
    """Fewer steps than a training takes at least, for what does not depend on their number."""
    monkeypatch.setattr(training, "STEPS", 30)
    return 30


# ---------------------------------------------------------------------------------------------- the joint score


def test_the_joint_score_is_exact_for_gaussian_noise() -> None:
    """``N(y; m, K + σ²)`` with noise of each output's own, for a full and for a singular K."""
    rng = generator(1)
    mean, y = (torch.randn(4, 2, generator=rng, dtype=torch.float64) for _ in range(2))
    log_sigma = torch.tensor([-0.5, 0.4], dtype=torch.float64)
    for rank in (8, 3):
        k = covariance(8, rank)
        noise = (2 * log_sigma).exp().repeat(4).diag()
        want = torch.distributions.MultivariateNormal(mean.flatten(), k + noise).log_prob(y.flatten())
        assert float(log_joint(Normal(log_sigma=log_sigma), mean, k, y)) == pytest.approx(float(want), abs=1e-10)


@pytest.mark.parametrize(
    ("likelihood", "mean", "y", "tolerance"),
    [
        (Bernoulli(), torch.tensor([[0.4], [-1.0], [0.2]]), torch.tensor([[1.0], [1.0], [0.0]]), 0.02),
        (Bernoulli(), torch.tensor([[0.4, 1.0], [-1.0, 0.3]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]), 0.02),
        (Categorical(), torch.tensor([[0.4, -0.2, 0.1]]), torch.tensor([1]), 0.003),
        (Categorical(), torch.tensor([[0.4, -0.2, 0.1], [-0.3, 0.5, 0.2]]), torch.tensor([1, 0]), 0.02),
        (HeteroscedasticNormal(), torch.tensor([[0.3, -0.4], [0.1, 0.2]]), torch.tensor([[1.1], [-0.3]]), 0.05),
    ],
    ids=["bernoulli", "multilabel", "categorical", "categorical-two", "heteroscedastic"],
)
def test_the_joint_score_against_quadrature(likelihood: Likelihood, mean: Tensor, y: Tensor, tolerance: float) -> None:
    """A rank of 2, on a grid of whitened coordinates: what is left is the error of filtering, stated."""
    mean = mean.double()
    root = 0.7 * torch.randn(mean.numel(), 2, generator=generator(3), dtype=torch.float64)
    axis = torch.linspace(-8, 8, 401, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    total = -0.5 * z.square().sum(1) - math.log(2 * math.pi) + 2 * torch.log(axis[1] - axis[0])
    f = mean + (z @ root.T).unflatten(1, mean.shape)
    for n in range(len(mean)):
        total = total + likelihood.log_prob(f[:, n], y[n : n + 1].expand(len(z), *y.shape[1:]))
    found = log_joint(likelihood, mean, root @ root.T, y)
    assert float(found) == pytest.approx(float(total.logsumexp(0)), abs=tolerance)
    none = log_joint(likelihood, mean, torch.zeros(mean.numel(), mean.numel()), y)
    assert float(none) == pytest.approx(float(likelihood.log_prob(mean, y).sum()), abs=1e-12)


def test_labels_that_say_nothing_change_nothing() -> None:
    """A likelihood that is flat for every example: the outputs keep their distribution exactly."""

    def flat(f: Tensor, y: Tensor) -> Tensor:
        return 0 * f.sum(1) + 0.3

    k = covariance(8, 5)
    mean = torch.randn(4, 2, generator=generator(2), dtype=torch.float64)
    found = log_joint(Gibbs(flat, name="flat"), mean, k, torch.zeros(4))
    assert float(found) == pytest.approx(-1.2, abs=1e-9)


def test_many_examples_and_wide_outputs_against_sampling() -> None:
    """30 labels with correlated logits of variance about 10, where 200,000 draws from the prior still do (80 count)."""
    a = torch.randn(30, 8, generator=generator(5), dtype=torch.float64) / 8**0.5
    k = 9 * (a @ a.T + 0.1 * torch.eye(30, dtype=torch.float64))
    mean, y = torch.full((30, 1), 2.0, dtype=torch.float64), torch.rand(30, 1, generator=generator(6)).double()
    y = (y < 0.8).double()
    z = torch.randn(100_000, 30, generator=generator(8), dtype=torch.float64)
    weights = nn.functional.logsigmoid((2 * y.T - 1) * (2.0 + z @ torch.linalg.cholesky(k).T)).sum(1)
    direct = float(weights.logsumexp(0)) - math.log(len(z))
    error = 1 / math.sqrt(float(1 / weights.softmax(0).square().sum()))
    assert error < 0.25
    assert abs(float(log_joint(Bernoulli(), mean, k, y)) - direct) < 3 * error + 0.05


def test_a_label_that_nothing_led_to_expect_is_scored_by_its_tail() -> None:
    """``E σ(f)`` for ``f ~ N(−30, 5²)`` is ``exp(−30 + 25/2)`` but for the sigmoid's saturation."""
    mean, k = torch.full((1, 1), -30.0, dtype=torch.float64), torch.full((1, 1), 25.0, dtype=torch.float64)
    f = torch.linspace(-70, 40, 200_001, dtype=torch.float64)
    log_density = -0.5 * (f + 30).square() / 25 - 0.5 * math.log(50 * math.pi) + torch.log(f[1] - f[0])
    want = float((nn.functional.logsigmoid(f) + log_density).logsumexp(0))
    found = log_joint(Bernoulli(), mean, k, torch.ones(1, 1, dtype=torch.float64))
    assert float(found) == pytest.approx(want, abs=0.02)


@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "last_layer", "matrix_free"])
def test_the_joint_covariance_is_that_of_all_examples(structure: str) -> None:
    """Against dense matrices; the batches of 2 fill blocks of it. Conjugate gradients stop at 1e-4."""
    target, data = classes(5)
    params = target.params()
    curvature = build(structure, target.problem(params, data, seed=0), seed=0)
    sigma = curvature.covariance(target.prior.precision(params))
    made = plan(target.problem(params, data, seed=0, chunk=2), curvature.names)
    mean, k, y = joint_outputs(made, sigma)
    whole = target.problem(params, data, seed=0)
    x = data.x.unsqueeze(1)
    j = rows(plan(whole, curvature.names), x, data.y, factor=unit_factor).flatten(0, 1)
    inverse = torch.linalg.inv(curvature.dense() + 0.7 * torch.eye(j.shape[1], dtype=torch.float64))
    loose = 1e-3 if structure == "matrix_free" else 1e-10
    torch.testing.assert_close(k, j @ inverse @ j.T, rtol=loose, atol=loose)
    torch.testing.assert_close(sigma.apply(j).double(), j @ inverse, rtol=loose, atol=loose)
    torch.testing.assert_close(mean, target.forward(params, data.x))
    assert torch.equal(y, data.y)


# -------------------------------------------------------------------------------------------------- Conditional


def linear(n: int = 12) -> tuple[Target, Data]:
    rng = generator(9)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    y = x @ torch.randn(3, 2, generator=rng, dtype=torch.float64) + 0.5 * torch.randn(n, 2, generator=rng).double()
    likelihood = Normal(log_sigma=torch.tensor([-0.6, -0.2], dtype=torch.float64))
    prior = Gaussian(log_precision=torch.tensor([0.3, -0.5], dtype=torch.float64))
    return Target(nn.Linear(3, 2).double(), likelihood, prior), Data(x, y)


def difference(target: Target, data: Data, m: int) -> float:
    """``log p(D) − log p(D_{<m})``."""
    parts = (data, data.subset(range(m)))
    whole, first = (float(LinearGaussian()(target, d, target.params(), seed=0)) for d in parts)
    return whole - first


def mode(target: Target, data: Data) -> dict[str, Tensor]:
    """One Newton step from zero, as the model is linear."""
    zero = {k: torch.zeros_like(w) for k, w in target.params().items()}
    leaves = {k: w.requires_grad_() for k, w in zero.items()}
    value = target.likelihood.log_prob(target.forward(leaves, data.x), data.y).sum() + target.prior.log_prob(leaves)
    gradient = torch.autograd.grad(value, list(leaves.values()))
    curvature = build("exact", target.problem(zero, data, seed=0), seed=0)
    return curvature.covariance(target.prior.precision(zero)).solve(dict(zip(leaves, gradient, strict=True)))


@pytest.mark.parametrize(("structure", "exactly"), [("exact", True), ("last_layer", True), ("kron", False)])
@pytest.mark.parametrize("m", [4, 11])
def test_the_score_is_a_difference_of_evidences(structure: str, exactly: bool, m: int) -> None:
    """Exact at the mode in a linear-Gaussian model; Kronecker factors leave out the correlation with biases."""
    target, data = linear()
    seen, rest = data.subset(range(m)), data.subset(range(m, data.n))
    found = Conditional(structure=structure).score(target, mode(target, seen), seen, rest, seed=0)
    want = difference(target, data, m)
    assert (abs(float(found) - want) < 1e-9) == exactly
    assert abs(float(found) - want) < 2


def test_training_finds_the_mode_that_the_score_needs() -> None:
    """The estimate from long training, against the closed forms of the same orders of the data."""
    target, data = linear()
    estimator = Conditional(fraction=0.5, structure="exact", orders=3, epochs=700, batch_size=6, optimiser=MAP(lr=0.05))
    found = estimator(target, data, seed=5)
    want = []
    for o in range(3):
        order = torch.randperm(12, generator=generator(derive(5, "order", o)))
        want.append(difference(target, data.subset(order), 6))
    values = torch.tensor(want, dtype=torch.float64)
    assert float(found) == pytest.approx(float(values.mean()), abs=0.01)
    assert found.stderr == pytest.approx(float(values.std()) / math.sqrt(3), abs=0.01)
    assert (found.n, found.kind, found.warnings) == (6, "estimate", ())
    assert found.per_example == pytest.approx(float(found) / 6)


def test_the_temperature_scales_the_covariance() -> None:
    target, data = linear()
    seen, rest = data.subset(range(8)), data.subset(range(8, 12))
    weights = mode(target, seen)
    cold = Conditional(structure="exact", temperature=1e-9).score(target, weights, seen, rest, seed=0)
    plug_in = target.likelihood.log_prob(target.forward(weights, rest.x), rest.y).sum()
    assert float(cold) == pytest.approx(float(plug_in), abs=1e-6)
    tempered = Target(target.network, target.likelihood, target.prior, temperature=0.3)
    pair = [
        Conditional(structure="exact").score(tempered, weights, seen, rest, seed=0),
        Conditional(structure="exact", temperature=0.3).score(target, weights, seen, rest, seed=0),
    ]
    assert float(pair[0]) == float(pair[1]) != float(plug_in)


@pytest.mark.usefixtures("few_steps")
def test_what_a_conditional_estimate_says_of_itself() -> None:
    target, data = classes()
    found = Conditional(orders=1, epochs=1, limit=3)(target, data, target.params(), seed=0)
    assert found.n == 3
    assert math.isnan(found.stderr)
    assert any("trained on 13 of 16 examples, scored on 3 others" in a for a in found.assumptions)
    assert any("one order of the data" in w for w in found.warnings)
    again = Conditional(orders=1, epochs=1, limit=3)(target, data, None, seed=0)
    assert float(found - again) == 0  # the start is not looked at
    with pytest.raises(InputError, match="the same estimator"):
        _ = found - Conditional(orders=1, epochs=1, limit=2)(target, data, seed=0)
    shift = Custom(lambda x, u, eta: x + eta * u, eta=torch.tensor([0.3], dtype=torch.float64))
    warped = Target(target.network, Categorical(), target.prior, shift, copies=Copies(evidence=3))
    found = Conditional(orders=2, epochs=1, structure="last_layer")(warped, data, seed=0)
    assert any("S=3 sampled transformations" in a for a in found.assumptions)
    assert found.stderr > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 1.0}, "a fraction between 0 and 1"),
        ({"structure": "full"}, "a structure among exact"),
        ({"orders": 0}, "orders as a whole number"),
        ({"limit": 0}, "limit as a whole number"),
        ({"temperature": 0.0}, "a temperature above zero"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Conditional(**settings)  # type: ignore[arg-type]
    target, data = classes()
    with pytest.raises(InputError, match="at least three examples"):
        Conditional()(target, data.subset(range(2)), seed=0)


# -------------------------------------------------------------------------------------------------- Prequential


def test_the_prequential_score_is_the_sum_of_its_forecasts(few_steps: int) -> None:
    """Trained and summed here, block by block."""
    target, data = classes(16)
    estimator = Prequential(blocks=2, epochs=3, batch_size=5, optimiser=MAP(lr=0.02))
    found = estimator(target, data, seed=7)
    stream = derive(7, "order", 0)
    order = torch.randperm(16, generator=generator(stream))
    want = 0.0
    for b, (first, last) in enumerate([(4, 8), (8, 16)]):
        weights = run(
            MAP(lr=0.02), target, data.subset(order[:first]), steps=few_steps, batch_size=5, seed=derive(stream, b)
        ).state.params
        weights = {k: w[0] for k, w in weights.items()}
        block = data.subset(order[first:last])
        want += float(target.forward(weights, block.x).log_softmax(-1)[torch.arange(last - first), block.y].sum())
    assert float(found) == pytest.approx(want, rel=1e-12)
    assert found.n == 12
    assert math.isnan(found.stderr)
    assert any("the first 4 examples are given" in a for a in found.assumptions)


def test_training_takes_more_than_the_fewest_steps_where_epochs_say_so(few_steps: int) -> None:
    target, data = classes(16)
    few = Prequential(blocks=1, epochs=1)(target, data, seed=0)
    same = Prequential(blocks=1, epochs=2)(target, data, seed=0)
    more = Prequential(blocks=1, epochs=2 * few_steps)(target, data, seed=0)
    assert float(few) == float(same) != float(more)


@pytest.mark.usefixtures("few_steps")
def test_several_orders_give_an_error() -> None:
    target, data = classes(16)
    found = Prequential(blocks=1, epochs=1, orders=2)(target, data, seed=0)
    values = []
    for o in range(2):
        stream = derive(0, "order", o)
        order = torch.randperm(16, generator=generator(stream))
        part = (data.subset(order[:8]), data.subset(order[8:]))
        values.append(float(Prequential(epochs=1).forecast(target, *part, seed=derive(stream, 0))))
    assert float(found) == pytest.approx(sum(values) / 2)
    assert found.stderr == pytest.approx(abs(values[0] - values[1]) / 2)
    assert found.warnings == ()


def test_too_few_examples_for_the_blocks_are_refused() -> None:
    target, data = classes(16)
    with pytest.raises(InputError, match="at least 32 examples for 4 blocks; got 16"):
        Prequential(blocks=4)(target, data, seed=0)
    with pytest.raises(InputError, match="blocks as a whole number"):
        Prequential(blocks=0)
    assert Prequential(blocks=3).cuts(16) == [2, 4, 8, 16]
