"""The layers of a network: tied weights under their first names, calls in their order, and the last linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from novacula.core.forward import Forward
from novacula.core.layers import calls, first_names, last_linear


class Tied(nn.Module):
    """A layer called twice, one whose weight is tied to it, and one that is called last but is not the output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head, self.aside = (nn.Linear(*s) for s in ((3, 3), (3, 3), (3, 2), (3, 2)))
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.b(self.a(self.a(input=x)).tanh())
        f = self.head(h)
        self.aside(h)
        return f


def test_names_calls_and_the_last_layer() -> None:
    torch.manual_seed(0)
    forward = Forward(Tied())
    names = first_names(forward.module)
    assert names["b.weight"] == names["a.weight"] == "a.weight"
    assert names["b.bias"] == "b.bias"
    params, xs = forward.params(), torch.randn(4, 2, 3)
    found, f = calls(forward, params, xs)
    assert [c.layer for c in found] == ["a", "a", "b", "head", "aside"]
    assert torch.equal(found[0].input, xs.flatten(0, 1))
    assert torch.equal(found[1].input, found[0].output)
    assert torch.equal(f, forward.average(params, xs))
    assert [c.gives(forward, f, xs) for c in found] == [False, False, False, True, False]
    assert last_linear(forward, params, xs) == ("head", 5)
    assert [c.layer for c in calls(forward, params, xs, "b")[0]] == ["b"]


def test_a_network_that_ends_otherwise_has_no_last_layer() -> None:
    forward = Forward(nn.Sequential(nn.Linear(3, 2), nn.Tanh()))
    assert last_linear(forward, forward.params(), torch.ones(4, 1, 3)) == (None, 1)
