"""Priors centred at the start: against closed forms of linear models, and against networks that are shifted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.params import flatten
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.evidence import ELBO, SMC, Laplace, LinearGaussian, NTKSubset, tune
from novacula.inference import HMC, IVON, MAP, Ensemble, MeanField, infer
from novacula.inference.subnetwork import Subnetwork
from novacula.likelihoods import Normal
from novacula.posteriors import laplace_posterior
from novacula.prediction import predict
from novacula.priors import FanIn, Gaussian
from novacula.runs.loading import load_run
from novacula.study.cross_fit.train import cross_fit
from novacula.target import Target

N, SIGMA = 12, 0.7
X = torch.randn(N, 3, generator=generator(1)).double()
Y = (X @ torch.tensor([1.0, -2.0, 0.5]).double() + 3 + 0.5 * torch.randn(N, generator=generator(2)).double())[:, None]
START = {"weight": torch.tensor([[0.8, -1.0, 2.0]]).double(), "bias": torch.tensor([2.5]).double()}
PRECISION = {"weight": 2.0, "bias": 0.5}


def _linear() -> nn.Linear:
    net = nn.Linear(3, 1).double()
    net.load_state_dict(START)
    return net


def _prior(mean: Any) -> Gaussian:
    logs = torch.tensor([math.log(PRECISION[k]) for k in START], dtype=torch.float64)
    return Gaussian(log_precision=logs, mean=mean)


def _target(mean: Any = "start") -> Target:
    return Target(_linear(), Normal(sigma=SIGMA), prior=_prior(mean))


def _closed(mean: dict[str, Tensor], precision: dict[str, float]) -> tuple[float, Tensor, Tensor]:
    """Log N(y | Φ m, σ² I + Φ Λ⁻¹ Φᵀ), and the posterior's mean and covariance, from NumPy-like algebra."""
    phi = torch.cat([X, torch.ones(N, 1).double()], 1)
    m = torch.cat([mean["weight"].flatten(), mean["bias"]])
    prior = torch.diag(torch.tensor([precision["weight"]] * 3 + [precision["bias"]]).double())
    spread = SIGMA**2 * torch.eye(N).double() + phi @ torch.linalg.inv(prior) @ phi.T
    evidence = torch.distributions.MultivariateNormal(phi @ m, spread).log_prob(Y[:, 0])
    covariance = torch.linalg.inv(prior + phi.T @ phi / SIGMA**2)
    return float(evidence), covariance @ (prior @ m + phi.T @ Y[:, 0] / SIGMA**2), covariance


ZERO = {k: torch.zeros_like(v) for k, v in START.items()}
MEANS: dict[str, tuple[Any, dict[str, Tensor]]] = {
    "zero": (None, ZERO),
    "start": ("start", START),
    "given": ({k: v + 1 for k, v in START.items()}, {k: v + 1 for k, v in START.items()}),
    "of some": ({"bias": START["bias"]}, {**ZERO, "bias": START["bias"]}),
}


@pytest.mark.parametrize("name", MEANS)
def test_evidence_and_posterior_of_a_linear_model(name: str) -> None:
    given, mean = MEANS[name]
    target, data = _target(given), Data(X, Y)
    evidence, mode, covariance = _closed(mean, PRECISION)
    exact = LinearGaussian()(target, data, target.params(), seed=0)
    assert float(exact) == pytest.approx(evidence, rel=1e-10)
    peak = {"weight": mode[:3].reshape(1, 3), "bias": mode[3:]}
    for structure in ("exact", "kron"):
        at = Laplace(structure)(target, data, peak, seed=0)  # type: ignore[arg-type]
        assert float(at) == pytest.approx(evidence, rel=1e-9) if structure == "exact" else math.isfinite(float(at))
    assert float(ELBO("exact", samples=4000)(target, data, peak, seed=0)) == pytest.approx(evidence, abs=0.1)
    found = laplace_posterior(target, target.params(), data, structure="exact", settle=True)
    # Newton's method ends within a tenth of a posterior deviation, and for a linear model in one step.
    assert torch.allclose(flatten(found.mode), mode, rtol=1e-8)
    assert torch.allclose(found.covariance.sample(200_000, generator(3))["bias"].var(), covariance[3, 3], rtol=0.03)


