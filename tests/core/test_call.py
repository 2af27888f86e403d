"""Modules called with other tensors: shared layers and tied weights, by plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from novacula.core.forward import Forward
from novacula.core.modules.call import call_with, others_of
from novacula.core.rng import generator


class Tied(nn.Module):
    """Two layers that share a weight, and one that is used twice under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.again = self.first
        self.norm = nn.BatchNorm1d(4)
        self.also = nn.Sequential(self.norm)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.also(self.again(self.norm(self.second(self.first(x)))).tanh()))


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, tuple[str, ...]]]] = {
    "plain": (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), {}),
    "tied": (Tied, {"first.weight": ("second.weight",)}),
    "a layer in two places": (lambda: (lambda n: nn.Sequential(n, nn.Tanh(), n, nn.Linear(4, 2)))(nn.Linear(4, 4)), {}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("train", [False, True])
def test_a_module_has_its_own_tensors_back(name: str, train: bool) -> None:
    make, others = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().train(train)
    assert others_of(module) == others
    own = [(n, w) for n, w in [*module.named_parameters(), *module.named_buffers()]]
    before = copy.deepcopy(module.state_dict())
    x = torch.randn(6, 4, generator=generator(1))
    moved = {n: w.detach() + 0.1 if w.is_floating_point() else w.clone() for n, w in own}
    other = copy.deepcopy(module)
    for k, w in [*other.named_parameters(), *other.named_buffers()]:
        w.data = moved[k].clone()
    point = moved
    for _ in range(2):
        point = {k: w.clone() for k, w in moved.items()}
        f = call_with(module, point, (x,))
        assert torch.allclose(f, copy.deepcopy(other)(x), rtol=1e-5, atol=1e-6)
        assert all(module.get_parameter(n) is w for n, w in own if isinstance(w, nn.Parameter))
        assert all(torch.equal(w, before[n]) for n, w in module.state_dict().items())
    if train and name == "tied":
        assert int(point["norm.num_batches_tracked"]) == 2


def test_functions_of_weights_leave_no_tensor_behind() -> None:
    # Under vmap a tensor that stays in the module is an error at the next call, whatever it is.
    make, _ = CASES["a layer in two places"]
    f = Forward(make())
    x = torch.randn(3, 4, generator=generator(1))
    many = {k: torch.stack([w, w + 1]) for k, w in f.params().items()}
    before = f.params()
    outputs = torch.func.vmap(lambda w: f(w, x))(many)
    assert torch.allclose(outputs[0], f(before, x), atol=1e-6)
    assert all(torch.equal(w, before[k]) for k, w in f.params().items())
