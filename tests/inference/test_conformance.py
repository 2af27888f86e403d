"""Every method in one table, and what all of them must do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.params import flatten
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference import (
    HMC,
    IVON,
    MAP,
    NUTS,
    SGHMC,
    SGLD,
    SMC,
    SWAG,
    Descent,
    Dropout,
    Ensemble,
    Laplace,
    MeanField,
    Method,
    Splitting,
    Subnetwork,
    infer,
)
from novacula.invariances import Affine
from novacula.likelihoods import Bernoulli, Normal
from novacula.prediction import predict
from novacula.priors import Gaussian
from novacula.target import Copies, LogDensity, Target


@dataclass(frozen=True)
class Case:
    """A method, built anew each time.

    ``plain``: whether it samples plain log-densities; ``early``: whether it may end before the steps are taken;
    ``prior``: whether it starts at the prior, so that neither start nor temperature of the whole matters; ``masks``:
    whether the network needs layers that drop, whose masks are then part of a draw; ``classes``: whether labels must be
    classes; ``steady``: whether the network must be the same function as it trains, without an invariance.
    """

    name: str
    build: Callable[[], Method]
    plain: bool = True
    prior: bool = False
    masks: bool = False
    classes: bool = False
    steady: bool = False
    steps: int = 12


METHODS: list[Case] = [
    Case("map", lambda: MAP(lr=0.02)),
    Case("ensemble", lambda: Ensemble(MAP(lr=0.02), members=2)),
    Case("laplace", lambda: Laplace("exact", optimiser=MAP(lr=0.02), check=False), plain=False),
    Case("laplace_kron", lambda: Laplace("kron", optimiser=MAP(lr=0.02), check=False), plain=False),
    Case("sgld", lambda: SGLD(lr=1e-3, keep=5)),
    Case("sgld_preconditioned", lambda: SGLD(lr=1e-3, precondition=True, keep=5)),
    Case("sgld_cyclical", lambda: SGLD(lr=1e-3, cycles=2, keep=5)),
    Case("sghmc", lambda: SGHMC(lr=1e-3, keep=5)),
    Case("sgld_own_rate", lambda: SGLD(keep=5)),
    Case("sgld_own_rate_preconditioned", lambda: SGLD(precondition=True, keep=5)),
    Case("sgld_own_rate_cyclical", lambda: SGLD(cycles=2, keep=5)),
    Case("sghmc_own_rate", lambda: SGHMC(keep=5)),
    Case("nuts", lambda: NUTS(max_depth=3, keep=5)),
    Case("nuts_low_rank", lambda: NUTS(max_depth=3, mass="low_rank", rank=2, keep=5)),
    Case("hmc", lambda: HMC(leapfrogs=3, keep=5)),
    Case("swag", lambda: SWAG(points=4, rank=2)),
    Case("mean_field", lambda: MeanField(), plain=False),
    Case("ivon", lambda: IVON(), plain=False),
    Case("dropout", lambda: Dropout(lr=0.02), plain=False, masks=True),
    Case("dropout_ensemble", lambda: Ensemble(Dropout(lr=0.02), members=2), plain=False, masks=True),
    Case("subnetwork", lambda: Subnetwork(MeanField(), ("*.bias",), epochs=2), plain=False),
    Case(
        "subnetwork_sgld",
        lambda: Subnetwork(SGLD(keep=5), ("largest_variance", 7), epochs=2),
        plain=False,
    ),
    Case("smc", lambda: SMC(particles=8, moves=1, leapfrogs=2), prior=True, steps=60),
    Case("smc_elliptical", lambda: SMC(particles=8, moves=1, move="elliptical"), prior=True, steps=60),
    Case("descent", lambda: Descent(lr=0.5), plain=False, classes=True, steady=True),
    Case("splitting", lambda: Splitting(particles=8, moves=1), plain=False, prior=True, classes=True, steps=60),
]

every = pytest.mark.parametrize("case", METHODS, ids=lambda c: c.name)


class Net(nn.Module):
    """A network with a buffer, two sizes of layers and no in-place operation."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(p), nn.Linear(4, 2))
        self.register_buffer("shift", torch.tensor([0.1, -0.2], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shift


def problem(case: Case) -> tuple[Target, Data]:
    x = torch.randn(14, 3, generator=generator(1), dtype=torch.float64)
    net = Net(0.2 if case.masks else 0.0).double().eval()
    return Target(net, prior=Gaussian(3.0)), Data(x, (x[:, 0] * x[:, 1] > 0).long())


def draw(post: object, n: int = 6) -> Tensor:
    return flatten(post.sample(n, generator(0)), batch_dims=1)  # type: ignore[attr-defined]


@every
@pytest.mark.parametrize("chains", [1, 3])
def test_it_runs_samples_and_predicts_and_touches_nothing(case: Case, chains: int) -> None:
    target, data = problem(case)
    net, x = target.network, data.x.clone()
    before, state = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    post = infer(case.build(), target, data, steps=case.steps, batch_size=6, chains=chains, seed=2)
    samples = post.sample(5, generator(1))
    own = target.params()
    masks = {k: w for k, w in samples.items() if k not in own}
    assert bool(masks) == case.masks
    samples = {k: w for k, w in samples.items() if k in own}
    assert {k: w.shape[1:] for k, w in samples.items()} == {k: w.shape for k, w in own.items()}
    assert all(w.shape[0] == 5 and w.dtype == own[k].dtype for k, w in samples.items())
    assert {k: w.shape for k, w in post.mode.items() if k in own} == {k: w.shape for k, w in own.items()}
    assert all(isinstance(text, str) for text in post.warnings)
    prediction = predict(post, data.x, samples=8)
    assert torch.allclose(prediction.mean().sum(1), torch.ones(14, dtype=torch.float64))
    assert torch.isfinite(prediction.log_prob(data.y)).all()
    # Predictions do not depend on the batch.
    assert torch.allclose(predict(post, data.x[3:5], samples=8).mean(), prediction.mean()[3:5], atol=1e-10)
    assert all(torch.equal(w, net.state_dict()[k]) for k, w in before.items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(data.x, x)


@every
def test_the_same_seed_gives_the_same_draws_and_another_seed_others(case: Case) -> None:
    target, data = problem(case)
    found = [
        draw(infer(case.build(), target, data, steps=case.steps, batch_size=6, chains=2, seed=seed))
        for seed in (2, 2, 3)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@every
def test_a_resumed_run_is_bit_identical(case: Case, tmp_path: Path) -> None:
    target, data = problem(case)

    class Stop(Exception):
        pass

    def interrupt(done: int, total: int, record: dict[str, float]) -> None:
        if done == 1:
            raise Stop

    path = tmp_path / "run.safetensors"
    options = {"steps": case.steps, "batch_size": 6, "chains": 2, "seed": 2}
    whole = infer(case.build(), target, data, **options)
    with pytest.raises(Stop):
        infer(case.build(), target, data, **options, checkpoint=path, progress=interrupt)
    resumed = infer(case.build(), target, data, **options, checkpoint=path, resume=True)
    assert torch.equal(draw(whole), draw(resumed))


@every
def test_it_is_a_frozen_dataclass_of_plain_numbers_that_travels(case: Case) -> None:
    method = case.build()
    assert is_dataclass(method)
    assert pickle.loads(pickle.dumps(method)) == method
    name = fields(method)[0].name
    with pytest.raises(AttributeError):
        setattr(method, name, None)
    assert method.batching in ("mini", "full")


@every
def test_it_takes_regressions_invariances_and_temperatures(case: Case) -> None:
    x = torch.rand(7, 1, 4, 4, generator=generator(3), dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Tanh(), nn.Dropout(0.2), nn.Linear(3, 2)).double().eval()
    target = Target(
        net,
        likelihood=Normal(sigma=0.3),
        prior=Gaussian(2.0),
        invariance=Affine(),
        copies=Copies(train=2, evidence=2, predict=3),
        temperature=1.0 if case.prior else 0.5,
        likelihood_temperature=2.0,
    )
    data = Data(x, torch.randn(7, 2, generator=generator(4), dtype=torch.float64))
    if case.classes:
        target = replace(target, likelihood=Bernoulli(), likelihood_temperature=1.0)
        data = Data(x, (data.y > 0).double(), task="multilabel")
    if case.steady:
        with pytest.raises(InputError, match="the same function in training"):
            infer(case.build(), target, data, steps=case.steps, batch_size=4, seed=0)
        return
    post = infer(case.build(), target, data, steps=case.steps, batch_size=4, seed=0)
    assert predict(post, x, samples=4).mean().shape == (7, 2)


@every
def test_plain_log_densities_are_sampled_or_refused(case: Case) -> None:
    density = LogDensity(lambda w: -w["a"].square().sum(), {"a": torch.zeros(2)}, prior=Gaussian(1.0))
    if case.plain:
        post = infer(case.build(), density, steps=case.steps, chains=2, seed=0)
        assert post.sample(3, generator(0))["a"].shape == (3, 2)
    else:
        with pytest.raises(InputError, match="a network's Target"):
            infer(case.build(), density, steps=case.steps)


@every
def test_labels_that_do_not_fit_are_refused_before_anything_runs(case: Case) -> None:
    target, data = problem(case)
    with pytest.raises(InputError):
        infer(case.build(), target, Data(data.x, torch.arange(data.n) % 7), steps=case.steps)
