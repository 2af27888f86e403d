"""Recorded functions give what the functions give; what cannot be recorded is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from novacula.core.recording import layout, replay
from novacula.core.recording import passes as graphs
from novacula.core.recording.record import Function, compiled_graph, record


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(name: str) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        if name == "relu":
            return nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3)).double(), draw(40, 5)
        if name == "in-place":
            return nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)).double(), draw(40, 5)
        if name == "conv":
            layers = (nn.Conv2d(2, 4, 3), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
            return nn.Sequential(*layers).double(), draw(6, 2, 6, 6)
        if name == "norm":
            layers = (nn.Linear(5, 8), nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, 3), nn.Softplus())
            return nn.Sequential(*layers).double(), draw(11, 5)
        layer = nn.TransformerEncoderLayer(6, 2, 10, dropout=0.0, batch_first=True)
        return nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 3)).double(), draw(9, 4, 6)


def score_and_gradient(name: str, members: int) -> tuple[Function, Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """The log-likelihood of a network's members as a function of flat weights: to record, and with plain autograd."""
    net, x = network(name)
    y = torch.arange(len(x)) % 3
    shapes = {k: w.shape for k, w in net.named_parameters()}

    def fit(q: Tensor) -> Tensor:
        parts = q.split([s.numel() for s in shapes.values()])
        w = {k: p.reshape(s) for (k, s), p in zip(shapes.items(), parts, strict=True)}
        return functional_call(net, w, (x,)).log_softmax(-1).gather(-1, y[:, None]).sum() / 1.0

    def together(q: Tensor) -> tuple[Tensor, Tensor]:
        q = q.detach().requires_grad_()
        value = vmap(fit)(q)
        (gradient,) = torch.autograd.grad(value.sum(), q)
        return value.detach(), gradient

    def separately(q: Tensor) -> tuple[Tensor, ...]:
        found = []
        for row in q:
            leaf = row.detach().requires_grad_()
            value = fit(leaf)
            found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
        return torch.stack([v for v, _ in found]), torch.stack([g for _, g in found])

    size = sum(s.numel() for s in shapes.values())
    return together, 0.4 * draw(members, size, seed=3), separately


def same(a: tuple[Tensor, ...], b: tuple[Tensor, ...], tolerance: float = 1e-10) -> bool:
    return all(torch.allclose(u, v, rtol=tolerance, atol=tolerance, equal_nan=True) for u, v in zip(a, b, strict=True))


@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching rule")
@pytest.mark.parametrize(
    ("name", "fold"),
    [("relu", False), ("relu", True), ("in-place", True), ("conv", True), ("norm", False), ("attention", True)],
)
def test_a_recording_gives_what_autograd_gives_wherever_it_goes(name: str, fold: bool) -> None:
    function, q, separately = score_and_gradient(name, 3)
    recording = record(function, (q,), (q + 0.3 * draw(*q.shape, seed=1),), fold=fold)
    assert recording is not None
    for seed, scale in ((5, 0.01), (6, 1.0), (7, 4.0)):
        moved = q + scale * draw(*q.shape, seed=seed)
        assert same(recording(moved), separately(moved), 1e-8)
    # Rows of a larger tensor, whose strides differ from those at the recording.
    wide = torch.cat([q, q], 1)[:, : q.shape[1]]
    assert not wide.is_contiguous()
    assert same(recording(wide), separately(q))


def test_a_row_that_is_no_number_leaves_the_others_alone() -> None:
    function, q, separately = score_and_gradient("relu", 4)
    recording = record(function, (q,), fold=True)
    assert recording is not None
    broken = q.clone()
    broken[2, 7] = torch.nan
    value, gradient = recording(broken)
    kept = [0, 1, 3]
    assert same((value[kept], gradient[kept]), separately(q[kept]))
    assert torch.isnan(value[2])


