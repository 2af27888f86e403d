"""Gradients of many members at once: as autograd gives them on the module, recorded or not, together or alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from densities import Series, case, close
from novacula.core import many
from novacula.core.errors import NovaculaWarning
from novacula.core.many import chunk_of
from novacula.core.params import Params, stack, unstack
from novacula.core.rng import generator
from novacula.inference.optimising.adam import adam_init, adam_step, adam_step_
from novacula.invariances import Affine
from novacula.likelihoods import Bernoulli, Gibbs, Normal
from novacula.priors import FanIn, Gaussian, Laplace
from novacula.target import Copies, LogDensity, Target
from novacula.target import many as members
from novacula.target.batch import Batch
from novacula.target.many import loss_and_gradient

SHORT, LONG = 10, 1_000_000
"""Runs that are not worth a recording, and that are."""


class Idle(nn.Module):
    """One weight is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Linear(4, 3), nn.Parameter(torch.randn(2, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def mlp(outputs: int = 3) -> nn.Module:
    # The first layer is wider than its inputs and outputs than its batch, the second the other way round.
    return nn.Sequential(nn.Linear(4, 18), nn.ReLU(), nn.Linear(18, 5), nn.Tanh(), nn.Linear(5, outputs))


def drawn(target: Target, n: int, seed: int = 0) -> Params:
    rng = torch.Generator().manual_seed(seed)
    return stack(
        [{k: torch.randn(w.shape, generator=rng, dtype=w.dtype) for k, w in target.params().items()} for _ in range(n)]
    )


def naive(target: Target, x: Tensor, y: Tensor, total: int, params: Params) -> tuple[Tensor, Params]:
    """One member after another, on the module, with the sums written out."""
    losses, grads = [], []
    for w in unstack(params):
        leaves = {k: v.detach().requires_grad_() for k, v in w.items()}
        fit = target.likelihood.log_prob(functional_call(target.forward.module, leaves, (x,)), y).sum() / len(x)
        value = (fit * total / target.likelihood_temperature + target.prior.log_prob(leaves)) / target.temperature
        found = torch.autograd.grad(-value / total, list(leaves.values()))
        losses.append(-fit.detach())
        grads.append(dict(zip(leaves, found, strict=True)))
    return torch.stack(losses), stack(grads)


def agree(a: tuple[Tensor, Params], b: tuple[Tensor, Params]) -> bool:
    return close([a[0], *(a[1][k] for k in b[1])], [b[0], *b[1].values()])


def recordings(target: Target) -> list[bool]:
    return [f is not None for f in target.notes.recordings.values()]


CASES: dict[str, Callable[[], tuple[Target, Tensor, Tensor]]] = {
    "relu": lambda: case(mlp()),
    "tempered": lambda: case(mlp(), prior=FanIn(1.3, 0.4), temperature=0.3, likelihood_temperature=2.5),
    "laplace": lambda: case(mlp(), Normal(0.6), Laplace(0.8), temperature=0.7),
    "normal": lambda: case(mlp(), Normal(log_sigma=torch.tensor([0.2, -0.3, 0.1], requires_grad=True))),
    "bernoulli": lambda: case(mlp(1), Bernoulli()),
    "unused": lambda: case(Idle()),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_autograd_on_the_module(name: str) -> None:
    target, x, y = CASES[name]()
    sizes = (11, 11, 7) if name == "relu" else (11, 11)
    for seed, rows in enumerate(sizes):
        params = drawn(target, 3, seed)
        expected = naive(target, x[:rows], y[:rows], 50, params)
        for steps in (SHORT, LONG):
            batch = Batch(x[:rows], y[:rows], 50, 0, steps)
            assert agree(loss_and_gradient(target, params, batch, generator(0)), expected)
    assert recordings(target) == [True] * len(set(sizes))


def test_members_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    target, x, y = case(mlp())
    monkeypatch.setattr(members, "chunk_of", lambda params, rows=1: min(2, next(iter(params.values())).shape[0]))
    params = drawn(target, 5)
    for steps in (SHORT, LONG):
        batch = Batch(x, y, 50, 0, steps)
        losses, grads = loss_and_gradient(target, params, batch, generator(0))
        for i in range(5):
            alone = loss_and_gradient(target, {k: w[i : i + 1] for k, w in params.items()}, batch, generator(0))
            assert agree((losses[i : i + 1], {k: g[i : i + 1] for k, g in grads.items()}), alone)
    assert recordings(target) == [True, True]  # chunks of two and of one


def test_chunks_are_as_even_as_they_can_be() -> None:
    params = {"w": torch.zeros(100, 300, 200)}
    most = next(size for size in range(100, 0, -1) if size * (60_000 + 4 * 60_000**0.5) <= many._FLOATS)
    assert most == 17
    assert chunk_of(params) == 17  # six chunks: five of 17 and one of 15
    assert chunk_of({"w": params["w"][:18]}) == 9
    assert chunk_of({"w": params["w"][:17]}) == 17
    assert chunk_of(params, rows=10**9) == 1


@pytest.mark.parametrize("steps", [SHORT, LONG])
def test_networks_that_vmap_does_not_cover_are_looped_over(steps: int) -> None:
    target, x, y = case(Series())
    for seed, expected in ((0, pytest.warns(NovaculaWarning, match="vmap does not cover Series")), (1, nullcontext())):
        params = drawn(target, 3, seed)
        with expected:
            found = loss_and_gradient(target, params, Batch(x, y, 50, seed, steps), generator(0))
        assert agree(found, naive(target, x, y, 50, params))
    assert target.notes.looped


def test_a_member_that_is_no_number_leaves_the_others_alone() -> None:
    target, x, y = case(mlp())
    params = drawn(target, 3)
    params["0.weight"][1, 2, 3] = torch.nan
    kept = {k: w[[0, 2]] for k, w in params.items()}
    expected = naive(target, x, y, 50, kept)
    for steps in (SHORT, LONG):
        losses, grads = loss_and_gradient(target, params, Batch(x, y, 50, 0, steps), generator(0))
        assert agree((losses[[0, 2]], {k: g[[0, 2]] for k, g in grads.items()}), expected)
        assert torch.isnan(losses[1])


def test_hyperparameters_that_are_learned_share_a_recording_and_take_effect() -> None:
    target, x, y = case(mlp(), Normal(0.5), Gaussian(precision=2.0))
    params, batch = drawn(target, 2), Batch(x, y, 50, 0, LONG)
    loss_and_gradient(target, params, batch, generator(0))
    learned = target.with_learnable(
        {"prior.log_precision": torch.arange(6) * 0.3, "likelihood.log_sigma": torch.tensor(0.4).double()}
    )
    assert agree(loss_and_gradient(learned, params, batch, generator(0)), naive(learned, x, y, 50, params))
    learned.prior.log_precision.sub_(1.0)  # type: ignore[attr-defined]
    learned.likelihood.log_sigma.add_(0.5)  # type: ignore[attr-defined]
    assert agree(loss_and_gradient(learned, params, batch, generator(0)), naive(learned, x, y, 50, params))
    assert recordings(target) == [True]
    tempered = Target(learned.network, learned.likelihood, learned.prior, temperature=0.5, forward=learned.forward)
    assert agree(loss_and_gradient(tempered, params, batch, generator(0)), naive(tempered, x, y, 50, params))
    assert recordings(target) == [True, True]


def test_losses_of_the_users_own_are_asked_every_time() -> None:
    power = [2.0]

    def loss(f: Tensor, y: Tensor) -> Tensor:
        return (f[:, 0] - y).abs().pow(power[0])

    target, x, y = case(mlp(), Gibbs(loss))
    params, batch = drawn(target, 2), Batch(x, y, 50, 0, LONG)
    for power[0] in (2.0, 3.0):
        assert agree(loss_and_gradient(target, params, batch, generator(0)), naive(target, x, y, 50, params))
    assert recordings(target) == []


def test_every_batch_meets_transformations_of_its_own() -> None:
    rng = torch.Generator().manual_seed(1)
    x, y = torch.rand(6, 1, 5, 4, generator=rng, dtype=torch.float64), torch.arange(6) % 2
    net = nn.Sequential(nn.Flatten(), nn.Linear(20, 2)).double()
    target = Target(net, invariance=Affine(), copies=Copies(train=3))
    params = drawn(target, 2)
    for seed in (0, 1):
        short, long = (
            loss_and_gradient(target, params, Batch(x, y, 50, 0, steps), generator(seed)) for steps in (SHORT, LONG)
        )
        assert agree(long, short)
        f = torch.stack(
            [
                target.outputs(w, x, 3, generator(seed)).log_softmax(1)[torch.arange(6), y].mean()
                for w in unstack(params)
            ]
        )
        assert torch.allclose(long[0], -f.detach(), rtol=1e-9)


def test_a_plain_density_has_its_own_gradient() -> None:
    target = LogDensity(lambda w: -(w["a"] ** 4).sum(), {"a": torch.zeros(3).double()})
    params = {"a": torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]], dtype=torch.float64)}
    losses, grads = loss_and_gradient(target, params, Batch(torch.zeros(0), torch.zeros(0), 1, 0, LONG), generator(0))
    assert torch.allclose(losses, (params["a"] ** 4).sum(1))
    assert torch.allclose(grads["a"], 4 * params["a"] ** 3)


