"""Subnetworks: the chosen weights' target is the whole one's at fixed other weights, and draws hold all weights."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.many import over_members
from novacula.core.params import Params, count, flatten, stack, unflatten, unstack
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference.dropout import Dropout
from novacula.inference.hamiltonian.hmc import HMC
from novacula.inference.hamiltonian.nuts import NUTS
from novacula.inference.infer import infer
from novacula.inference.langevin.sgmcmc import SGLD
from novacula.inference.laplace import Laplace
from novacula.inference.method import Method
from novacula.inference.optimising.ensemble import Ensemble
from novacula.inference.optimising.map import MAP
from novacula.inference.optimising.swag import SWAG
from novacula.inference.subnetwork import Subnetwork
from novacula.inference.variational.ivon import IVON
from novacula.inference.variational.mean_field import MeanField
from novacula.invariances import Affine
from novacula.likelihoods import Normal
from novacula.posteriors.draws import Draws
from novacula.posteriors.laplace import LaplacePosterior
from novacula.posteriors.mixture import Mixture
from novacula.posteriors.parts import part_of
from novacula.posteriors.subnetwork import SubnetworkPosterior
from novacula.prediction import predict
from novacula.priors import FanIn, Gaussian, StudentT
from novacula.priors import Laplace as LaplacePrior
from novacula.priors.base import Prior
from novacula.target import Copies, LogDensity, Target
from zoo import case, naive_dense

WHICH: list[Any] = ["last_layer", ("0.*",), ("*.bias", "2.weight"), ("largest_variance", 9), ("*",)]


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def problem(prior: Prior | None = None, **fields: Any) -> tuple[Target, Data]:
    x = torch.randn(16, 3, generator=generator(1), dtype=torch.float64)
    data = Data(x, (x[:, 0] * x[:, 1] > 0).long())
    return Target(net(), prior=prior or Gaussian(1.7), **fields).prepare(data)


# ---------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("prior", [Gaussian(1.7), FanIn(1.3, 0.5), LaplacePrior(0.4, per="all"), StudentT(3.0, 0.8)])
@pytest.mark.parametrize("which", WHICH)
def test_the_parts_target_is_the_whole_one_at_fixed_other_weights(which: Any, prior: Prior) -> None:
    target, data = problem(prior, temperature=0.5, likelihood_temperature=2.0)
    if isinstance(prior, Gaussian | StudentT):  # scales that differ between tensors
        (name,) = target.prior.learnable
        scales = torch.linspace(-0.5, 0.7, 6, dtype=torch.float64)
        target = target.with_learnable({f"prior.{name}": scales})
    part = part_of(target, target.params(), data, which)
    own = part.target.params()
    chosen = {k: w + 0.3 * torch.randn(4, *w.shape, generator=generator(2, k), dtype=w.dtype) for k, w in own.items()}
    whole = part.merge(chosen)
    assert {k: w.shape for k, w in whole.items()} == {k: (4, *w.shape) for k, w in target.params().items()}
    assert all(torch.equal(v, chosen[k]) for k, v in part.select(whole).items())
    values = []
    for mine, everything in zip(unstack(chosen), unstack(whole), strict=True):
        f = part.target.forward(mine, data.x)
        assert torch.equal(f, target.forward(everything, data.x))
        a = part.target.log_density(mine, data.x, data.y, data.n, generator(0))
        values.append(float(a - target.log_density(everything, data.x, data.y, data.n, generator(0))))
    # They differ by the prior of the fixed weights, a constant.
    assert values == pytest.approx([values[0]] * 4, abs=1e-9)
    # And under vmap.
    f = over_members(lambda w: part.target.forward(w, data.x), chosen, part.target.notes)
    assert torch.allclose(f[2], part.target.forward(unstack(chosen)[2], data.x))


def test_what_is_chosen() -> None:
    target, data = problem()

    def names(which: Any) -> tuple[str, ...]:
        return tuple(part_of(target, target.params(), data, which).target.params())

    assert names("last_layer") == ("4.weight", "4.bias")
    assert names(("0.*", "*.bias")) == ("0.weight", "0.bias", "2.bias", "4.bias")
    assert names(("2.weight",)) == ("2.weight",)
    tied = case("tied_embedding")  # the last layer's weight is an embedding
    target = Target(tied.make())
    x = tied.inputs(6, 1)[:, 0]
    part = part_of(target, target.params(), Data(x, torch.arange(6), tokens=True), "last_layer")
    assert tuple(part.target.params()) == ("embed.weight",)


def test_the_largest_variances_are_those_of_the_naive_diagonal() -> None:
    """Also: weights that feed from an input that is always 0 come last, whatever their prior's variance."""
    target, data = problem(Gaussian(1e-3))
    x = data.x.clone()
    x[:, 1] = 0
    data = data.with_values(x, data.y)
    params = target.params()
    h = naive_dense(target.problem(params, data, seed=0)).diag()
    dead = torch.zeros_like(params["0.weight"], dtype=torch.bool)
    dead[:, 1] = True
    dead = flatten({k: dead if k == "0.weight" else torch.zeros_like(w, dtype=torch.bool) for k, w in params.items()})
    assert torch.equal(h == 0, dead)
    order = (1 / (h + 1e-3)).masked_fill(dead, -math.inf).argsort(descending=True)
    for n in (1, 6, 30):
        part = part_of(target, params, data, ("largest_variance", n))
        chosen = torch.zeros(count(params), dtype=torch.bool)
        chosen[order[:n]] = True
        expected = {k: v.flatten().nonzero()[:, 0] for k, v in unflatten(chosen, params).items() if v.any()}
        assert part.index is not None
        assert {k: v.tolist() for k, v in part.index.items()} == {k: v.tolist() for k, v in expected.items()}
        assert count(part.target.params()) == n
    part = part_of(target, params, data, ("largest_variance", count(params)))
    assert flatten(part.merge({k: w.unsqueeze(0) for k, w in part.target.params().items()})).tolist() == pytest.approx(
        flatten(params).tolist()
    )


