"""Prior tuning: what it finds is the estimator's own maximum, by one eigendecomposition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.curvature.structures.names import build
from novacula.data.data import Data
from novacula.evidence import Laplace, Tuned, tune
from novacula.evidence.tuning.grouped import Grouped
from novacula.evidence.tuning.spectral import Scales, Spectral, maximise
from novacula.evidence.tuning.tune import Tunable
from novacula.invariances import Custom
from novacula.likelihoods import Categorical, Normal
from novacula.likelihoods.base import Likelihood
from novacula.priors import FanIn, Gaussian, StudentT
from novacula.priors.base import Prior
from novacula.target import Copies, Target

STRUCTURES = ["kron", "exact", "diag", "last_layer"]


def make(
    likelihood: Likelihood | None = None,
    prior: Prior | None = None,
    *,
    n: int = 20,
    invariance: bool = False,
    t: float = 1,
) -> tuple[Target, Data]:
    """A small smooth network on data of which it has learned something (its weights are a little off their start)."""
    rng = generator(3)
    likelihood = Normal(log_sigma=torch.tensor([-0.4, 0.3], dtype=torch.float64)) if likelihood is None else likelihood
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    y = (
        net(x).detach() + 0.3 * torch.randn(n, 2, generator=rng, dtype=torch.float64)
        if isinstance(likelihood, Normal)
        else (x[:, 1] > 0).long()
    )
    shift = Custom(lambda x, u, eta: x + eta * u, eta=torch.tensor([0.3], dtype=torch.float64)) if invariance else None
    prior = Gaussian(precision=2.0) if prior is None else prior
    return Target(net, likelihood, prior, shift, temperature=t, copies=Copies(evidence=3)), Data(x, y)


def check_identity(found: Tuned, target: Target, data: Data, structure: str) -> None:
    again = Laplace(structure, repeats=1)(found.target, data, target.params(), seed=4)
    assert float(found.evidence) == pytest.approx(float(again), rel=1e-10, abs=1e-9)
    assert (found.evidence.estimator, found.evidence.n) == (again.estimator, again.n)
    before = Laplace(structure, repeats=1)(target, data, target.params(), seed=4)
    assert found.history[0] == pytest.approx(float(before), rel=1e-10, abs=1e-9)
    assert found.history[-1] == pytest.approx(float(found.evidence), abs=1e-12)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("likelihood", [None, Categorical()], ids=["normal", "categorical"])
@pytest.mark.parametrize("t", [1.0, 0.4])
def test_the_tuned_evidence_is_that_of_the_estimator_and_its_gradient_is_zero(
    structure: str, likelihood: Likelihood | None, t: float
) -> None:
    """The last layer of a Gaussian model is scored at its own mode, which moves: there the identity is not meant."""
    target, data = make(likelihood, t=t)
    found = tune(target, data, target.params(), structure=structure, seed=4)
    assert found.gradient < 1e-6
    assert 1 < found.steps < 30
    assert all(b >= a - 1e-9 for a, b in zip(found.history[:-1], found.history[1:], strict=True))
    if structure == "last_layer" and likelihood is None:
        return
    check_identity(found, target, data, structure)

    names = ["prior.log_precision"] + ["likelihood.log_sigma"] * (likelihood is None)
    leaves = {k: v.clone().requires_grad_() for k, v in found.target.learnable().items() if k in names}
    moved = found.target.with_learnable(leaves)
    value = Laplace(structure, repeats=1)(moved, data, target.params(), seed=4).value
    gradients = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
    precisions = gradients["prior.log_precision"]
    if structure in {"exact", "last_layer"}:  # one common factor
        precisions = precisions.sum()
    assert float(precisions.abs().max()) < 1e-6
    if likelihood is None:
        assert abs(float(gradients["likelihood.log_sigma"].sum())) < 1e-6


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_derivative_vanishes_by_finite_differences(structure: str) -> None:
    """Of the estimator's value, in every direction that was tuned."""
    target, data = make(Categorical())
    found = tune(target, data, target.params(), structure=structure, seed=4)
    log = found.target.prior.log_precision  # type: ignore[attr-defined]
    places = {"last_layer": [torch.tensor([0.0, 0, 1, 1])], "exact": [torch.ones(4)]}
    for direction in places.get(structure, list(torch.eye(4))):
        values = []
        for h in (-1e-4, 1e-4):
            moved = found.target.with_learnable({"prior.log_precision": log + h * direction.double()})
            values.append(float(Laplace(structure, repeats=1)(moved, data, target.params(), seed=4)))
        assert abs(values[1] - values[0]) / 2e-4 < 1e-5


