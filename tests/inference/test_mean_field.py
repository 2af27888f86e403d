"""Mean-field variational inference against the closed forms of linear regression, and its gradients' expectation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import Params, flatten, stack
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference.infer import infer
from novacula.inference.loop import run
from novacula.inference.method import Start
from novacula.inference.starts import starts
from novacula.inference.variational.mean_field import MeanField, MeanFieldState
from novacula.likelihoods import Categorical, Normal
from novacula.posteriors.gaussians import DiagonalGaussian
from novacula.posteriors.mixture import Mixture
from novacula.prediction import predict
from novacula.priors import FanIn, Gaussian, Laplace, StudentT
from novacula.priors.base import Prior
from novacula.target import LogDensity, Target
from novacula.target.batch import Batch

N, D, SIGMA, PRECISION = 30, 3, 0.7, 2.5


def regression() -> Data:
    """Correlated inputs, so that the precision matrix is far from diagonal."""
    rng = generator(1)
    z = torch.randn(N, D, generator=rng, dtype=torch.float64)
    x = z @ torch.tensor([[1.0, 0.6, 0.0], [0.0, 1.0, -0.7], [0.0, 0.0, 0.5]], dtype=torch.float64) + 0.3
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.4
    return Data(x, y + SIGMA * torch.randn(N, 1, generator=rng, dtype=torch.float64))


def linear_target(prior: Prior | None = None, **temperatures: float) -> Target:
    net = nn.Linear(D, 1).double()
    prior = Gaussian(precision=PRECISION) if prior is None else prior
    return Target(net, likelihood=Normal(sigma=SIGMA), prior=prior, **temperatures)


def exact(t: float = 1.0, t_l: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean and precision matrix of the posterior over (weight, bias)."""
    data = regression()
    design = torch.cat([data.x, torch.ones(N, 1, dtype=torch.float64)], 1)
    precision = (design.T @ design / (SIGMA**2 * t_l) + PRECISION * torch.eye(D + 1, dtype=torch.float64)) / t
    return torch.linalg.solve(precision, design.T @ data.y[:, 0] / (SIGMA**2 * t_l * t)), precision


