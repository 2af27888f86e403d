"""Priors against scipy, quadrature, moments, and the lower bounds that their precisions promise."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors import FanIn, Gaussian, Laplace, Prior, StudentT
from novacula.priors.scales import Per
from strangers import Fading


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(dtype: torch.dtype = torch.float64) -> Params:
    """A matrix, a vector, a convolution and a bare scalar."""
    shapes = {"fc.weight": (3, 5), "fc.bias": (3,), "conv.weight": (4, 2, 3, 1), "gain": ()}
    g = rng(11)
    return {k: (1.7 * torch.randn(s, generator=g, dtype=torch.float64)).to(dtype) for k, s in shapes.items()}


def prior_with(kind: Callable[..., Prior], field: str, log: Tensor, per: Per = "tensor") -> Prior:
    return kind(**{field: log}) if kind in {FanIn, Fading} else kind(**{field: log}, per=per)


TENSORED = [(Gaussian, "log_precision"), (Laplace, "log_scale"), (StudentT, "log_scale")]
ALL: list[Prior] = [
    Gaussian(precision=2.5),
    Gaussian(precision=0.4, per="all"),
    FanIn(sigma_w=1.4, sigma_b=0.3),
    Laplace(scale=0.7),
    StudentT(df=3.5, scale=0.6),
    Fading(torch.tensor(0.4, dtype=torch.float64)),
]
IDS = ["gaussian", "isotropic", "fan-in", "laplace", "student-t", "own"]


# ---------------------------------------------------------------------------------------------- densities

FOUR = [0.3, -1.0, 0.8, 0.1]


def scipy_log_prob(prior: Prior, w: Params) -> float:
    total = 0.0
    for i, value in enumerate(w.values()):
        x = value.numpy()
        if isinstance(prior, Gaussian):
            total += scipy.stats.norm.logpdf(x, scale=math.exp(-FOUR[i] / 2)).sum()
        elif isinstance(prior, Laplace):
            total += scipy.stats.laplace.logpdf(x, scale=math.exp(FOUR[i])).sum()
        else:
            assert isinstance(prior, StudentT)
            total += scipy.stats.t.logpdf(x, prior.df, scale=math.exp(FOUR[i])).sum()
    return total


@pytest.mark.parametrize("kind, field", TENSORED)
def test_log_prob_is_scipys_with_a_scale_for_each_tensor(kind: Callable[..., Prior], field: str) -> None:
    prior, w = kind(**{field: torch.tensor(FOUR, dtype=torch.float64)}), weights()
    want = scipy_log_prob(prior, w)
    assert float(prior.log_prob(w)) == pytest.approx(want, rel=1e-13)
    assert float(prior.bind(w).log_prob(w)) == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize(
    "prior, density",
    [
        (Gaussian(precision=2.5), scipy.stats.norm(scale=2.5**-0.5)),
        (Gaussian(precision=2.5, per="all"), scipy.stats.norm(scale=2.5**-0.5)),
        (Laplace(scale=0.7), scipy.stats.laplace(scale=0.7)),
        (StudentT(df=1.0, scale=0.7), scipy.stats.cauchy(scale=0.7)),
        (StudentT(df=3.5, scale=0.7, per="all"), scipy.stats.t(3.5, scale=0.7)),
    ],
)
def test_log_prob_is_scipys_with_one_scale(prior: Prior, density: scipy.stats.rv_continuous) -> None:
    w = weights()
    want = sum(density.logpdf(v.numpy()).sum() for v in w.values())
    assert float(prior.log_prob(w)) == pytest.approx(want, rel=1e-13)
    assert float(prior.bind(w).log_prob(w)) == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.2])
@pytest.mark.parametrize("prior", ALL, ids=IDS)
def test_log_partition_is_the_integral_of_a_power_of_the_density(prior: Prior, temperature: float) -> None:
    w = {k: torch.zeros(s, dtype=torch.float64) for k, s in {"fc.weight": (2, 3), "fc.bias": (2,)}.items()}
    bound = prior.bind(w)
    # Weights are independent: the power's integral over all is a product of integrals over each, from differences of
    # the log-density along it.
    want, centre = 0.0, float(bound.log_prob(w))
    for k, i in ((k, i) for k, at in w.items() for i in range(at.numel())):

        def power(x: float, k: str = k, i: int = i) -> float:
            moved = w[k].clone()
            moved.view(-1)[i] = x
            return math.exp((float(bound.log_prob({**w, k: moved})) - centre) / temperature)

        want += math.log(2 * scipy.integrate.quad(power, 0, math.inf, epsabs=0, epsrel=1e-10, limit=200)[0])
    want += centre / temperature
    assert float(bound.log_partition(w, temperature)) == pytest.approx(want, rel=1e-8, abs=1e-8)


def test_a_temperature_at_which_the_power_has_no_integral_is_refused() -> None:
    prior = StudentT(df=3.5)
    with pytest.raises(InputError, match=r"a temperature below 4.5: .* no integral; got 4.5. Try: .* a larger df"):
        prior.log_partition(weights(), 4.5)
    assert math.isfinite(prior.log_partition(weights(), 4.49))


def test_fan_in_is_scipys() -> None:
    prior, w = FanIn(sigma_w=1.4, sigma_b=0.3), weights()
    sd = {"fc.weight": 1.4 / math.sqrt(5), "fc.bias": 0.3, "conv.weight": 1.4 / math.sqrt(2 * 3 * 1), "gain": 0.3}
    want = sum(scipy.stats.norm.logpdf(v.numpy(), scale=sd[k]).sum() for k, v in w.items())
    assert float(prior.log_prob(w)) == pytest.approx(want, rel=1e-13)
    assert {k: float(v) ** -0.5 for k, v in prior.precision(w).items()} == pytest.approx(sd, rel=1e-12)


def test_a_strangers_prior_is_scipys_with_a_precision_for_each_weight() -> None:
    w, total = weights(), 0.0
    found = Fading(torch.tensor(0.4, dtype=torch.float64)).precision(w)
    for k, v in w.items():
        x = v.numpy()
        sd = math.exp(-0.2) / np.broadcast_to(np.arange(1, 1 + (x.shape[-1] if x.ndim else 1)), x.shape or (1,))
        total += scipy.stats.norm.logpdf(x, scale=sd).sum()
        np.testing.assert_allclose(found[k].expand(v.shape), sd.reshape(x.shape) ** -2, rtol=1e-12)
    assert float(Fading(torch.tensor(0.4, dtype=torch.float64)).log_prob(w)) == pytest.approx(total, rel=1e-13)


@pytest.mark.parametrize(
    "layer, fan_in", [(nn.Linear(7, 2), 7), (nn.Conv2d(6, 4, (3, 5), groups=2), 3 * 15), (nn.Conv1d(3, 2, 4), 12)]
)
def test_fan_in_is_pytorchs(layer: nn.Module, fan_in: int) -> None:
    w = {k: v.detach() for k, v in layer.named_parameters()}
    assert nn.init._calculate_fan_in_and_fan_out(w["weight"])[0] == fan_in
    assert FanIn().describe(w) == pytest.approx({"weight": fan_in, "bias": 1.0}, rel=1e-6)


def test_fan_in_keeps_the_variance_of_outputs_whatever_the_width() -> None:
    """The variance of a linear layer's output under the prior is ``σ_w² mean(x²) + σ_b²`` at widths 5 and 200.

    Two z-scores of 20,000 squared Gaussians within 5; seeded. False-alarm rate: 1.2e-6.
    """
    for width in (5, 200):
        draws = FanIn(sigma_w=1.5, sigma_b=0.5).sample(
            {"w": torch.zeros(20, width, dtype=torch.float64), "b": torch.zeros(20, dtype=torch.float64)},
            1_000,
            rng(width),
        )
        out = draws["w"].sum(-1) + draws["b"]
        standard = out.square() / (1.5**2 + 0.5**2)
        assert abs(float(standard.mean()) - 1) < 5 * math.sqrt(2 / out.numel())


@pytest.mark.parametrize("prior", ALL, ids=IDS)
def test_densities_integrate_to_one(prior: Prior) -> None:
    """Simpson's rule in ``w = sinh(u)``, whose range holds all but 1e-9 of the heaviest tail."""
    u = torch.linspace(-9, 9, 4_001, dtype=torch.float64)
    log = torch.stack([prior.log_prob({"bias": v.sinh()[None]}) for v in u])
    mass = scipy.integrate.simpson((log + u.cosh().log()).exp().numpy(), x=u.numpy())
    assert mass == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("prior", ALL, ids=IDS)