@pytest.mark.parametrize("name", MEANS)
def test_tuned_precisions_are_at_the_maximum_of_the_closed_form(name: str) -> None:
    given, mean = MEANS[name]
    target, data = _target(given), Data(X, Y)
    target = target.with_learnable({"likelihood.log_sigma": target.learnable()["likelihood.log_sigma"].detach()})
    found = tune(target, data, _peak(target, data), structure="exact", learn=("prior",), seed=0)
    for _ in range(40):
        found = tune(target, data, _peak(target, data), structure="exact", learn=("prior",), seed=0)
        target = found.target
    learned = {k: float(v) for k, v in target.prior.precision(target.params()).items()}
    best = _closed(mean, learned)[0]
    assert float(found.evidence) == pytest.approx(best, rel=1e-6)
    for k in learned:
        if learned[k] < 1e6:
            for factor in (0.9, 1.1):
                assert _closed(mean, {**learned, k: factor * learned[k]})[0] < best + 1e-9


def _peak(target: Target, data: Data) -> dict[str, Tensor]:
    return laplace_posterior(target, target.params(), data, structure="exact", settle=True).mode


@pytest.mark.parametrize("name", ["start", "of some"])
def test_samplers_and_trainings_find_the_posterior(name: str) -> None:
    given, mean = MEANS[name]
    target, data = _target(given), Data(X, Y)
    _, mode, covariance = _closed(mean, PRECISION)
    sd = covariance.diagonal().sqrt()
    assert torch.allclose(flatten(infer(MAP(lr=0.05), target, data, steps=1500).mode), mode, atol=0.02)
    for method, steps, within in ((HMC(warmup=200, keep=800), 1000, 0.28), (MeanField(lr=0.02), 1500, 0.3)):
        # The means of 800 draws, of 200 effective ones at least: four standard errors are 0.28 sd.
        post = infer(method, target, data, steps=steps, seed=1)
        drawn = flatten(post.sample(800, generator(1)), batch_dims=1)
        assert bool(((drawn.mean(0) - mode).abs() < within * sd).all())
    ivon = infer(IVON(lr=0.05), target, data, steps=3000, seed=1)
    assert bool(((flatten(ivon.mode) - mode).abs() < 0.25 * sd).all())


@pytest.mark.filterwarnings("ignore:the weights of Linear are no draw")
@pytest.mark.parametrize("move", ["hmc", "elliptical"])
def test_particles_start_at_the_mean_and_know_the_evidence(move: Any) -> None:
    evidence, _, _ = _closed(START, PRECISION)
    found = SMC(particles=256, populations=4, move=move, moves=6)(_target(), Data(X, Y), _target().params(), seed=0)
    # Four standard errors: one false alarm in 16,000.
    assert abs(float(found) - evidence) < 4 * found.stderr + 0.02