def test_a_laplace_posterior_of_some_weights_is_the_conditional_one() -> None:
    """Linear regression: the precision matrix's block, around the mean given the fixed weights."""
    rng = generator(3)
    x = torch.randn(20, 4, generator=rng, dtype=torch.float64)
    data = Data(x, x @ torch.randn(4, 1, generator=rng, dtype=torch.float64) + 0.2)
    target = Target(nn.Linear(4, 1).double(), likelihood=Normal(sigma=0.5), prior=Gaussian(2.0), temperature=0.7)
    fixed = {"weight": torch.tensor([[0.3, -0.2, 0.5, 1.0]], dtype=torch.float64), "bias": torch.zeros(1).double()}
    method = Subnetwork(Laplace("exact", optimiser=MAP(lr=0.1), check=False), ("largest_variance", 2), optimiser=None)
    post = infer(method, target, data, init=fixed, steps=400, batch_size=20)
    assert isinstance(post, SubnetworkPosterior)
    assert isinstance(post.inner, LaplacePosterior)
    assert post.part.index is not None
    design = torch.cat([x, torch.ones(20, 1, dtype=torch.float64)], 1)
    precision = design.T @ design / 0.25 + 2 * torch.eye(5)
    place = torch.cat(
        [post.part.index.get("weight", torch.zeros(0).long()), 4 + post.part.index.get("bias", torch.zeros(0).long())]
    )
    assert sorted(place.tolist()) == sorted(precision.diag().argsort()[:2].tolist())
    block = precision[place][:, place]
    others = [i for i in range(5) if i not in place.tolist()]
    gradient = design[:, place].T @ data.y[:, 0] / 0.25 - precision[place][:, others] @ flatten(fixed)[others]
    mode = flatten(post.mode)
    assert torch.allclose(mode[place], torch.linalg.solve(block, gradient), atol=1e-5)
    assert torch.equal(mode[others], flatten(fixed)[others])
    # 3 z-scores of the covariance of 20,000 draws below 5.
    n = 20_000
    draws = flatten(post.sample(n, generator(4)), batch_dims=1)
    assert torch.equal(draws[:, others], flatten(fixed)[others].expand(n, 3))
    expected = 0.7 * torch.linalg.inv(block)
    d = expected.diag()
    error = (torch.cov(draws[:, place].T) - expected) / ((d[:, None] * d + expected**2) / n).sqrt()
    assert float(error.abs().max()) < 5


