"""IVON against its algorithm written out naively, and against the closed form of linear regression."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.many import normal_like
from novacula.core.params import flatten
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference.infer import infer
from novacula.inference.method import Start
from novacula.inference.starts import starts
from novacula.inference.variational.ivon import IVON
from novacula.likelihoods import Normal
from novacula.posteriors.gaussians import DiagonalGaussian
from novacula.posteriors.mixture import Mixture
from novacula.prediction import predict
from novacula.priors import FanIn, Gaussian, StudentT
from novacula.target import LogDensity, Target
from novacula.target.batch import Batch

N, D, SIGMA = 24, 3, 0.7


def regression() -> Data:
    rng = generator(1)
    z = torch.randn(N, D, generator=rng, dtype=torch.float64)
    x = z @ torch.tensor([[1.0, 0.6, 0.0], [0.0, 1.0, -0.7], [0.0, 0.0, 0.5]], dtype=torch.float64) + 0.3
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.4
    return Data(x, y + SIGMA * torch.randn(N, 1, generator=rng, dtype=torch.float64))


def linear_target(**temperatures: float) -> Target:
    """A prior whose precision differs between tensors: 2.5 for the weight, 4 for the bias."""
    log = torch.tensor([2.5, 4.0], dtype=torch.float64).log()
    return Target(
        nn.Linear(D, 1).double(), likelihood=Normal(sigma=SIGMA), prior=Gaussian(log_precision=log), **temperatures
    )


def exact(t: float, t_l: float) -> tuple[Tensor, Tensor]:
    """Mean and precision matrix of the posterior over (weight, bias)."""
    data = regression()
    design = torch.cat([data.x, torch.ones(N, 1, dtype=torch.float64)], 1)
    prior = torch.diag(torch.tensor([2.5, 2.5, 2.5, 4.0], dtype=torch.float64))
    precision = (design.T @ design / (SIGMA**2 * t_l) + prior) / t
    return torch.linalg.solve(precision, design.T @ data.y[:, 0] / (SIGMA**2 * t_l * t)), precision


def classification(n: int = 40) -> tuple[Target, Data]:
    x = torch.randn(n, 3, generator=generator(2), dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    return Target(net, prior=Gaussian(1.5)), Data(x, (x[:, 0] > x[:, 1] ** 2).long())


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("clip", [math.inf, 0.02])
def test_steps_are_those_of_the_algorithm(samples: int, clip: float) -> None:
    """Three steps of two members, on batches, in numpy, with the noise that the method draws."""
    data, target = regression(), linear_target(temperature=0.5, likelihood_temperature=2.0)
    method = IVON(lr=0.2, h0=0.3, beta1=0.8, beta2=0.9, clip=clip, samples=samples, schedule="constant")
    first = starts(target, 2, 3)
    state = method.init(target, data, generator(0), Start(first, 3))
    m = {k: w.numpy().copy() for k, w in first.items()}
    g = {k: np.zeros_like(w) for k, w in m.items()}
    h = {k: np.full_like(w, 0.3) for k, w in m.items()}
    ess, delta = 0.0, dict[str, float]()
    for t, warm in enumerate((0.01, 2 / 3, 1.0)):  # the likelihood's temperature, 2, comes in over half of the steps
        ess, delta = N / (0.5 * 2.0 * warm), {"weight": 2.5 * 2.0 * warm / N, "bias": 4.0 * 2.0 * warm / N}
        batch = Batch(data.x[t::3], data.y[t::3], N, t, 3)
        rng = generator(5, t)
        state, info = method.step(target, state, batch, generator(5, t))
        x, y = batch.x.numpy(), batch.y.numpy()
        gradient, curvature, loss = ({k: 0.0 * w for k, w in m.items()} for _ in range(3))
        for _ in range(max(1, samples // 2)):
            noise = {k: e.numpy() for k, e in normal_like(first, rng).items()}
            for sign in (1, -1)[: min(2, samples)]:
                sigma = {k: 1 / np.sqrt(ess * (h[k] + delta[k])) for k in m}
                theta = {k: m[k] + sign * sigma[k] * noise[k] for k in m}
                for i in range(2):
                    r = (x @ theta["weight"][i].T + theta["bias"][i] - y) / SIGMA**2
                    each = {"weight": r.T @ x / len(x), "bias": r.mean(0)}
                    for k in m:
                        gradient[k][i] += each[k] / samples
                        curvature[k][i] += each[k] * (theta[k][i] - m[k][i]) / sigma[k][i] ** 2 / samples
                    loss["bias"][i] += (0.5 * SIGMA**2 * r**2 + math.log(SIGMA) + 0.5 * math.log(2 * math.pi)).mean()
        for k in m:
            g[k] = 0.8 * g[k] + 0.2 * gradient[k]
            h[k] = 0.9 * h[k] + 0.1 * curvature[k] + 0.5 * 0.01 * (h[k] - curvature[k]) ** 2 / (h[k] + delta[k])
            step = (g[k] / (1 - 0.8 ** (t + 1)) + delta[k] * m[k]) / (h[k] + delta[k])
            m[k] = m[k] - 0.2 * np.clip(step, -clip, clip)
        assert info.loss == pytest.approx(loss["bias"].mean() / samples, rel=1e-6)
    assert all(np.allclose(state.mean[k], m[k], rtol=1e-6) for k in m)
    assert all(np.allclose(state.hessian[k], h[k], rtol=1e-6) for k in m)
    post = method.posterior(target, state)
    assert isinstance(post, Mixture)
    part = post.components[1]
    assert isinstance(part, DiagonalGaussian)
    assert all(np.allclose(part.sd[k], 1 / np.sqrt(ess * (h[k][1] + delta[k])), rtol=1e-6) for k in m)


@pytest.mark.parametrize("t, t_l, own", [(1.0, 1.0, None), (5.0, 2.0, 0.3)])
def test_the_fixed_point_is_the_exact_mean_and_the_diagonal_of_the_precision(
    t: float, t_l: float, own: float | None
) -> None:
    """The optimum of `MeanField`. Each Hessian's mean has noise of some 8 %; that of five members, 4 %."""
    data, target = regression(), linear_target(temperature=t, likelihood_temperature=t_l)
    method = IVON(lr=0.3, h0=5.0, beta2=0.997, clip=math.inf, temperature=own)
    post = infer(method, target, data, steps=800, batch_size=N, seed=1, chains=5)
    assert isinstance(post, Mixture)
    mean, precision = exact(own or t, t_l)
    sd = precision.diag().rsqrt()
    found = []
    for part in post.components:
        assert isinstance(part, DiagonalGaussian)
        assert float(((flatten(part.mode) - mean) / sd).abs().max()) < 0.01
        found.append(flatten(part.sd))
    assert float((torch.stack(found).mean(0) / sd - 1).abs().max()) < 0.1
    assert float((torch.linalg.inv(precision).diag().sqrt() / sd).max()) > 1.15