class Shifted(nn.Module):
    """A network whose weights are deviations from those of another: what a centred prior is, by hand."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.requires_grad_(False)
        self.away = nn.ParameterDict({k.replace(".", "/"): torch.zeros_like(w) for k, w in net.named_parameters()})

    def forward(self, x: Tensor) -> Tensor:
        point = {k: w + self.away[k.replace(".", "/")] for k, w in self.net.named_parameters()}
        return torch.func.functional_call(self.net, point, (x,))


@pytest.mark.filterwarnings("ignore:parameters held constant")
@pytest.mark.parametrize("prior", [Gaussian(precision=3.0, mean="start"), FanIn(sigma_w=0.7, mean="start")])
def test_a_centred_prior_is_a_prior_of_deviations(prior: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    data = Data(X, torch.arange(N) % 2)
    centred = Target(net, prior=prior)
    around_zero = FanIn(sigma_w=0.7) if isinstance(prior, FanIn) else Gaussian(precision=3.0)
    plain = Target(Shifted(net), prior=around_zero)
    move = {k: 0.1 * torch.randn(w.shape, generator=generator(4)).double() for k, w in centred.params().items()}
    point = {k: w + move[k] for k, w in centred.params().items()}
    deviation = {f"away.{k.replace('.', '/')}": v for k, v in move.items()}
    for estimator in (Laplace("exact"), NTKSubset(8, outputs="all")):
        a, b = estimator(centred, data, point, seed=0), estimator(plain, data, deviation, seed=0)
        assert float(a) == pytest.approx(float(b), rel=1e-9)
    mine = infer(MAP(lr=0.05), centred, data, steps=60, batch_size=6)
    theirs = infer(MAP(lr=0.05), plain, data, steps=60, batch_size=6)
    assert torch.allclose(predict(mine, X).mean(), predict(theirs, X).mean(), rtol=1e-7)
    # A recorded run: the prior's gradient is added to that of the likelihood.
    long = [infer(MAP(lr=0.01), t, data, steps=2_100, batch_size=N) for t in (centred, plain)]
    assert torch.allclose(predict(long[0], X).mean(), predict(long[1], X).mean(), rtol=1e-5)
    drawn = centred.prior.sample(centred.params(), 4000, generator(5))
    mean = flatten({k: w.mean(0) for k, w in drawn.items()})
    assert torch.allclose(mean, flatten(centred.params()), atol=5 * 0.7 / 4000**0.5)


@pytest.mark.parametrize("which", ["last_layer", ("largest_variance", 4)])
def test_a_part_of_the_weights_keeps_its_means(which: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    target = Target(net, Normal(sigma=0.5), prior=Gaussian(precision=1e8, mean="start"))
    post = infer(Subnetwork(HMC(warmup=5, keep=20), which, optimiser=None), target, Data(X, Y), steps=25)
    drawn, own = post.sample(20, generator(0)), target.params()
    # Under so sharp a prior draws stay at its mean.
    assert all(bool(((drawn[k] - own[k]).abs() < 1e-3).all()) for k in own)


def test_networks_of_folds_start_where_the_prior_is_centred() -> None:
    net = _linear()
    data = Data(X, Y)
    means: tuple[tuple[Any, bool], ...] = (("start", True), (None, False))
    for mean, near in means:
        target = Target(net, Normal(sigma=0.5), prior=Gaussian(precision=1.0, mean=mean))
        found = cross_fit(target, data, steps=1, method=MAP(lr=1e-9))
        away = max(float((w["weight"] - START["weight"]).abs().max()) for w in found.params)
        assert (away < 0.2) == near


def test_what_was_learned_is_kept(tmp_path: Path) -> None:
    target, data = Target(_linear(), Normal(), prior=Gaussian(mean="start")), Data(X, Y)
    fit = nv.learn(target, data, epochs=20, folds=2)
    fit.save(tmp_path / "run")
    other = Target(nn.Linear(3, 1).double(), Normal(), prior=Gaussian(mean="start"))
    again = load_run(tmp_path / "run", target=other, data=data)
    centre = again.target.prior.centre(again.target.params())
    assert centre is not None
    assert all(torch.equal(centre[k], v) for k, v in START.items())
    assert torch.allclose(again.predict(X).mean(), predict(fit.posterior, X).mean())


BAD: dict[str, tuple[Any, str]] = {
    "a word": ("begin", "'begin'"),
    "a number": (1.0, "a float"),
    "another shape": ({"bias": torch.zeros(2)}, r"'bias' of shape \(1,\)"),
    "another name": ({"scale": torch.zeros(2)}, "'scale' of the network"),
    "whole numbers": ({"bias": torch.zeros(1).long()}, "weights by name"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_means_are_refused(name: str) -> None:
    mean, match = BAD[name]
    with pytest.raises(InputError, match=match):
        _target(mean)
    with pytest.raises(InputError, match="bound to weights"):
        Gaussian(mean="start").log_prob(START)


# ------------------------------------------------------------------------------------------------ some of the weights


class Adapted(nn.Module):
    """A linear layer with a low-rank adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.lora_a, self.lora_b = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.zeros(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.base(x) + x @ self.lora_a.T @ self.lora_b.T).tanh())


CHOICES = {
    "an adapter": (["lora_*"], {"lora_a", "lora_b"}),
    "with the head": (["lora_*", "head.*"], {"lora_a", "lora_b", "head.weight", "head.bias"}),
    "biases": (["*.bias"], {"base.bias", "head.bias"}),
}


@pytest.mark.parametrize("name", CHOICES)
def test_some_parameters_are_weights_and_the_others_stay(name: str) -> None:
    patterns, wanted = CHOICES[name]
    net = Adapted().double()
    net.base.requires_grad_(False)
    flags = {k: w.requires_grad for k, w in net.named_parameters()}
    target, data = Target(net, parameters=patterns), Data(X, torch.arange(N) % 2)
    assert set(target.params()) == wanted
    by_hand = Adapted().double()
    by_hand.load_state_dict(net.state_dict())
    for k, w in by_hand.named_parameters():
        w.requires_grad_(k in wanted)
    with pytest.warns(NovaculaWarning, match="held constant"):
        other = Target(by_hand)
    assert set(other.params()) == wanted
    for method in (MAP(), Ensemble(MAP(), members=2, start="near"), nv.Laplace("exact", check=False)):
        mine, theirs = (infer(method, t, data, steps=5) for t in (target, other))
        assert torch.allclose(predict(mine, X).mean(), predict(theirs, X).mean())
    assert {k: w.requires_grad for k, w in net.named_parameters()} == flags


def test_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(InputError, match=r"'lora_\*' among weight, bias"):
        Target(nn.Linear(3, 2), parameters=["lora_*"])
    with pytest.raises(InputError, match=r"parameters=\['bias'\]"):
        Target(nn.Linear(3, 2), parameters="bias")