@pytest.mark.parametrize("prior", [Gaussian(precision=3.0, per="all"), FanIn(sigma_w=2.0, sigma_b=0.3)])
@pytest.mark.parametrize("structure", STRUCTURES[:3])
def test_priors_with_shared_scales(prior: Prior, structure: str) -> None:
    target, data = make(Categorical(), prior)
    found = tune(target, data, target.params(), structure=structure, seed=4)
    check_identity(found, target, data, structure)
    assert found.gradient < 1e-6
    if structure == "exact":
        return
    name = "prior." + target.prior.learnable[0]
    leaf = found.target.learnable()[name].clone().requires_grad_()
    value = Laplace(structure, repeats=1)(
        found.target.with_learnable({name: leaf}), data, target.params(), seed=4
    ).value
    assert float(torch.autograd.grad(value, leaf)[0].abs().max()) < 1e-6
    assert len(found.factors) == (1 if leaf.ndim == 0 else 2)


@pytest.mark.parametrize("structure", ["kron", "diag"])
def test_mackays_fixed_point(structure: str) -> None:
    """``λ_t ‖w_t‖² = γ_t = n_t − λ_t tr (H + Λ)⁻¹_tt`` for every tensor, with the trace by dense algebra."""
    target, data = make(Categorical())
    params = target.params()
    found = tune(target, data, params, structure=structure, seed=4)
    precision = {k: v.detach() for k, v in found.target.prior.precision(params).items()}
    h = build(structure, target.problem(params, data, seed=0), seed=0).dense()
    inverse = torch.linalg.inv(h + torch.cat([precision[k].expand(w.numel()) for k, w in params.items()]).diag())
    offset = 0
    for k, w in params.items():
        block = inverse.diagonal()[offset : offset + w.numel()]
        offset += w.numel()
        gamma = w.numel() - float(precision[k] * block.sum())
        assert float(precision[k] * w.square().sum()) == pytest.approx(gamma, rel=1e-6)
        assert 0 < gamma < w.numel()


