"""Modules that were compiled or lay out gradients in their own way, and those that are no functions of weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from novacula.core.errors import InputError
from novacula.core.forward import Forward


class Of(nn.Module):
    """A function of an input and a linear layer."""

    def __init__(self, function: Callable[[Tensor, nn.Module], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.layer = function, nn.Linear(3, 2) if layer is None else layer

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.layer)


def traced() -> nn.Module:
    with pytest.warns(DeprecationWarning, match="trace"):
        return torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3))  # type: ignore[return-value]


def words(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(x.long() % 4).mean(1)


def grown(x: Tensor, layer: nn.Module) -> Tensor:
    with torch.no_grad():
        layer.weight.mul_(1.01)
    return layer(x)


def alone(x: Tensor, layer: nn.Module) -> Tensor:
    with torch.no_grad():
        return layer(x)


def again(reentrant: bool) -> Callable[[], nn.Module]:
    def call(x: Tensor, layer: nn.Module) -> Tensor:
        return checkpoint(lambda h: torch.tanh(layer(h)), layer(x), use_reentrant=reentrant)

    return lambda: Of(call, nn.Linear(3, 3))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "traced": (traced, "Linear, which was traced"),
    "traced inside": (lambda: nn.Sequential(nn.Linear(3, 3), traced()), r"layer '1' \(Linear\), which was traced"),
    "complex": (lambda: nn.Linear(3, 2, dtype=torch.cfloat), "parameter 'weight' of dtype torch.complex64"),
    "max_norm": (
        lambda: Of(words, nn.Embedding(4, 2, max_norm=0.1)),
        r"layer 'layer' \(Embedding\), which writes on 'layer.weight' .* leave max_norm out",
    ),
    "writes": (lambda: Of(grown), r"layer 'layer' \(Linear\), which writes on 'layer.weight' .* a copy"),
    "no graph": (lambda: Of(alone), "outputs without a graph"),
    "reentrant": (again(True), "use_reentrant=True.*Try: leave torch.utils.checkpoint out"),
    "checkpoint": (again(False), "Of, which computes something again .* leave torch.utils.checkpoint out"),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's own, of a pass without gradients
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_its_weights_is_refused_by_name(name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        Forward(make()).check(torch.ones(4, 3))


def test_a_compiled_network_is_the_one_that_it_was_compiled_from() -> None:
    plain = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2)))
    plain[1] = torch.compile(plain[1], backend="eager")
    plain[0].compile(backend="eager")
    whole = torch.compile(plain, backend="eager")
    f, x = Forward(whole), torch.randn(5, 3)  # type: ignore[arg-type]
    assert list(f.params()) == ["0.weight", "0.bias", "1.1.weight", "1.1.bias"]
    assert f.module[0]._compiled_call_impl is None  # type: ignore[index]
    assert plain[0]._compiled_call_impl is not None
    torch.testing.assert_close(f(f.params(), x), whole(x).detach())
    calls = []
    f.module[0].register_forward_hook(lambda *_: calls.append(1))  # type: ignore[index]
    f(f.params(), x)
    assert calls == [1]


def test_gradients_of_embeddings_are_dense() -> None:
    layer = nn.Embedding(4, 2, sparse=True)
    f = Forward(Of(words, layer))
    w = {k: v.requires_grad_() for k, v in f.params().items()}
    (g,) = torch.autograd.grad(f(w, torch.arange(12.0).view(4, 3)).sum(), list(w.values()))
    assert g.layout == torch.strided
    assert layer.sparse