def classification(n: int = 40) -> tuple[Target, Data]:
    x = torch.randn(n, 3, generator=generator(2), dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    return Target(net, likelihood=Categorical(), prior=Gaussian(1.5)), Data(x, (x[:, 0] > x[:, 1] ** 2).long())


def state_of(method: MeanField, target: Target, data: Data, sd: float, members: int = 1) -> MeanFieldState:
    state = method.init(target, data, generator(0), Start(starts(target, members, 3), 10))
    return dataclasses.replace(state, log_sd={k: torch.full_like(w, math.log(sd)) for k, w in state.mean.items()})


def gradients(method: MeanField, target: Target, state: MeanFieldState, batch: Batch, n: int) -> tuple[Tensor, Tensor]:
    """Repeated estimates: ELBOs (n,), and gradients (n, 2P), means' first."""
    elbos, grads = [], []
    for i in range(n):
        _, elbo, grad, _ = method.gradient(target, state, batch, generator(9, i))
        elbos.append(elbo[0])
        grads.append(flatten({k: v[0] for k, v in grad.items()}))
    return torch.stack(elbos), torch.stack(grads)


# ---------------------------------------------------------------------------------------- the optimum


@pytest.mark.parametrize("t, t_l", [(1.0, 1.0), (0.3, 2.0)])
def test_the_optimum_is_the_exact_mean_and_the_diagonal_of_the_precision(t: float, t_l: float) -> None:
    data, target = regression(), linear_target(temperature=t, likelihood_temperature=t_l)
    mean, precision = exact(t, t_l)
    sd = precision.diag().rsqrt()
    init = {"weight": (mean + sd)[:D].reshape(1, D), "bias": (mean - sd)[D:]}
    post = infer(MeanField(lr=0.05, sd_lr=0.05, init_sd=0.3), target, data, init=init, steps=600, batch_size=N, seed=1)
    assert isinstance(post, DiagonalGaussian)
    # Pairs make the means' gradient exact where the log-density is quadratic; the deviations' has noise.
    assert float(((flatten(post.mode) - mean) / sd).abs().max()) < 1e-6
    assert float((flatten(post.sd) / sd - 1).abs().max()) < 0.1
    # It is far from the marginal deviations, and from those of a prior counted once a tensor or once an example.
    assert float((torch.linalg.inv(precision).diag().sqrt() / sd).max()) > 1.15


@pytest.mark.parametrize("noise", ["flipout", "shared"])
@pytest.mark.parametrize("t, t_l, own", [(0.5, 3.0, None), (7.0, 3.0, 0.5)])
def test_bound_and_gradient_have_the_expectations_of_the_closed_form(
    noise: str, t: float, t_l: float, own: float | None
) -> None:
    """Nine z-scores below 5 in each of four cases: a false alarm in fewer than 1 of 40,000 seeds."""
    data, target = regression(), linear_target(temperature=t, likelihood_temperature=t_l)
    method = MeanField(noise=noise, samples=2, temperature=own)  # type: ignore[arg-type]
    t = own or t
    state = state_of(method, target, data, 0.2)
    batch = Batch(data.x, data.y, N, 0, 10)
    elbos, grads = gradients(method, target, state, batch, 120)
    m = flatten({k: w[0] for k, w in state.mean.items()})
    mean, precision = exact(t, t_l)
    expected = torch.cat([precision @ (m - mean), 0.04 * precision.diag() - 1]) / N
    error = grads.std(0) / 120**0.5 + 1e-12
    assert float(((grads.mean(0) - expected) / error).abs().max()) < 5
    # −F in closed form: what a Gaussian q makes of a quadratic log-density, from its value and curvature at m.
    params = {k: w[0] for k, w in state.mean.items()}
    top = dataclasses.replace(target, temperature=t).log_density(params, data.x, data.y, N, generator(0))
    value = float(top - 0.5 * 0.04 * precision.trace() + 4 * (math.log(0.2) + 0.5 * math.log(2 * math.pi * math.e)))
    assert abs(float(elbos.mean()) - value) < 5 * float(elbos.std()) / 120**0.5


def test_the_bound_is_below_the_evidence_by_the_divergence() -> None:
    """At the best independent Gaussians; one z-score below 5."""
    data, target = regression(), linear_target()
    mean, precision = exact()
    method = MeanField(samples=2)
    state = state_of(method, target, data, 1.0)
    place = {"weight": mean[:D].reshape(1, 1, D), "bias": mean[D:].reshape(1, 1)}
    sd = precision.diag().rsqrt()
    logs = {"weight": sd[:D].log().reshape(1, 1, D), "bias": sd[D:].log().reshape(1, 1)}
    state = dataclasses.replace(state, mean=place, log_sd=logs)
    elbos, _ = gradients(method, target, state, Batch(data.x, data.y, N, 0, 10), 120)
    design = torch.cat([data.x, torch.ones(N, 1, dtype=torch.float64)], 1).numpy()
    evidence = multivariate_normal.logpdf(
        data.y[:, 0].numpy(), np.zeros(N), SIGMA**2 * np.eye(N) + design @ design.T / PRECISION
    )
    divergence = 0.5 * (precision.diag().log().sum() - torch.logdet(precision))
    assert float(divergence) > 0.3
    assert abs(float(elbos.mean()) - (evidence - float(divergence))) < 5 * float(elbos.std()) / 120**0.5


# ---------------------------------------------------------------------------------------- variance


def test_flipout_keeps_the_expectation_and_lowers_the_variance() -> None:
    """54 z-scores below 5.5: a false alarm in fewer than 1 of 400,000 seeds; the ratio is about 0.08."""
    target, data = classification(64)
    batch = Batch(data.x, data.y, data.n, 0, 10)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for noise in ("flipout", "shared"):
        method = MeanField(noise=noise, samples=1)  # type: ignore[arg-type]
        state = state_of(method, target, data, 0.3)
        _, grads = gradients(method, target, state, batch, 120)
        found[noise] = grads.mean(0), grads.var(0)
    (a, va), (b, vb) = found["flipout"], found["shared"]
    assert float(((a - b) / ((va + vb) / 120).sqrt()).abs().max()) < 5.5
    assert float(va.sum() / vb.sum()) < 0.25


def test_pairs_lower_the_variance_by_more_than_two_draws_do() -> None:
    """The ratio is 0.25 and would be 0.5 for two independent draws; its standard error is below 0.06."""
    target, data = classification(64)
    batch = Batch(data.x, data.y, data.n, 0, 10)
    total = []
    for samples in (1, 2):
        method = MeanField(noise="shared", samples=samples)
        state = state_of(method, target, data, 0.3)
        _, grads = gradients(method, target, state, batch, 120)
        total.append(float(grads[:, : grads.shape[1] // 2].var(0).sum()))
    assert total[1] / total[0] < 0.4


# ---------------------------------------------------------------------------------------- priors


def expected_by_quadrature(log_density: Callable[[float], float], m: float, s: float) -> float:
    kinks = [0.0] if abs(m) < 10 * s else None
    return quad(lambda w: norm.pdf(w, m, s) * log_density(w), m - 10 * s, m + 10 * s, points=kinks, limit=200)[0]


@pytest.mark.parametrize("prior", [Gaussian(3.0), FanIn(1.3, 0.6), Laplace(0.4), StudentT(3.0, 0.7)])
def test_the_priors_term_is_its_expectation(prior: Prior) -> None:
    """Exact for Gaussians; else one z-score below 5."""
    target, data = linear_target(prior, likelihood_temperature=1e12), regression()
    method = MeanField(samples=2)
    state = state_of(method, target, data, 0.4)
    elbos, _ = gradients(method, target, state, Batch(data.x, data.y, N, 0, 10), 100)
    expected = 4 * (math.log(0.4) + 0.5 * math.log(2 * math.pi * math.e))
    for name, w in state.mean.items():
        for value in w.flatten().tolist():

            def log_density(u: float, name: str = name) -> float:
                if isinstance(prior, FanIn):
                    return float(norm.logpdf(u, 0, 1.3 / math.sqrt(D) if name == "weight" else 0.6))
                one = {name: torch.tensor(u, dtype=torch.float64)}
                return float(dataclasses.replace(prior, names=()).bind(one).log_prob(one))

            expected += expected_by_quadrature(log_density, value, 0.4)
    assert abs(float(elbos.mean()) - expected) < 5 * float(elbos.std()) / 10 + 1e-7
    if isinstance(prior, Gaussian | FanIn):
        assert float(elbos.std()) < 1e-7


# ---------------------------------------------------------------------------------------- the method


def test_vmapped_members_have_the_gradients_of_members_alone() -> None:
    target, data = classification()
    method = MeanField(samples=2)
    state = state_of(method, target, data, 0.1, members=3)
    batch = Batch(data.x[:10], data.y[:10], data.n, 0, 10)
    losses, elbos, grads, _ = method.gradient(target, state, batch, generator(4))
    assert losses.shape == elbos.shape == (3,)
    # The same function, member by member: a network that vmap has failed on takes this way.
    target.notes.looped = True
    again = method.gradient(target, state, batch, generator(4))
    assert torch.allclose(losses, again[0])
    assert torch.allclose(elbos, again[1])
    assert all(torch.allclose(g, again[2][k]) for k, g in grads.items())
    assert not torch.allclose(grads["m:0.weight"][0], grads["m:0.weight"][1])


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    target, data = classification()
    method, path = MeanField(), tmp_path / "run.safetensors"
    options = {"epochs": 4, "batch_size": 11, "seed": 1, "chains": 2}

    def stop(done: int, total: int, record: dict[str, float]) -> None:
        assert math.isfinite(record["elbo"])
        if done == 2:
            raise KeyboardInterrupt

    whole = infer(method, target, data, **options)
    with pytest.raises(KeyboardInterrupt):
        infer(method, target, data, **options, checkpoint=path, progress=stop)
    again = infer(method, target, data, **options, checkpoint=path, resume=True)
    assert isinstance(whole, Mixture)
    a, b = (p.sample(6, generator(3)) for p in (whole, again))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert predict(again, data.x, samples=8).mean().shape == (40, 2)


def test_the_bound_rises() -> None:
    target, data = classification()
    history = run(MeanField(), target, data, epochs=25, batch_size=20, seed=2).history
    assert history[-1]["elbo"] > history[0]["elbo"] + 5


def test_parameters_drawn_once_a_batch_are_named() -> None:
    x = torch.randn(40, 3, generator=generator(2), dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)).double()
    data = Data(x, (x[:, 0] > 0).long())
    post = infer(MeanField(temperature=0.5), Target(net), data, epochs=1)
    assert len(post.warnings) == 1
    assert "1.weight, 1.bias (not of a linear" in post.warnings[0]
    assert infer(MeanField(noise="shared", temperature=0.5), Target(net), data, epochs=1).warnings == ()


def test_more_weights_than_examples_are_warned_of() -> None:
    target, data = classification(30)
    warnings = infer(MeanField(), target, data, epochs=1).warnings
    assert "32 weights, from 30 examples" in warnings[0]
    assert infer(MeanField(temperature=0.1), target, data, epochs=1).warnings == ()


@pytest.mark.parametrize(
    "bad, match",
    [
        ({"lr": 0.0}, "lr as a finite number above zero"),
        ({"sd_lr": -1.0}, "sd_lr"),
        ({"init_sd": math.inf}, "init_sd"),
        ({"temperature": 0.0}, "temperature"),
        ({"samples": 3}, "even"),
        ({"samples": 0}, "even"),
        ({"noise": "local"}, "flipout"),
        ({"schedule": "linear"}, "one-cycle"),
    ],
)
def test_numbers_out_of_range_are_refused(bad: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        MeanField(**bad)  # type: ignore[arg-type]


def test_a_plain_log_density_is_refused() -> None:
    density = LogDensity(lambda w: -w["a"].square().sum(), {"a": torch.zeros(2)})
    with pytest.raises(InputError, match="network's Target for MeanField"):
        infer(MeanField(), density, steps=3)


def test_the_posterior_repeats_its_members() -> None:
    target, data = classification()
    first: list[Params] = [target.params()] * 2
    post = infer(MeanField(), target, data, steps=3, chains=2)
    assert isinstance(post, Mixture)
    assert all(isinstance(c, DiagonalGaussian) for c in post.components)
    assert {k: w.shape for k, w in stack(first).items()} == {
        k: w.shape for k, w in post.sample(2, generator(0)).items()
    }