def test_log_prob_is_additive_over_tensors(prior: Prior) -> None:
    w = weights()
    bound = prior.bind(w)
    parts = sum(float(bound.log_prob({k: v})) for k, v in w.items())
    assert float(bound.log_prob(w)) == pytest.approx(parts, rel=1e-12)


# ---------------------------------------------------------------------------------------------- precision


def test_gaussian_precision_is_the_curvature() -> None:
    w = weights()
    for prior in (Gaussian(log_precision=torch.tensor(FOUR, dtype=torch.float64)), FanIn(1.4, 0.3), Fading()):
        bound = prior.bind(w)
        for k, v in bound.precision(w).items():
            assert v.ndim == 0 or isinstance(prior, Fading)

            def one(x: Tensor, k: str = k, bound: Prior = bound) -> Tensor:
                return -bound.log_prob({**w, k: x.reshape(w[k].shape)})

            h = torch.autograd.functional.hessian(one, w[k].reshape(-1))
            assert isinstance(h, Tensor)
            torch.testing.assert_close(h, v.expand(w[k].shape).flatten().diag(), rtol=1e-12, atol=1e-14)


def test_precisions_have_their_closed_forms() -> None:
    w = weights()
    b, x = 0.7, w["fc.weight"]
    torch.testing.assert_close(Laplace(scale=b).precision(w)["fc.weight"], 1 / (b * x.abs()))
    torch.testing.assert_close(StudentT(df=3.5, scale=b).precision(w)["fc.weight"], 4.5 / (3.5 * b**2 + x**2))


