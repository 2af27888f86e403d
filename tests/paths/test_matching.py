"""Networks that were transformed are found again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from menagerie.families import ALL
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.paths import match, symmetries


def elsewhere(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights of the module with noise, so that no two units are alike."""
    rng, found = generator(seed, "noise"), dict[str, Tensor]()
    for name, value in module.state_dict().items():
        moves = value.is_floating_point() and not name.endswith("var")
        found[name] = value + 0.3 * torch.randn(value.shape, generator=rng, dtype=value.dtype) if moves else value
    return found


@pytest.mark.parametrize("name", ["vit", "mobilenet_v3", "lstm_two_layers", "gpt2"])
def test_a_planted_transformation_is_recovered(name: str) -> None:
    module = ALL[name].make()
    found = symmetries(module, ALL[name].inputs(3, 1).flatten(0, 1))
    a = elsewhere(module, 1)
    b = found.random(2).apply(a)
    back = match(module, a, b, found).apply(b)
    for key, value in a.items():
        torch.testing.assert_close(back[key], value, rtol=1e-6, atol=1e-8)


def test_of_two_networks_the_distance_falls_and_the_function_stays() -> None:
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 2)) for _ in "ab"]
    x = torch.randn(20, 5)
    found = symmetries(nets[0], x)
    a, b = (net.state_dict() for net in nets)
    moved = match(nets[0], a, b, found, seed=1).apply(b)
    before, after = (sum(float((a[k] - w[k]).square().sum()) for k in a) for w in (b, moved))
    assert after < 0.9 * before
    again = torch.func.functional_call(nets[1], moved, (x,))
    torch.testing.assert_close(again, nets[1](x), rtol=1e-4, atol=1e-4)


def test_what_is_no_network_of_the_kind_is_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    found, state = symmetries(net, torch.randn(4, 3)), net.state_dict()
    with pytest.raises(InputError, match=r"'0.weight' of shape \(8, 3\)"):
        match(net, state, {k: v for k, v in state.items() if k != "0.weight"}, found)
    with pytest.raises(InputError, match=r"finite weights '2\.bias'"):
        match(net, state, {**state, "2.bias": torch.full((2,), torch.nan)}, found)