def test_adam_is_its_formula_in_place_and_from_what_is_left_as_it_was() -> None:
    rng = torch.Generator().manual_seed(0)
    start = {"a": torch.randn(2, 3, 2, generator=rng).double(), "b": torch.randn(2, 4, generator=rng).double()}
    pure, state = start, adam_init(start)
    own, owned = {k: w.clone() for k, w in start.items()}, adam_init(start)
    plain, m, v = ({k: f(w) for k, w in start.items()} for f in (torch.clone, torch.zeros_like, torch.zeros_like))
    for i in range(1, 7):
        grads = {k: torch.randn(w.shape, generator=rng).double() for k, w in start.items()}
        grads["a"] = grads["a"].transpose(1, 2).contiguous().transpose(1, 2)  # another order in memory
        for k, g in grads.items():
            m[k], v[k] = 0.8 * m[k] + 0.2 * g, 0.95 * v[k] + 0.05 * g * g
            plain[k] = plain[k] - 0.1 / i * m[k] / (1 - 0.8**i) / ((v[k] / (1 - 0.95**i)).sqrt() + 1e-3)
        held = [t for s in (pure, state.m, state.v) for t in s.values()]
        before = [t.clone() for t in held]
        pure, state = adam_step(pure, grads, state, 0.1 / i, beta1=0.8, beta2=0.95, eps=1e-3)
        assert all(torch.equal(a, b) for a, b in zip(held, before, strict=True))
        owned = adam_step_(own, grads, owned, 0.1 / i, beta1=0.8, beta2=0.95, eps=1e-3)
        assert owned.count == state.count == i
        for k in start:
            assert torch.allclose(pure[k], plain[k], rtol=1e-12)
            assert torch.equal(own[k], pure[k])
            assert torch.allclose(state.m[k], m[k], rtol=1e-12)
            assert torch.allclose(owned.v[k], v[k], rtol=1e-12)