def test_clipping_keeps_a_steep_problem_finite() -> None:
    """Noise of 0.01 makes the curvature 10⁵ times h0."""
    data = regression()
    target = Target(nn.Linear(D, 1).double(), likelihood=Normal(sigma=0.01))
    post = infer(IVON(), target, data, steps=500, batch_size=8, seed=0)
    residual = float((target.forward(post.mode, data.x) - data.y).square().mean().sqrt())
    assert residual < 1.3 * SIGMA


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    target, data = classification()
    method, path = IVON(), tmp_path / "run.safetensors"
    options = {"epochs": 4, "batch_size": 11, "seed": 1, "chains": 2}

    def stop(done: int, total: int, record: dict[str, float]) -> None:
        if done == 2:
            raise KeyboardInterrupt

    whole = infer(method, target, data, **options)
    with pytest.raises(KeyboardInterrupt):
        infer(method, target, data, **options, checkpoint=path, progress=stop)
    again = infer(method, target, data, **options, checkpoint=path, resume=True)
    a, b = (p.sample(6, generator(3)) for p in (whole, again))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert predict(again, data.x, samples=8).mean().shape == (40, 2)


def test_a_step_of_many_members_is_that_of_each() -> None:
    """Members draw noise of their own: one by one (as where vmap fails) they move as they do together."""
    target, data = classification()
    method, batch = IVON(samples=2), Batch(data.x, data.y, data.n, 0, 4)
    start = method.init(target, data, generator(0), Start(starts(target, 3, 5), 4))
    together, _ = method.step(target, start, batch, generator(1))
    target.notes.looped = True
    again, _ = method.step(target, start, batch, generator(1))
    for found in ("mean", "hessian"):
        a, b = getattr(together, found), getattr(again, found)
        assert all(torch.allclose(a[k], b[k]) for k in a)
    assert not torch.equal(together.mean["0.weight"][0], together.mean["0.weight"][1])


def test_more_weights_than_examples_are_warned_of() -> None:
    target, data = classification(30)
    assert "32 weights, from 30 examples" in infer(IVON(), target, data, epochs=1).warnings[0]
    assert infer(IVON(temperature=0.1), target, data, epochs=1).warnings == ()


def test_fan_in_priors_are_decays_and_others_are_refused() -> None:
    target, data = classification()
    fan_in = Target(target.network, prior=FanIn(1.2, 0.5))
    assert infer(IVON(), fan_in, data, steps=3).sample(2, generator(0))["0.bias"].shape == (2, 5)
    with pytest.raises(InputError, match="Gaussian prior"):
        infer(IVON(), Target(target.network, prior=StudentT()), data, steps=3)
    density = LogDensity(lambda w: -w["a"].square().sum(), {"a": torch.zeros(2)})
    with pytest.raises(InputError, match="network's Target for IVON"):
        infer(IVON(), density, steps=3)


@pytest.mark.parametrize(
    "bad, match",
    [
        ({"lr": 0.0}, "lr as a finite number above zero"),
        ({"h0": -1.0}, "h0"),
        ({"temperature": 0.0}, "temperature"),
        ({"beta1": 1.0}, "beta1"),
        ({"beta2": -0.1}, "beta2"),
        ({"clip": 0.0}, "clip"),
        ({"samples": 5}, "even"),
        ({"schedule": "linear"}, "one-cycle"),
    ],
)
def test_numbers_out_of_range_are_refused(bad: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        IVON(**bad)  # type: ignore[arg-type]