def test_the_start_does_not_matter() -> None:
    """From precisions and noise many orders of magnitude away, to the same place."""
    target, data = make()
    ends = []
    for log_precision, log_sigma in ((0.0, 0.0), (16.0, -5.0), (-16.0, 6.0)):
        start = target.with_learnable(
            {
                "prior.log_precision": torch.full((4,), log_precision, dtype=torch.float64),
                "likelihood.log_sigma": torch.full((2,), log_sigma, dtype=torch.float64),
            }
        )
        found = tune(start, data, target.params(), seed=4)
        assert found.gradient < 1e-6
        ends.append([*found.target.learnable().values(), torch.tensor(float(found.evidence))])
    for other in ends[1:]:
        for a, b in zip(ends[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("structure", "solver", "blocks"), [("exact", "eigvalsh", 1), ("kron", "eigh", 6)])
def test_one_eigendecomposition_however_many_steps(
    structure: str, solver: str, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the matrix; or of every factor (two weights have two each, two biases have one)."""
    target, data = make(Categorical())
    calls: list[Tensor] = []
    original: Callable[..., object] = getattr(torch.linalg, solver)

    def counted(matrix: Tensor, *args: object, **kwargs: object) -> object:
        calls.append(matrix)
        return original(matrix, *args, **kwargs)

    monkeypatch.setattr(torch.linalg, solver, counted)
    for steps in (1, 50):
        calls.clear()
        found = tune(target, data, target.params(), structure=structure, steps=steps, seed=4)
        assert found.steps == min(steps, found.steps)
        assert len(calls) == blocks
    assert found.steps > 3


def test_only_what_was_asked_for_is_tuned() -> None:
    target, data = make()
    log_precision, log_sigma = target.learnable().values()
    prior = tune(target, data, target.params(), learn=("prior",), seed=4)
    assert torch.equal(prior.target.learnable()["likelihood.log_sigma"], log_sigma)
    assert "noise" not in prior.factors
    noise = tune(target, data, target.params(), learn=("noise",), seed=4)
    assert torch.equal(noise.target.learnable()["prior.log_precision"], log_precision)
    moved = noise.target.learnable()["likelihood.log_sigma"] - log_sigma
    torch.testing.assert_close(moved, torch.full((2,), math.log(noise.factors["noise"]), dtype=torch.float64))
    both = tune(target, data, target.params(), seed=4)
    assert float(both.evidence) > max(float(prior.evidence), float(noise.evidence))
    for found in (prior, noise, both):
        check_identity(found, target, data, "kron")
    layer = tune(target, data, target.params(), structure="last_layer", learn=("prior",), seed=4).target
    assert torch.equal(layer.learnable()["prior.log_precision"][:2], log_precision[:2])


def test_transformations_are_those_of_the_estimator() -> None:
    target, data = make(invariance=True)
    for structure in ("kron", "diag", "exact"):
        found = tune(target, data, target.params(), structure=structure, seed=4)
        check_identity(found, target, data, structure)
        assert math.isnan(found.evidence.stderr)


def test_tensors_without_a_finite_best_precision_are_left_and_named() -> None:
    """Weights that are all zero would have an infinite one, weights that do nothing one of zero."""
    target, data = make(Categorical())
    params = target.params() | {"2.bias": torch.zeros(2, dtype=torch.float64)}
    found = tune(target, data, params, seed=4)
    assert any("2.bias" in w and "all at the prior's mean" in w for w in found.warnings)
    assert found.factors["2.bias"] == 1.0
    assert found.gradient < 1e-6
    mute = params | {"2.weight": torch.zeros(2, 5, dtype=torch.float64)}
    found = tune(target, data, mute, seed=4)
    assert any("0.weight" in w and "say nothing" in w for w in found.warnings)
    assert set(found.factors.values()) == {1.0}
    assert found.steps == 0


def test_a_noise_without_residuals_is_left_and_said() -> None:
    """Labels that the network meets exactly would have no noise at all."""
    target, data = make(Normal(0.5))
    params = {k: torch.zeros_like(w) if k == "2.bias" else w for k, w in target.params().items()}
    exact = Data(data.x, target.forward(params, data.x))
    found = tune(target, exact, params, structure="diag", seed=4)
    assert any("the noise was left as it is: the residuals are all zero" in w for w in found.warnings)
    before, after = target.likelihood.log_noise(2), found.target.likelihood.log_noise(2)
    assert torch.equal(after.expand(2), before.expand(2).to(after))


def test_a_structure_without_a_spectrum_is_refused() -> None:
    target, data = make()
    with pytest.raises(InputError, match=r"got 'matrix_free'|a structure with a spectrum; got matrix_free"):
        tune(target, data, target.params(), structure="matrix_free", seed=4)


def test_too_few_steps_are_said() -> None:
    target, data = make()
    found = tune(target, data, target.params(), steps=1, seed=4)
    assert found.steps == 1
    assert any("no maximum after 1 steps" in w for w in found.warnings)


def test_derivatives_of_the_objective_by_autograd() -> None:
    """Written out again in torch, with two groups, noise and a temperature."""
    rng = generator(1)
    spectra = tuple(torch.rand(n, generator=rng, dtype=torch.float64) * 10 for n in (5, 3))
    squares = torch.tensor([1.7, 0.4], dtype=torch.float64)
    arrays = tuple(h.numpy() for h in spectra)
    objective = Spectral(arrays, Scales(squares.numpy(), 12.0, 30, 0.6, np.array([True, True, True])))

    def value(x: Tensor) -> Tensor:
        occam = sum((1 + h * torch.exp(-x[g] - x[2])).log().sum() for g, h in enumerate(spectra))
        fit = (squares * x[:2].exp()).sum() + 12 * torch.exp(-x[2]) + 30 * x[2]
        return -0.5 * (occam + fit / 0.6)

    x = torch.tensor([0.3, -0.7, 0.5], dtype=torch.float64)
    assert objective.value(x.numpy()) == pytest.approx(float(value(x)), rel=1e-12)
    gradient, hessian = (torch.from_numpy(d) for d in objective.derivatives(x.numpy()))
    torch.testing.assert_close(gradient, torch.autograd.functional.jacobian(value, x))
    torch.testing.assert_close(hessian, torch.autograd.functional.hessian(value, x))
    assert float(torch.linalg.eigvalsh(hessian).max()) < 0
    best, history, left = maximise(objective, 100)
    assert left < 1e-8
    assert history[-1] == pytest.approx(objective.value(best))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"structure": "matrix_free"}, "a structure among kron, exact, diag, last_layer"),
        ({"steps": 0}, "steps as a whole number"),
        ({"learn": ("eta",)}, r"learn=\('prior',\)"),
        ({"learn": "prior"}, r"learn=\('prior',\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    target, data = make()
    with pytest.raises(InputError, match=message):
        tune(target, data, target.params(), seed=0, **settings)  # type: ignore[arg-type]


def test_models_without_a_gaussian_prior_or_a_noise_are_refused() -> None:
    target, data = make(Categorical(), StudentT())
    with pytest.raises(InputError, match="a Gaussian or FanIn prior; got StudentT"):
        tune(target, data, target.params(), seed=0)
    target, data = make(Categorical())
    with pytest.raises(InputError, match="a Normal likelihood, whose noise can be tuned; got Categorical"):
        tune(target, data, target.params(), learn=("noise",), seed=0)


def test_derivatives_of_the_whole_objective_by_autograd() -> None:
    """Three groups that are correlated, noise and a temperature, written out again in torch."""
    rng = generator(2)
    root = torch.randn(7, 9, generator=rng, dtype=torch.float64)
    matrix, group = root @ root.T, torch.tensor([0, 0, 2, 1, 1, 1, 2])
    squares = torch.tensor([1.7, 0.4, 2.2], dtype=torch.float64)
    scales = Scales(squares.numpy(), 12.0, 30, 0.6, np.array([True, False, True, True]))
    objective = Grouped(matrix.numpy(), group.numpy(), scales)

    def value(x: Tensor) -> Tensor:
        moved = matrix * torch.exp(-x[3]) + torch.diag(x[:3].exp()[group])
        fit = (squares * x[:3].exp()).sum() + 12 * torch.exp(-x[3]) + 30 * x[3]
        return -0.5 * (torch.logdet(moved) - x[:3][group].sum() + fit / 0.6)

    x = torch.tensor([0.3, -0.7, 0.2, 0.5], dtype=torch.float64)
    free = torch.tensor([0, 2, 3])
    assert objective.value(x.numpy()) == pytest.approx(float(value(x)), rel=1e-12)
    gradient, hessian = (torch.from_numpy(d) for d in objective.derivatives(x.numpy()))
    torch.testing.assert_close(gradient, torch.autograd.functional.jacobian(value, x)[free])
    torch.testing.assert_close(hessian, torch.autograd.functional.hessian(value, x)[free][:, free])


@pytest.mark.parametrize("noise", [1e-4, 1.0])
@pytest.mark.parametrize("n", [30, 400])
def test_precisions_of_a_correlated_linear_model_are_those_of_the_closed_form(n: int, noise: float) -> None:
    """At the peak of the weights and beside a direct search of the closed-form evidence over three logarithms."""
    rng = generator(5)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64) + torch.tensor([2.0, 0.0, -1.0])
    y = x @ torch.tensor([[1.0], [-0.4], [0.2]], dtype=torch.float64) + 0.7
    y = y + noise * torch.randn(n, 1, generator=rng, dtype=torch.float64)
    data, target = Data(x, y), Target(nn.Linear(3, 1).double(), Normal())
    a = torch.cat([x, torch.ones(n, 1, dtype=torch.float64)], 1).numpy()

    def evidence(log: np.ndarray) -> float:
        prior, variance = np.exp(log[[0, 0, 0, 1]]), np.exp(2 * log[2])
        h = a.T @ a / variance + np.diag(prior)
        w = np.linalg.solve(h, a.T @ y[:, 0].numpy() / variance)
        distance = np.square(y[:, 0].numpy() - a @ w).sum() / variance + prior @ w**2
        volume = np.linalg.slogdet(h)[1] - np.log(prior).sum() + n * np.log(2 * np.pi * variance)
        return float(-(distance + volume) / 2)

    def peak(target: Target) -> dict[str, Tensor]:
        log, sigma = target.prior.precision(target.params()), float(target.likelihood.sigma)  # type: ignore[attr-defined]
        prior = np.diag([float(log["weight"])] * 3 + [float(log["bias"])])
        w = np.linalg.solve(a.T @ a / sigma**2 + prior, a.T @ y.numpy() / sigma**2)
        return {"weight": torch.from_numpy(w[:3].T.copy()), "bias": torch.from_numpy(w[3])}

    for _ in range(60):
        found = tune(target, data, peak(target), structure="exact", seed=0)
        target = found.target
    mine = np.array([*target.prior.log_precision.tolist(), float(target.likelihood.log_sigma)])  # type: ignore[attr-defined]
    best = scipy.optimize.minimize(lambda v: -evidence(v), mine, method="Nelder-Mead", options={"xatol": 1e-6})
    np.testing.assert_allclose(mine, best.x, atol=5e-3)
    assert float(found.evidence) == pytest.approx(-best.fun, abs=0.01)
    # How far the fit moved, and how sure it is of the noise: σ √(1 / 2(N − γ)) for its logarithm, nearly.
    assert all(abs(s) < 0.05 for s in found.slopes.values())
    assert found.spread["noise"] == pytest.approx((2 * (n - 4)) ** -0.5, rel=0.15)


def test_a_subset_and_few_columns_come_near_the_whole() -> None:
    """Of 400 examples and ten classes, half of the examples and four combinations; five draws, each within 10 %."""
    rng = generator(3)
    x = torch.randn(400, 5, generator=rng)
    target, data = Target(nn.Linear(5, 10)), Data(x, (x @ torch.randn(5, 10, generator=rng)).argmax(1))
    whole = tune(target, data, target.params(), seed=0).factors
    for seed in range(5):
        few = tune(target, data, target.params(), subset=200, columns=4, seed=seed).factors
        assert few == pytest.approx(whole, rel=0.1)
        assert few != whole


@pytest.mark.parametrize("structure", STRUCTURES)
def test_labels_of_which_a_network_is_sure_do_not_take_the_prior_away(structure: Tunable) -> None:
    """Separable labels, weights so large that probabilities are 0 and 1: there is next to no curvature to go by."""
    rng, k = generator(5), torch.arange(60) % 3
    x = (k / 3.0).unsqueeze(1) + 0.02 * torch.randn(60, 4, generator=rng)
    w = 400 * torch.tensor([[-1.0], [0.0], [1.0]]) * torch.tensor([[0.3, 0.2, 0.4, 0.1]])
    sure = {"weight": w.double(), "bias": 400 * torch.tensor([1 / 6, 0.0, -0.5], dtype=torch.float64)}
    net = nn.Linear(4, 3).double()
    target, data = Target(net, Categorical(3), Gaussian(precision=2.0)), Data(x.double(), k)
    found = tune(target, data, sure, structure=structure, subset=20, seed=0)
    assert set(found.factors.values()) == {1.0}
    assert any("weight, bias was left as it is: the data determine less than a tenth" in w for w in found.warnings)
    assert all(torch.equal(v, target.prior.precision(sure)[k]) for k, v in found.target.prior.precision(sure).items())
    # Weights that are less sure are solved for, as ever.
    unsure = {name: v / 40 for name, v in sure.items()}
    found = tune(target, data, unsure, structure=structure, seed=0)
    assert max(abs(math.log(f)) for f in found.factors.values()) > 0.1
    assert not any("tenth" in w for w in found.warnings)


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-4])
def test_targets_without_noise_are_told_from_small_noise(noise: float) -> None:
    """A least-squares fit: ``σ² = Σ r² / (N − γ)``, where ``γ`` is all P weights; without noise, r is the rounding."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=rng, dtype=torch.float64)
    y = x @ torch.tensor([[1.1], [-2.3], [0.7]], dtype=torch.float64)
    y = y + noise * torch.randn(y.shape, generator=rng, dtype=torch.float64)
    fitted = torch.linalg.lstsq(x, y).solution
    target, data = Target(nn.Linear(3, 1, bias=False).double(), Normal(0.1)).prepare(Data(x, y))
    found = tune(target, data, {"weight": fitted.T.contiguous()}, structure="exact", seed=0)
    said = any("as small as the rounding of the targets" in w for w in found.warnings)
    assert said == (noise == 0), found.warnings
    if noise:
        want = float((y - x @ fitted).square().sum() / (40 - 3)) ** 0.5
        assert float(found.target.likelihood.sigma) == pytest.approx(want, rel=1e-3)
