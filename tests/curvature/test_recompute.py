"""Two-pass recomputation against the plain graph, and what it keeps in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from novacula.core.errors import InputError
from novacula.curvature.gradients.recompute import leaves_of, recompute


class World:
    """A computation with leaves in every hiding place: an argument, a closure, an attribute, and behind the batches."""

    def __init__(self, n: int = 4) -> None:
        rng = torch.Generator().manual_seed(0)
        self.a = torch.randn(3, 2, generator=rng, dtype=torch.float64, requires_grad=True)
        self.log_sigma = torch.randn((), generator=rng, dtype=torch.float64, requires_grad=True)
        self.eta = torch.randn(2, generator=rng, dtype=torch.float64, requires_grad=True)
        self.unused = torch.ones(2, dtype=torch.float64, requires_grad=True)
        self.sigma = self.log_sigma.exp()  # made once, outside: its graph is shared by all batches
        self.x = [torch.randn(i + 2, 3, generator=rng, dtype=torch.float64) for i in range(n)]
        self.passes = 0

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return self.a, self.log_sigma, self.eta

    def batches(self) -> Iterator[Tensor]:
        self.passes += 1
        for x in self.x:
            yield x * (1 + self.eta[0]) + torch.sin(self.eta[1] * x)

    def function(self, x: Tensor) -> list[Tensor]:
        h = torch.tanh(x @ self.a) / self.sigma
        return [h.T @ h, h.square().sum()]

    def rows(self, x: Tensor) -> list[Tensor]:
        return [torch.tanh(x @ self.a) / self.sigma]


def weigh(results: tuple[Tensor, ...]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i, r in enumerate(results):
        weights = torch.arange(1, r.numel() + 1, dtype=torch.float64).reshape(r.shape) / (i + 2)
        total = total + (r * weights).sum() ** 2
    return total


@pytest.mark.parametrize("given", [False, True])
def test_sum_has_value_and_gradient_of_the_plain_graph(given: bool) -> None:
    w = World()
    plain = tuple(sum(column[1:], column[0]) for column in zip(*map(w.function, w.batches()), strict=True))
    expected = torch.autograd.grad(weigh(plain), w.leaves, retain_graph=True)
    found = recompute(w.function, w.batches, leaves=w.leaves if given else None)
    for f, p in zip(found, plain, strict=True):
        torch.testing.assert_close(f, p, rtol=1e-13, atol=0)
    for g, e in zip(torch.autograd.grad(weigh(found), w.leaves), expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=0)
    assert w.unused.grad is None


def test_joined_rows_have_the_gradient_of_the_plain_graph() -> None:
    w = World()
    plain = (torch.cat([w.rows(x)[0] for x in w.batches()]),)
    expected = torch.autograd.grad(weigh(plain), w.leaves, retain_graph=True)
    found = recompute(w.rows, w.batches, combine="cat")
    torch.testing.assert_close(found[0], plain[0], rtol=0, atol=0)
    for g, e in zip(torch.autograd.grad(weigh(found), w.leaves), expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=0)


def test_one_of_two_results_may_go_unused() -> None:
    w = World()
    plain = sum((w.function(x)[1] for x in w.batches()), torch.zeros((), dtype=torch.float64))
    expected = torch.autograd.grad(plain, w.leaves, retain_graph=True)
    for g, e in zip(torch.autograd.grad(recompute(w.function, w.batches)[1], w.leaves), expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=0)


def test_discovers_all_leaves_and_only_them() -> None:
    w = World()
    found = leaves_of(w.function(next(w.batches())))
    assert {id(leaf) for leaf in found} == {id(leaf) for leaf in w.leaves}


def test_known_values_skip_the_first_pass() -> None:
    w = World()
    with torch.no_grad():
        values = recompute(w.function, w.batches)
    calls = []

    def counted(x: Tensor) -> list[Tensor]:
        calls.append(len(x))
        return w.function(x)

    found = recompute(counted, w.batches, values=values)
    assert calls == [2]
    expected = torch.autograd.grad(weigh(recompute(w.function, w.batches)), w.leaves)
    for g, e in zip(torch.autograd.grad(weigh(found), w.leaves), expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=0)


def test_without_leaves_or_gradients_there_is_no_graph() -> None:
    w = World()
    assert not any(r.requires_grad for r in recompute(lambda x: [x.sum()], lambda: iter(w.x)))
    with torch.no_grad():
        assert not any(r.requires_grad for r in recompute(w.function, w.batches))
    assert not recompute(lambda x: [x.sum() * w.a.sum()], lambda: iter(w.x), ignore=[w.a])[0].requires_grad


def _saved_bytes(run: Callable[[], object]) -> int:
    # Bytes that graphs hold at once: saved tensors minus those whose graph has been dropped.
    held = [0, 0]

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # with its graph, a saved output would keep itself alive
            held[0] += tensor.numel() * tensor.element_size()
            held[1] = max(held)

        def __del__(self) -> None:
            held[0] -= self.tensor.numel() * self.tensor.element_size()

    with saved_tensors_hooks(Held, lambda h: h.tensor):
        run()
    return held[1]


def test_graphs_of_no_more_than_one_batch_are_alive() -> None:
    """Peak bytes of saved tensors: with 12 batches, those of about one; the plain graph holds those of all."""

    def world(n: int) -> World:
        w = World(n)
        w.x = [x[:2] for x in w.x]
        return w

    def two_pass(w: World) -> None:
        weigh(recompute(w.function, w.batches)).backward()

    def plain(w: World) -> None:
        weigh(tuple(sum(c[1:], c[0]) for c in zip(*map(w.function, w.batches()), strict=True))).backward()

    few, many, single = world(2), world(12), world(1)
    assert _saved_bytes(lambda: two_pass(many)) <= 1.2 * _saved_bytes(lambda: two_pass(few))
    assert _saved_bytes(lambda: plain(world(12))) >= 6 * _saved_bytes(lambda: plain(single))


def test_a_single_batch_is_evaluated_once() -> None:
    w = World(1)
    recompute(w.function, w.batches)[1].backward()
    assert w.passes == 1
    w = World(2)
    recompute(w.function, w.batches)[1].backward()
    assert w.passes == 2


def test_non_leaf_tensors_may_be_named_as_leaves() -> None:
    w = World()
    found = recompute(w.function, w.batches, leaves=[w.sigma])
    (g,) = torch.autograd.grad(weigh(found), [w.log_sigma], retain_graph=True)
    (e,) = torch.autograd.grad(weigh(recompute(w.function, w.batches)), [w.log_sigma])
    torch.testing.assert_close(g, e, rtol=1e-12, atol=0)


def test_no_batch_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one batch"):
        recompute(lambda x: [x], lambda: iter([]))


def test_batches_that_differ_between_passes_are_an_error() -> None:
    w = World()
    rng = torch.Generator().manual_seed(0)
    noisy = lambda: (x + torch.randn(1, generator=rng, dtype=torch.float64) for x in w.batches())  # noqa: E731
    with pytest.raises(InputError, match="same values in both passes"):
        recompute(w.function, noisy)[1].backward()


def test_a_leaf_that_only_later_batches_depend_on_is_an_error_unless_named() -> None:
    w = World()
    late = torch.ones((), dtype=torch.float64, requires_grad=True)

    def function(x: Tensor) -> list[Tensor]:
        return [w.function(x)[1] * (late if len(x) > 3 else 1.0)]

    with pytest.raises(InputError, match="same tensors behind every batch"):
        recompute(function, w.batches)[0].backward()
    recompute(function, w.batches, leaves=[late])[0].backward()
    assert late.grad is not None
    torch.testing.assert_close(late.grad, sum(w.function(x)[1].detach() for x in list(w.batches())[2:]))


def test_a_leaf_changed_before_the_second_pass_is_an_error() -> None:
    w = World()
    found = recompute(w.function, w.batches)
    with torch.no_grad():
        w.a.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found[1].backward()


@pytest.mark.parametrize("when", ["first", "second"])
def test_shrinks_when_memory_runs_out(when: str) -> None:
    w = World()
    size = [4]

    def batches() -> Iterator[Tensor]:
        for x in w.batches():
            yield from x.split(size[0])

    def shrink() -> bool:
        size[0] //= 2
        return size[0] > 0

    def function(x: Tensor) -> list[Tensor]:
        if len(x) > 2 and w.passes >= (1 if when == "first" else 2):
            raise torch.OutOfMemoryError("no memory")
        return w.function(x)

    expected = torch.autograd.grad(weigh(recompute(w.function, w.batches)), w.leaves, retain_graph=True)
    w.passes = 0
    found = torch.autograd.grad(weigh(recompute(function, batches, shrink=shrink)), w.leaves)
    for g, e in zip(found, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-12, atol=0)
    assert size == [2]


def test_memory_errors_surface_when_nothing_can_shrink() -> None:
    def function(x: Tensor) -> list[Tensor]:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        recompute(function, lambda: iter([torch.ones(1)]), shrink=lambda: False)
    with pytest.raises(torch.OutOfMemoryError):
        recompute(function, lambda: iter([torch.ones(1)]))


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def function(x: Tensor) -> list[Tensor]:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        recompute(function, lambda: iter([torch.ones(1)]), shrink=lambda: True)
