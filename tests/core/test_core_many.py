"""Many networks at once: what memory and vmap do not allow changes how they are evaluated, never what comes out."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, fx, nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.forward import Forward
from novacula.core.many import Notes, chunk_of, in_chunks, members_of, noisy_gradient, over_members, part_of
from novacula.core.memory import is_out_of_memory
from novacula.core.params import Params, unstack
from novacula.core.recording import passes
from novacula.core.rng import generator
from novacula.likelihoods import Normal
from novacula.priors import Gaussian
from novacula.target import LogDensity, Target
from novacula.target.batch import Batch
from novacula.target.copies import member_outputs
from novacula.target.flat import flat_density
from novacula.target.many import loss_and_gradient, outputs, prior_outputs

LONG = 1_000_000


class Narrow(nn.Module):
    """A network for which memory runs out beyond so many members at once (vmap hides their number) or inputs."""

    def __init__(self, room: list[int]) -> None:
        super().__init__()
        self.first, self.last, self.room = nn.Linear(3, 4), nn.Linear(4, 2), room

    def forward(self, x: Tensor) -> Tensor:
        weight = self.first.weight
        level = torch._C._functorch.maybe_get_bdim(weight)
        if level >= 0:
            members = torch._C._functorch.get_unwrapped(weight).shape[level]
            self.room.append(members)
            if members > self.room[0]:
                raise torch.OutOfMemoryError("simulated")
        return self.last(torch.tanh(self.first(x)))


class Branching(nn.Module):
    """What it computes depends on the weights' values, which vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * (1 if float(self.layer.weight.detach().sum()) > 0 else 2)


def problem(network: nn.Module, members: int) -> tuple[Target, Params, Tensor]:
    target = Target(network.double(), Normal(0.7), Gaussian(1.3))
    params = target.prior.sample(target.params(), members, generator(0))
    return target, params, torch.randn(5, 3, generator=generator(1), dtype=torch.float64)


def one_by_one(target: Target, params: Params, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack([target.forward(w, x) for w in unstack(params)])


def test_chunks_halve_where_memory_runs_out_and_vmap_is_used_afterwards() -> None:
    net = Narrow([3])
    target, params, x = problem(net, 11)
    room = target.forward.module.room  # type: ignore[union-attr]
    assert isinstance(room, list)
    with pytest.warns(NovaculaWarning, match="out of memory with .* networks at once") as said:
        found = outputs(target, params, x)
    assert torch.allclose(found, one_by_one(target, params, x), rtol=0, atol=1e-14)
    assert [str(w.message).split(": ")[1] for w in said] == ["going on with 5", "going on with 2"]
    assert not target.notes.looped
    del room[1:]
    again = outputs(target, params, x)  # without a word: what fits is known
    assert torch.equal(found, again)
    assert room[1:] == [2] * 5  # five by vmap, and one alone


METHODS: dict[str, Callable[[Target, Params, Tensor], tuple[Tensor, ...]]] = {
    "plain": lambda t, w, x: gradient(t, w, x, 1),
    "recorded": lambda t, w, x: gradient(t, w, x, LONG),
    "noisy": lambda t, w, x: noisy(t, w, x),
}


def gradient(target: Target, params: Params, x: Tensor, steps: int) -> tuple[Tensor, ...]:
    batch = Batch(x, x[:, :2].sin(), 50, 0, steps)
    losses, grads = loss_and_gradient(target, params, batch, generator(0))
    return losses, *grads.values()


def noisy(target: Target, params: Params, x: Tensor) -> tuple[Tensor, ...]:
    def function(w: Params) -> tuple[Tensor, Tensor]:
        f = target.forward({k: w[k] + w[f"n:{k}"] for k in params}, x)
        return f.mean(), f.square().sum()

    noise = {f"n:{k}": 0.1 * torch.ones_like(w) for k, w in params.items()}
    values, grads = noisy_gradient(function, params, noise, notes=target.notes, rows=len(x))
    return *values, *grads.values()


@pytest.mark.parametrize("name", METHODS)
def test_gradients_do_not_change_where_chunks_halve(name: str) -> None:
    target, params, x = problem(Narrow([100]), 7)
    expected = METHODS[name](target, params, x)
    target, _, _ = problem(Narrow([3]), 1)
    with pytest.warns(NovaculaWarning, match="7 networks at once: going on with 3"):
        found = METHODS[name](target, params, x)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(found, expected, strict=True))
    assert not target.notes.looped


@pytest.mark.parametrize("members", [1, 7])
def test_memory_that_a_recording_lacks_halves_the_chunk_or_leaves_the_function_itself(
    members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, params, x = problem(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), members)
    expected = gradient(target, params, x, 1)
    evaluated = passes.evaluate

    def evaluate(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> passes.Values:
        # The last input is a bias of every member.
        if members == 1 or inputs[-1].shape[0] > 3:
            raise torch.OutOfMemoryError("simulated")
        return evaluated(graph, inputs)

    monkeypatch.setattr(passes, "evaluate", evaluate)
    said = pytest.warns(NovaculaWarning, match="7 networks at once: going on with 3") if members > 1 else nullcontext()
    with said:
        found = gradient(target, params, x, LONG)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(found, expected, strict=True))
    assert target.notes.fits == ({5: 3} if members > 1 else {})
    kept = {key[-1][-1][0][0]: f is not None for key, f in target.notes.recordings.items()}
    assert kept == ({3: True, 1: True} if members > 1 else {1: False})