@pytest.mark.parametrize("prior", [Laplace(scale=0.7), StudentT(df=3.5, scale=0.6), StudentT(df=1.0)], ids=str)
@pytest.mark.parametrize("at", [-2.3, -0.4, 0.05, 1.0, 30.0])
def test_the_gaussian_touches_from_below(prior: Prior, at: float) -> None:
    """``log p(w) ≥ log p(w₀) − ½ κ (w² − w₀²)`` on a grid, with equality and equal slopes at ``w₀``."""
    point = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    kappa = prior.precision({"w": point.detach()})["w"]
    here = prior.log_prob({"w": point})
    (slope,) = torch.autograd.grad(here, point)
    torch.testing.assert_close(slope, -kappa * point.detach(), rtol=1e-12, atol=0)
    grid = torch.cat([torch.linspace(-50, 50, 801), torch.linspace(-1, 1, 401)]).double()
    log = torch.stack([prior.log_prob({"w": v[None]}) for v in grid])
    gaussian = here.detach() - 0.5 * kappa * (grid.square() - at**2)
    assert (log - gaussian).min() >= -1e-10


def test_laplace_below_its_floor_is_finite_and_still_a_lower_bound() -> None:
    prior = Laplace(scale=0.5, floor=0.1)
    zero = torch.zeros(1, dtype=torch.float64)
    kappa = prior.precision({"w": zero})["w"]
    assert float(kappa) == pytest.approx(1 / (0.5 * 0.05))
    edge = torch.tensor([0.05], dtype=torch.float64)
    grid = torch.linspace(-3, 3, 2_001, dtype=torch.float64)
    log = torch.stack([prior.log_prob({"w": v[None]}) for v in grid])
    gaussian = prior.log_prob({"w": edge}) - 0.5 * kappa * (grid.square() - edge.square())
    assert (log - gaussian).min() >= -1e-12
    assert torch.isfinite(Laplace().precision({"w": torch.zeros(2, 3)})["w"]).all()