def test_what_is_computed_from_held_tensors_alone_is_seen_to_change_unless_it_is_fixed() -> None:
    held = torch.tensor(0.7, dtype=torch.float64)

    def function(x: Tensor) -> tuple[Tensor]:
        return (x * held.exp().sqrt(),)

    x = draw(3, 2)
    live, fixed = record(function, (x,)), record(function, (x,), fold=True)
    assert live is not None
    assert fixed is not None
    held.fill_(-1.1)
    assert same(live(x), function(x))
    assert torch.allclose(fixed(x)[0], x * torch.tensor(0.35).exp())


def test_results_share_no_memory_with_inputs_or_constants() -> None:
    held = draw(3, 2)

    def function(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x.clone(), held.detach(), (2 * held).T

    x = draw(3, 2, seed=1)
    recording = record(function, (x,), fold=True)
    assert recording is not None
    for part in recording(x):
        part.zero_()
    assert same(recording(x), (draw(3, 2, seed=1), draw(3, 2), 2 * draw(3, 2).T))


def test_inputs_and_constants_keep_their_values_however_they_lie() -> None:
    held = draw(4, 3, seed=2)

    def function(x: Tensor) -> tuple[Tensor, ...]:
        rows = x.T.reshape(-1)  # a copy, unless x lies the other way round
        twice = (rows.exp() + held.reshape(-1)).relu()
        square = x @ x.T
        other = x @ x.T.sigmoid()
        return twice.tanh(), (square + square.T).exp(), held.neg().exp(), (2 * square).sum(0), other + other.T

    x = draw(4, 3)
    recording = record(function, (x,), fold=False)
    assert recording is not None
    for point in (x, x.T.contiguous().T, torch.cat([x, x], 1)[:, 3:]):
        before, constant = point.clone(), held.clone()
        assert same(recording(point), function(x))
        assert torch.equal(point, before)
        assert torch.equal(held, constant)


def test_memory_is_reused_where_nothing_else_needs_it() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        a = 3 * x
        b = a.exp()  # a is needed below: b is new
        c = a + b  # in the place of a
        d = c.view(6).tanh().view(2, 3)  # in the place of c
        return d - b.T.reshape(2, 3), b

    x = draw(2, 3)
    graph = make_fx(function)(x)
    graphs.normalise(graph, (x,))
    graphs.simplify(graph, (x,), fold=False)
    replay.bind(graph, (x,))
    replay.reuse(graph, (x,))
    graph.recompile()
    names = [n.target.__name__ for n in graph.graph.nodes if n.op == "call_function"]
    assert [n for n in names if n.endswith("_")] == ["add_", "tanh_", "sub_"]
    assert "exp" in names
    assert same(graph(x), function(x))


def test_what_depends_on_data_or_chance_or_history_is_not_recorded() -> None:
    calls = [0]

    def branches(x: Tensor) -> tuple[Tensor]:
        return (x if float(x.sum()) > 0 else 2 * x,)

    def counts(x: Tensor) -> tuple[Tensor]:
        calls[0] += 1
        return (x * calls[0],)

    def draws(x: Tensor) -> tuple[Tensor]:
        return (x + torch.randn_like(x),)

    def draws_much_the_same(x: Tensor) -> tuple[Tensor]:
        return (torch.where(torch.rand_like(x) < 1e-9, x, 2 * x),)

    def fails(x: Tensor) -> tuple[Tensor]:
        raise ValueError("no")

    x = draw(3, 2)
    assert all(record(f, (x,), (x + 1,)) is None for f in (branches, counts, draws, draws_much_the_same, fails))


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("simulated"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    MemoryError("simulated"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("call", [1, 2, 3])
def test_that_memory_runs_out_is_told_to_who_can_ask_for_less(error: Exception, call: int) -> None:
    calls = [0]

    def function(x: Tensor) -> tuple[Tensor]:
        calls[0] += 1
        if calls[0] == call:  # at either point, or while it is traced
            raise error
        return (2 * x,)

    x = draw(3, 2)
    with pytest.raises(type(error)) as caught:
        record(function, (x,), (x + 1,))
    assert caught.value is error
    assert calls == [call]
    calls[0] = 0
    assert record(function, (x,), (x + 1,), fewer=False) is None
    recording = record(function, (x,), (x + 1,))  # memory suffices again
    assert recording is not None
    assert same(recording(x), (2 * x,))


def test_that_memory_runs_out_in_a_pass_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def simplify(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(graphs, "simplify", simplify)
    x = draw(3, 2)
    with pytest.raises(torch.OutOfMemoryError):
        record(lambda x: (2 * x,), (x,), (x + 1,))
    assert record(lambda x: (2 * x,), (x,), (x + 1,), fewer=False) is None


def test_products_lie_along_their_long_side_and_weights_gradients_as_the_weights_do() -> None:
    # A layer of 5 inputs and 20 outputs on 40 examples, and one of 20 and 17; and a product that is turned.
    x, w, v = draw(40, 5), draw(20, 5, seed=1), draw(17, 20, seed=2)

    def function(w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        w, v = w.detach().requires_grad_(), v.detach().requires_grad_()
        f = nn.functional.linear(nn.functional.linear(x, w).tanh(), v).square().sum()
        turned = (v.detach().relu() @ v.detach().sigmoid().T @ v.detach()).T
        return (f.detach(), turned, *torch.autograd.grad(f, (w, v)))

    graph = make_fx(function)(w, v)
    with torch.no_grad():
        graphs.normalise(graph, (w, v))
        graphs.simplify(graph, (w, v), fold=True)
        before = graphs.evaluate(graph, (w, v))
        layout.orient(graph, (w, v), fold=True)
        after = graphs.evaluate(graph, (w, v))
    graph.recompile()

    def products(values: graphs.Values) -> list[tuple[int, ...]]:
        return [tuple(x.shape) for n, x in values.items() if n.target is torch.ops.aten.mm.default]

    assert products(before) == [(40, 20), (40, 17), (17, 17), (17, 20), (17, 20), (40, 20), (20, 5)]
    assert products(after) == [(20, 40), (17, 40), (17, 17), (20, 17), (17, 20), (20, 40), (5, 20)]
    assert same(graph(w, v), function(w, v))


def test_passes_drop_what_changes_nothing_and_what_comes_twice() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        once = (x.reshape(2, 3, 1).squeeze(-1) / 1).transpose(0, 1).transpose(0, 1).clone()
        return (once.exp() + x.exp() * 1.0,)

    x = draw(2, 3)
    graph = make_fx(function)(x)
    graphs.normalise(graph, (x,))
    graphs.simplify(graph, (x,), fold=False)
    graphs.simplify(graph, (x,), fold=False)
    graph.recompile()
    names = [n.target for n in graph.graph.nodes if n.op == "call_function"]
    assert names == [torch.ops.aten.exp.default, torch.ops.aten.add.Tensor]
    assert same(graph(x), function(x))


def test_a_compiler_that_fails_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor as inductor

    tried = []

    def broken(*args: object, **kwargs: object) -> None:
        tried.append(args)
        raise RuntimeError("no compiler")

    monkeypatch.setattr(inductor, "compile", broken)
    function, q, separately = score_and_gradient("relu", 2)
    recording = record(function, (q,), fold=True, calls=10**12)
    assert len(tried) == 1
    assert recording is not None
    assert same(recording(q), separately(q))
    # A short run is not worth it.
    assert record(function, (q,), fold=True, calls=1_000) is not None
    assert len(tried) == 1


def test_a_compiler_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor as inductor

    def full(*args: object, **kwargs: object) -> None:
        raise MemoryError("simulated")

    monkeypatch.setattr(inductor, "compile", full)
    x = draw(3, 2)
    with pytest.raises(MemoryError, match="simulated"):
        compiled_graph(make_fx(lambda x: (2 * x,))(x), (x,))


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_a_compiled_recording_gives_the_same() -> None:
    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        return (2 * x + 1).tanh(), x.sum(1)

    x = draw(3, 9)
    compiled = compiled_graph(make_fx(function)(x), (x,))
    assert compiled is not None
    assert same(compiled(x + 1), function(x + 1))
    assert same(compiled(torch.cat([x, x], 1)[:, :9]), function(x))