def test_rows_of_a_log_density_do_not_change_where_chunks_halve() -> None:
    room = [100]

    def function(w: Params) -> Tensor:
        level = torch._C._functorch.maybe_get_bdim(w["a"])
        if level >= 0 and torch._C._functorch.get_unwrapped(w["a"]).shape[level] > room[0]:
            raise torch.OutOfMemoryError("simulated")
        return -w["a"].cosh().sum()

    q = torch.randn(9, 2, generator=generator(2), dtype=torch.float64)
    target = LogDensity(function, {"a": torch.zeros(2).double()})
    found = [flat_density(target, None, target.params(), generator(0))(q)]
    room[0] = 3
    full = flat_density(target, None, target.params(), generator(0))
    with pytest.warns(NovaculaWarning, match="out of memory") as said:
        found.append(full(q))
    assert [str(w.message).split(": ")[1] for w in said] == ["going on with 4", "going on with 2"]
    found.append(full(q))  # what fits is known by now
    assert not target.notes.looped
    assert target.notes.fits == {1: 2}
    for value, slope in found:
        assert torch.allclose(value, -q.cosh().sum(1), rtol=1e-12)
        assert torch.allclose(slope, -q.sinh(), rtol=1e-12)


def test_where_one_network_does_not_fit_fewer_inputs_are_taken() -> None:
    class Hungry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 2:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            return self.layer(x)

    target, params, x = problem(Hungry(), 2)
    with pytest.warns(NovaculaWarning, match="out of memory") as said:
        found = member_outputs(target, params, x, copies=1, seed=0)
    assert "inputs at once: going on with 2" in str(said[-1].message)
    assert torch.allclose(found, torch.stack([one_by_one(target, params, v[None])[:, 0] for v in x], 1))
    single = {k: w[:1] for k, w in params.items()}
    with pytest.raises(InputError, match="memory for one of the networks") as caught:
        outputs(target, single, x)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(InputError("a", "b", "c"))
    assert not target.notes.looped


def test_a_network_that_vmap_does_not_cover_is_named_once() -> None:
    target, params, x = problem(Branching(), 4)
    with pytest.warns(NovaculaWarning, match=r"vmap does not cover Branching, .*one after another: .*vmap") as said:
        found = [outputs(target, params, x) for _ in range(2)]
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    assert target.notes.looped
    assert all(torch.equal(f, one_by_one(target, params, x)) for f in found)
    other, _, _ = problem(Branching(), 4)
    assert not other.notes.looped  # each network's own


def test_a_function_at_fault_raises_its_own_error_and_nothing_is_noted() -> None:
    notes = Notes("function")

    def function(w: Params) -> Tensor:
        raise ValueError("my own")

    with pytest.raises(ValueError, match="my own"):
        over_members(function, {"a": torch.zeros(3, 2)}, notes)
    assert not notes.looped


def test_notes_stay_with_their_network() -> None:
    forward = Forward(nn.Linear(3, 2))
    assert forward.notes.name == "Linear"
    forward.notes.looped = True
    forward.notes.fits[5] = 2
    forward.notes.recordings[()] = lambda: None  # which no process could send to another
    assert not pickle.loads(pickle.dumps(forward)).notes.looped
    assert copy.deepcopy(forward).notes.recordings == {}
    target = Target(nn.Linear(3, 2))
    assert target.with_learnable({"prior.log_precision": torch.ones(2)}).notes is target.notes


def test_chunks_are_consecutive_and_views() -> None:
    params = {"a": torch.arange(10.0).reshape(5, 2)}
    parts = in_chunks(lambda i, j: part_of(params, i, j), members_of(params), 2, Notes("function"))
    assert [members_of(p) for p in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([p["a"] for p in parts]), params["a"])
    assert parts[1]["a"].data_ptr() == params["a"][2:].data_ptr()


def test_draws_from_the_prior_are_those_of_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    target, _, x = problem(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), 1)
    n = 20_000
    size = chunk_of({k: w.expand(n, *w.shape) for k, w in target.params().items()}, len(x))
    found = prior_outputs(target, x, n, generator(3))
    rng = generator(3)
    first = one_by_one(target, target.prior.sample(target.params(), size, rng), x)
    assert found.shape == (n, 5, 2)
    assert size < n
    assert torch.allclose(found[:size], first)
    # f = w ReLU(v x + b) + c with all weights N(0, 1/λ): E f² = 4 (‖x‖² + 1) / (2 λ²) + 1 / λ. The kurtosis of f is
    # below 12: the mean square of 20,000 draws is off by less than 6 √(11 / 20,000) = 14 %, but for a chance of 1e-8.
    expected = 2 * (x.square().sum(1) + 1) / 1.3**2 + 1 / 1.3
    assert torch.allclose(found.square().mean(0)[:, 0], expected, rtol=0.15)


class Doubled(nn.Module):
    """A network whose hook doubles gradients, which vmap passes by without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if h.requires_grad:
            h.register_hook(lambda g: 2 * g)
        return self.last(h)


def test_gradients_that_vmap_gets_wrong_are_those_of_each_network() -> None:
    x = torch.randn(5, 3, generator=generator(0), dtype=torch.float64)
    batch = Batch(x, torch.arange(5) % 2, 5, 0, 1)
    target = Target(Doubled().double(), prior=Gaussian(1.0))
    params = {k: torch.stack([w, 0.5 * w, w + 0.1]) for k, w in target.params().items()}
    with pytest.warns(NovaculaWarning, match="are not those of each"):
        losses, grads = loss_and_gradient(target, params, batch, generator(1))
    for i, w in enumerate(unstack(params)):
        one = {k: v.unsqueeze(0) for k, v in w.items()}
        loss, alone = loss_and_gradient(Target(Doubled().double(), prior=Gaussian(1.0)), one, batch, generator(1))
        torch.testing.assert_close(losses[i : i + 1], loss)
        torch.testing.assert_close({k: g[i : i + 1] for k, g in grads.items()}, alone)