@pytest.mark.parametrize("prior", ALL, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_and_samples_follow_the_weights_dtype(prior: Prior, dtype: torch.dtype) -> None:
    w = weights(dtype)
    bound = prior.bind(w)
    for k, v in bound.precision(w).items():
        assert v.dtype == dtype
        assert (v > 0).all()
        assert torch.broadcast_to(v, w[k].shape).shape == w[k].shape
    for k, v in bound.sample(w, 3, rng()).items():
        assert v.dtype == dtype
        assert v.shape == (3, *w[k].shape)
    reference = float(prior.bind(weights()).log_prob(weights()))
    assert float(bound.log_prob(w)) == pytest.approx(reference, rel=1e-6 if dtype == torch.float32 else 1e-14)


def test_log_prob_of_a_large_float32_network_does_not_round_its_normaliser() -> None:
    """The constant of 3 million float32 weights is 2.6 million nats, whose float32 neighbours are 0.25 apart."""
    n = 3_000_000
    got = float(Gaussian(precision=1.1).log_prob({"w": torch.zeros(1000, n // 1000)}))
    assert got == pytest.approx(0.5 * n * math.log(1.1 / (2 * math.pi)), abs=1e-6)


@pytest.mark.parametrize("prior", ALL, ids=IDS)
def test_describe_is_the_geometric_mean_precision(prior: Prior) -> None:
    w = weights()
    bound = prior.bind(w)
    want = {k: float(scipy.stats.gmean(v.numpy(), axis=None)) for k, v in bound.precision(w).items()}
    assert bound.describe(w) == pytest.approx(want, rel=1e-12)


# ---------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("kind, field", [*TENSORED, (FanIn, "log_scales"), (Fading, "theta")])
def test_gradients_in_weights_and_scales_are_those_of_finite_differences(
    kind: Callable[..., Prior], field: str
) -> None:
    w = weights()
    log = torch.tensor({FanIn: FOUR[:2], Fading: 0.3}.get(kind, FOUR), dtype=torch.float64, requires_grad=True)
    leaves = [v.clone().requires_grad_() for v in w.values()]

    def log_prob(log: Tensor, *values: Tensor) -> Tensor:
        return prior_with(kind, field, log).log_prob(dict(zip(w, values, strict=True)))

    def precision(log: Tensor, *values: Tensor) -> Tensor:
        params = dict(zip(w, values, strict=True))
        return torch.cat([v.reshape(-1).log() for v in prior_with(kind, field, log).precision(params).values()])

    torch.autograd.gradcheck(log_prob, (log, *leaves))
    torch.autograd.gradcheck(precision, (log, *leaves), rtol=1e-4)


@pytest.mark.parametrize("prior", ALL, ids=IDS)
def test_log_prob_works_inside_vmap(prior: Prior) -> None:
    w = weights()
    bound = prior.bind(w)
    samples = bound.sample(w, 4, rng(3))
    together = torch.func.vmap(bound.log_prob)(samples)
    one_by_one = torch.stack([bound.log_prob({k: v[i] for k, v in samples.items()}) for i in range(4)])
    torch.testing.assert_close(together, one_by_one)


# ---------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    "prior, density",
    [
        (Gaussian(precision=2.5), scipy.stats.norm(scale=2.5**-0.5)),
        (FanIn(sigma_w=1.4, sigma_b=0.3), scipy.stats.norm(scale=0.3)),
        (Laplace(scale=0.7), scipy.stats.laplace(scale=0.7)),
        (StudentT(df=1.0, scale=0.7), scipy.stats.cauchy(scale=0.7)),
        (StudentT(df=3.5, scale=0.7), scipy.stats.t(3.5, scale=0.7)),
        (StudentT(df=30.0, scale=2.0), scipy.stats.t(30.0, scale=2.0)),
        (Fading(torch.tensor(0.4)), scipy.stats.norm(scale=math.exp(-0.2))),
    ],
    ids=lambda v: type(v).__name__,
)
def test_samples_follow_the_density(prior: Prior, density: scipy.stats.rv_continuous) -> None:
    """Kolmogorov–Smirnov, and the count beyond the 0.2 % quantiles (24 expected), both at level 1e-6, and correlations.

    4,000 draws of 3 biases; seeded. False-alarm rate: 4e-6 each.
    """
    draws = prior.sample({"bias": torch.zeros(3, dtype=torch.float64)}, 4_000, rng(5))["bias"]
    if isinstance(prior, Fading):
        draws = draws * torch.arange(1.0, 4.0)
    assert scipy.stats.kstest(draws.flatten().numpy(), density.cdf).pvalue > 1e-6
    far = int((draws.abs().numpy() > density.isf(1e-3)).sum())
    assert scipy.stats.binomtest(far, draws.numel(), 2e-3).pvalue > 1e-6
    correlation = np.corrcoef(scipy.stats.rankdata(draws.numpy(), axis=0).T)
    assert np.abs(correlation[np.triu_indices(3, 1)]).max() < 5 / math.sqrt(4_000)


@pytest.mark.parametrize("prior", ALL, ids=IDS)
def test_samples_follow_the_seed_and_carry_no_gradient(prior: Prior) -> None:
    w = weights()
    bound = prior.bind(w)
    # A prior that binds to nothing is itself the bound one: its tensors are other tests' too.
    leaves = {name: getattr(bound, name).clone().requires_grad_() for name in bound.learnable}
    bound = dataclasses.replace(bound, **leaves)  # type: ignore[type-var]
    a, b, c = bound.sample(w, 2, rng(1)), bound.sample(w, 2, rng(1)), bound.sample(w, 2, rng(2))
    assert all(torch.equal(a[k], b[k]) for k in w)
    assert not any(torch.equal(a[k], c[k]) for k in w)
    assert not any(v.requires_grad for v in a.values())


def test_samples_use_the_scale_of_their_tensor() -> None:
    """Mean squares of 60,000 and 12,000 draws against precisions 100 and 0.01; seeded. False-alarm rate: 1.2e-6."""
    w = {"a": torch.zeros(3, 5, dtype=torch.float64), "b": torch.zeros(3, dtype=torch.float64)}
    prior = Gaussian(log_precision=torch.tensor([100.0, 0.01], dtype=torch.float64).log()).bind(w)
    draws = prior.sample({"b": w["b"], "a": w["a"]}, 4_000, rng(6))
    for k, precision in (("a", 100.0), ("b", 0.01)):
        squares = precision * draws[k].square()
        assert abs(float(squares.mean()) - 1) < 5 * math.sqrt(2 / squares.numel())


# ---------------------------------------------------------------------------------------------- binding


@pytest.mark.parametrize("kind, field", TENSORED)
def test_binding_expands_to_a_leaf_of_its_own(kind: Callable[..., Prior], field: str) -> None:
    w = weights()
    prior = kind()
    bound = prior.bind(w)
    log = getattr(bound, field)
    assert log.shape == (4,)
    log.requires_grad_(True)
    bound.log_prob(w).backward()
    assert log.grad is not None
    assert (log.grad != 0).all()
    assert not getattr(prior, field).requires_grad
    assert bound.bind(w) is bound
    isotropic = kind(per="all").bind(w)
    assert getattr(isotropic, field).shape == ()
    assert isotropic.bind(w) is isotropic


@pytest.mark.parametrize("kind, field", TENSORED)
@pytest.mark.parametrize("per", ["tensor", "all"])
def test_binding_keeps_the_users_graph(kind: Callable[..., Prior], field: str, per: Per) -> None:
    w = weights()
    mine = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    bound = prior_with(kind, field, mine * 1.0, per).bind(w)
    bound.log_prob(w).backward()
    other = mine.detach().clone().requires_grad_()
    kind(**{field: other}, per="all").log_prob(w).backward()
    assert mine.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(mine.grad, other.grad)
    full = torch.tensor(FOUR, dtype=torch.float64, requires_grad=True)
    assert getattr(prior_with(kind, field, full).bind(w), field) is full


@pytest.mark.parametrize("kind, field", [*TENSORED, (FanIn, "log_scales")])
def test_binding_shares_no_memory_with_the_users_tensor(kind: Callable[..., Prior], field: str) -> None:
    w = weights()
    mine = torch.zeros(2 if kind is FanIn else 4, dtype=torch.float64)
    log = getattr(prior_with(kind, field, mine).bind(w), field)
    with torch.no_grad():
        log += 1
    assert torch.equal(mine, torch.zeros_like(mine))


def test_fan_in_binding_keeps_the_users_tensor() -> None:
    w = weights()
    mine = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert FanIn(log_scales=mine).bind(w).log_scales is mine
    bound = FanIn().bind(w)
    assert bound.bind(w) is bound
    bound.log_scales.requires_grad_()
    bound.log_prob(w).backward()
    assert bound.log_scales.grad is not None
    assert (bound.log_scales.grad != 0).all()


@pytest.mark.parametrize("kind, field", TENSORED)
def test_a_bound_prior_finds_scales_by_name(kind: Callable[..., Prior], field: str) -> None:
    w = weights()
    bound = kind(**{field: torch.tensor(FOUR, dtype=torch.float64)}).bind(w)
    whole = bound.precision(w)
    backwards = dict(reversed(w.items()))
    assert all(torch.equal(v, whole[k]) for k, v in bound.precision(backwards).items())
    assert torch.equal(bound.precision({"gain": w["gain"]})["gain"], whole["gain"])
    assert float(bound.log_prob(backwards)) == pytest.approx(float(bound.log_prob(w)), rel=1e-14)
    with pytest.raises(InputError, match=r"that the prior is bound to.*'head'"):
        bound.precision({"head": w["gain"]})


@pytest.mark.parametrize("kind, field", TENSORED)
def test_replacing_a_scale_keeps_the_binding(kind: Callable[..., Prior], field: str) -> None:
    w = weights()
    bound = kind().bind(w)
    assert dataclasses.is_dataclass(bound)
    new = torch.tensor(FOUR, dtype=torch.float64, requires_grad=True)
    moved = dataclasses.replace(bound, **{field: new})
    assert getattr(moved.bind(w), field) is new
    assert float(moved.log_prob(w).detach()) == pytest.approx(scipy_log_prob(moved, w), rel=1e-13)


@pytest.mark.parametrize("prior", ALL[:-1], ids=IDS[:-1])  # a prior of one's own need not know what it is bound to
def test_binding_to_other_weights_is_refused(prior: Prior) -> None:
    w = weights()
    bound = prior.bind(w)
    with pytest.raises(InputError, match=r"4 tensors that the prior is bound to; got 3 tensors that differ in gain"):
        bound.bind({k: v for k, v in w.items() if k != "gain"})
    with pytest.raises(InputError, match="the order"):
        bound.bind(dict(reversed(w.items())))


def test_the_number_of_scales_must_be_that_of_the_tensors() -> None:
    w = weights()
    prior = Gaussian(log_precision=torch.zeros(3))
    with pytest.raises(InputError, match=r"each of the 4 tensors.*got 3 scales.*fc\.weight, fc\.bias"):
        prior.bind(w)
    with pytest.raises(InputError, match="3 tensors of weights, one for each scale; got 4"):
        prior.log_prob(w)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "1", torch.tensor(2.0)])
def test_scales_must_be_positive_numbers(value: float) -> None:
    for make in (lambda: Gaussian(precision=value), lambda: FanIn(sigma_b=value), lambda: Laplace(scale=value)):
        with pytest.raises(InputError, match="as a positive number"):
            make()
    with pytest.raises(InputError, match="scale as a positive number"):
        StudentT(scale=value)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_shapes_of_densities_must_be_positive_numbers(value: float) -> None:
    with pytest.raises(InputError, match="df above zero"):
        StudentT(df=value)
    with pytest.raises(InputError, match="floor above zero"):
        Laplace(floor=value)


def test_wrong_tensors_and_options_are_refused() -> None:
    for make in (
        lambda: Gaussian(log_precision=torch.zeros(2, 2)),
        lambda: Gaussian(log_precision=torch.zeros(4), per="all"),
        lambda: Gaussian(log_precision=torch.tensor(1)),
        lambda: StudentT(log_scale=0.0),  # type: ignore[arg-type]  # the point of the test
        lambda: FanIn(log_scales=torch.zeros(3)),
        lambda: FanIn(log_scales=[0.0, 0.0]),  # type: ignore[arg-type]  # the point of the test
    ):
        with pytest.raises(InputError, match="as a floating tensor of shape"):
            make()
    for make in (
        lambda: Gaussian(precision=2.0, log_precision=torch.tensor(0.0)),
        lambda: FanIn(sigma_w=2.0, log_scales=torch.zeros(2)),
        lambda: Laplace(scale=2.0, log_scale=torch.tensor(0.0)),
    ):
        with pytest.raises(InputError, match="either"):
            make()
    with pytest.raises(InputError, match="per as 'tensor' or 'all'"):
        Gaussian(per="layer")  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("prior", ALL, ids=IDS)
def test_protocol(prior: Prior) -> None:
    w = weights()
    bound = prior.bind(w)
    assert dataclasses.is_dataclass(bound)
    assert all(isinstance(getattr(bound, name), Tensor) for name in bound.learnable)
    copy = pickle.loads(pickle.dumps(bound))
    assert float(copy.log_prob(w)) == float(bound.log_prob(w)) == float(dataclasses.replace(bound).log_prob(w))
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound.names = ()  # type: ignore[attr-defined]  # the point of the test
