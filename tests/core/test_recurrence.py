"""Recurrent layers from plain operations against torch's kernels, one network and one example at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

import novacula as nv
from novacula.core.modules.recurrence import PlainRecurrence


def _layer(kind: type[nn.RNNBase], **options: Any) -> nn.RNNBase:
    torch.manual_seed(0)
    return kind(3, 4, batch_first=True, **options).double()


KINDS: list[tuple[type[nn.RNNBase], dict[str, Any]]] = [
    (nn.GRU, {}),
    (nn.GRU, {"num_layers": 2, "bidirectional": True}),
    (nn.GRU, {"bias": False}),
    (nn.LSTM, {}),
    (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    (nn.LSTM, {"proj_size": 2, "bidirectional": True}),
    (nn.LSTM, {"proj_size": 2, "bias": False}),
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu", "num_layers": 3}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_outputs_and_states_of_several_networks(kind: type[nn.RNNBase], options: dict[str, Any]) -> None:
    layer = _layer(kind, **options)
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    stacked = {k: torch.stack([w, w + 0.1, w * 0.5]) for k, w in layer.named_parameters()}
    own = layer(x)[1]
    first = tuple(torch.randn_like(s) for s in own) if isinstance(own, tuple) else torch.randn_like(own)

    def run(w: dict[str, Tensor], *start: Any) -> list[Tensor]:
        out, last = functional_call(layer, w, (x, *start))
        return [out, *(last if isinstance(last, tuple) else (last,))]

    for start in ((), (first,)):
        with PlainRecurrence():
            found = vmap(lambda w, start=start: run(w, *start))(stacked)
        for i in range(3):
            wanted = run({k: w[i] for k, w in stacked.items()}, *start)
            for a, b in zip(found, wanted, strict=True):
                torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "options"), KINDS[::2])
def test_jacobians_of_each_example(kind: type[nn.RNNBase], options: dict[str, Any]) -> None:
    layer = _layer(kind, **options)
    x = torch.randn(4, 5, 3, dtype=torch.float64)
    params = {k: w.detach() for k, w in layer.named_parameters()}

    def one(w: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(layer, w, (row[None],))[0][0, -1]

    with PlainRecurrence():
        found = vmap(jacrev(one), in_dims=(None, 0))(params, x)
    for n in range(4):
        out = layer(x[n : n + 1])[0][0, -1]
        for c, f in enumerate(out):
            wanted = torch.autograd.grad(f, list(layer.parameters()), retain_graph=True)
            for name, w in zip(params, wanted, strict=True):
                torch.testing.assert_close(found[name][n, c], w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "kind", [nn.GRUCell, nn.LSTMCell, nn.RNNCell, lambda *a, **k: nn.RNNCell(*a, **k, nonlinearity="relu")]
)
def test_cells(kind: Any, bias: bool) -> None:
    torch.manual_seed(0)
    cell = kind(3, 4, bias=bias).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    stacked = {k: torch.stack([w, w + 0.1]) for k, w in cell.named_parameters()}
    first = torch.randn(5, 4, dtype=torch.float64)
    state: Any = (first, first + 1) if isinstance(cell, nn.LSTMCell) else first
    with PlainRecurrence():
        found = vmap(lambda w: functional_call(cell, w, (x, state)))(stacked)
    for i in range(2):
        wanted = functional_call(cell, {k: w[i] for k, w in stacked.items()}, (x, state))
        pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
        for a, b in pairs:
            torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-12)


def test_outside_of_vmap_the_kernel_is_used_and_dropout_drops_between_layers_while_it_trains() -> None:
    layer = _layer(nn.LSTM, num_layers=2, dropout=0.5)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    with PlainRecurrence():
        assert torch.equal(layer.eval()(x)[0], _layer(nn.LSTM, num_layers=2, dropout=0.5).eval()(x)[0])
        rows = x[:1].expand(200, 4, 3).unsqueeze(1)
        still = vmap(lambda row: layer(row)[0][0, -1])(rows)
        assert torch.allclose(still, still[:1].expand_as(still))
        layer.train()
        noisy = vmap(lambda row: layer(row)[0][0, -1], randomness="different")(rows)
        kernel = torch.stack([layer(row)[0][0, -1] for row in rows])
    # Means of 200 draws by either way: each of four within 5 standard errors, a false alarm in 4e5.
    error = (noisy.var(0) / 200 + kernel.var(0) / 200).sqrt()
    assert bool((noisy.var(0) > 0).all())
    assert bool(((noisy.mean(0) - kernel.mean(0)).abs() < 5 * error).all())


class _Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = _layer(nn.GRU).float(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


def test_members_are_taken_side_by_side() -> None:
    data = nv.Data(torch.randn(20, 6, 3), torch.arange(20) % 2)
    target = nv.Target(_Last())
    post = nv.infer(nv.Ensemble(nv.MAP(), members=3), target, data, steps=5)
    assert not target.notes.looped
    assert nv.predict(post, data.x).mean().shape == (20, 2)