# ---------------------------------------------------------------------------------------- methods


METHODS: dict[str, Method] = {
    "map": MAP(lr=0.02),
    "sgld": SGLD(keep=6),
    "swag": SWAG(points=4, rank=2),
    "mean_field": MeanField(temperature=0.5),
    "ivon": IVON(temperature=0.5),
    "laplace": Laplace("kron", check=False),
    "nuts": NUTS(),
    "hmc": HMC(),
}


@pytest.mark.parametrize("which", ["last_layer", ("0.*",), ("largest_variance", 7)])
@pytest.mark.parametrize("name", list(METHODS))
def test_any_method_runs_on_a_part(name: str, which: Any) -> None:
    target, data = problem()
    before = copy.deepcopy(target.network.state_dict())
    method = Subnetwork(METHODS[name], which, epochs=3)
    post = infer(method, target, data, steps=24, batch_size=8, seed=1)
    assert isinstance(post, SubnetworkPosterior)
    assert post.target is not post.inner.target
    draws = post.sample(6, generator(0))
    assert {k: w.shape for k, w in draws.items()} == {k: (6, *w.shape) for k, w in target.params().items()}
    moved = flatten({k: w != post.part.fixed[k] for k, w in draws.items()}, batch_dims=1).any(0)
    allowed = flatten(
        {
            k: w != post.part.fixed[k]
            for k, w in unstack(post.part.merge({k: w.unsqueeze(0) + 1 for k, w in post.part.target.params().items()}))[
                0
            ].items()
        }
    )
    assert not (moved & ~allowed).any()
    assert moved.sum() > 0
    assert torch.allclose(predict(post, data.x, samples=8).mean().sum(1), torch.ones(16, dtype=torch.float64))
    inner = post.inner.sample(3, generator(1))
    whole = post.sample(3, generator(1))
    for mine, everything in zip(unstack(inner), unstack(whole), strict=True):
        assert torch.allclose(post.inner.target.forward(mine, data.x), target.forward(everything, data.x))  # type: ignore[union-attr]
    assert all(torch.equal(w, target.network.state_dict()[k]) for k, w in before.items())


def test_the_optimiser_trains_the_fixed_weights_and_the_start_may_give_them() -> None:
    target, data = problem()
    untrained = infer(Subnetwork(MAP(), optimiser=None), target, data, steps=2)
    assert all(torch.equal(untrained.mode[k], w) for k, w in target.params().items() if k[0] != "4")
    trained = infer(Subnetwork(MAP(), optimiser=MAP(lr=0.05), epochs=60, batch_size=16), target, data, steps=2)

    def density(w: Params) -> float:
        return float(target.log_density(w, data.x, data.y, data.n, generator(0)))

    assert density(trained.mode) > density(untrained.mode) + 3
    init = {k: w + 1 for k, w in target.params().items()}
    given = infer(Subnetwork(MAP(), optimiser=None), target, data, init=init, steps=2)
    assert all(torch.equal(given.mode[k], w) for k, w in init.items() if k[0] != "4")


def test_chains_share_the_fixed_weights_unless_they_are_separate() -> None:
    target, data = problem()
    shared = infer(Subnetwork(SGLD(keep=8), epochs=2), target, data, steps=20, chains=3)
    assert isinstance(shared, SubnetworkPosterior)
    assert isinstance(shared.inner, Draws)
    assert shared.inner.flat.shape == (8, 3, 12)
    assert shared.inner.diagnostics.rhat.shape[0] > 0
    separate = infer(Ensemble(Subnetwork(SWAG(points=4, rank=2), epochs=2, separate=True), 3), target, data, steps=20)
    assert isinstance(separate, Mixture)
    first = [c.mode["0.weight"] for c in separate.components]
    assert float((first[0] - first[1]).abs().min()) > 0
    # The chains that share them start at draws of the initialisation.
    state = Subnetwork(MAP(), optimiser=None)
    post = infer(state, target, data, steps=1, chains=2)
    assert isinstance(post, Mixture)
    assert torch.equal(post.components[0].mode["0.weight"], post.components[1].mode["0.weight"])
    assert not torch.allclose(post.components[0].mode["4.weight"], post.components[1].mode["4.weight"], atol=1e-2)


@pytest.mark.parametrize("which", ["last_layer", ("largest_variance", 7)])
def test_a_resumed_run_is_bit_identical(which: Any, tmp_path: Path) -> None:
    target, data = problem()
    method, path = Subnetwork(SWAG(points=4, rank=2), which, epochs=2), tmp_path / "run.safetensors"
    options = {"epochs": 6, "batch_size": 8, "seed": 1, "chains": 2}

    def stop(done: int, total: int, record: dict[str, float]) -> None:
        if done == 5:
            raise KeyboardInterrupt

    whole = infer(method, target, data, **options)
    with pytest.raises(KeyboardInterrupt):
        infer(method, target, data, **options, checkpoint=path, progress=stop)
    again = infer(method, target, data, **options, checkpoint=path, resume=True)
    a, b = (p.sample(5, generator(3)) for p in (whole, again))
    assert all(torch.equal(a[k], b[k]) for k in a)
    travelled = pickle.loads(pickle.dumps(whole)).sample(5, generator(3))
    assert all(torch.equal(a[k], travelled[k]) for k in a)


def test_invariances_and_images_come_along() -> None:
    build = case("cnn")
    x = build.inputs(8, 1)[:, 0]
    target = Target(build.make(), invariance=Affine(only=("rotation",)), copies=Copies(train=2, predict=3))
    data = Data(x, torch.arange(8) % 3)
    for which in ("last_layer", ("largest_variance", 20)):
        post = infer(Subnetwork(MeanField(), which, epochs=1), target, data, steps=3)
        assert isinstance(post.target, Target)
        assert predict(post, x, samples=4).mean().shape == (8, 3)


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "which",
    ["first_layer", (), (3,), *(("largest_variance", *n) for n in ((), (0,), ("x",), (True,), (2, 3)))],
)
def test_which_must_name_weights(which: Any) -> None:
    with pytest.raises(InputError, match="which='last_layer'"):
        Subnetwork(MAP(), which)


def test_bad_choices_are_refused_with_what_there_is() -> None:
    target, data = problem()
    for which, match in ((("9.*",), "tensor among 0.weight"), (("largest_variance", 100), "at most 53 weights")):
        with pytest.raises(InputError, match=match):
            infer(Subnetwork(MAP(), which, optimiser=None), target, data, steps=1)
    with pytest.raises(InputError, match="positive epochs"):
        Subnetwork(MAP(), epochs=0)
    with pytest.raises(InputError, match="Subnetwork"):
        Subnetwork(Subnetwork(MAP()))
    with pytest.raises(InputError, match="Dropout"):
        Subnetwork(Dropout())
    density = LogDensity(lambda w: -w["a"].square().sum(), {"a": torch.zeros(2)})
    with pytest.raises(InputError, match="network's Target for Subnetwork"):
        infer(Subnetwork(MAP()), density, steps=3)
    no_head = case("buffered")
    data = Data(no_head.inputs(6, 1)[:, 0], torch.arange(6) % 3)
    with pytest.raises(InputError, match="output is that of a linear layer"):
        infer(
            Subnetwork(MAP(), optimiser=None),
            Target(no_head.make()),
            Data(no_head.inputs(6, 1)[:, 0], torch.arange(6) % 3),
            steps=1,
        )


def test_a_prior_of_the_users_own_is_refused() -> None:
    class Own(Prior):
        def log_prob(self, params: Params) -> Tensor:
            return -sum((w.abs().sum() for w in params.values()), torch.zeros(()))

        def precision(self, params: Params) -> Params:
            return {k: 1 / w.abs() for k, w in params.items()}

        def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
            raise NotImplementedError

    target, data = problem(Own())
    with pytest.raises(InputError, match="StudentT prior"):
        infer(Subnetwork(MAP(), optimiser=None), target, data, steps=1)
    assert stack([target.params()])["0.bias"].shape == (1, 4)
