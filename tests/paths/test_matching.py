"""Networks that were transformed are found again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from menagerie.families import ALL
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.paths import match, match_many, symmetries
from novacula.paths.matching.activations import by_activations
from novacula.paths.matching.descent import acted
from novacula.paths.matching.learned import FINITE, Middle, exponential, lowered, turning
from novacula.paths.symmetries.groups import Kind
from novacula.target.given import prepared


def elsewhere(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights of the module with noise, so that no two units are alike."""
    rng, found = generator(seed, "noise"), dict[str, Tensor]()
    for name, value in module.state_dict().items():
        moves = value.is_floating_point() and not name.endswith("var")
        found[name] = value + 0.3 * torch.randn(value.shape, generator=rng, dtype=value.dtype) if moves else value
    return found


PLANTED = ["vit", "mobilenet_v3", "lstm_two_layers", "gpt2", "llama"]
SLOWLY = ["swin", "unet_averaged", "resnet_basic"]  # where scales hang together, what is left falls by a factor a sweep


@pytest.mark.parametrize("name", PLANTED + SLOWLY)
def test_a_planted_transformation_is_recovered(name: str) -> None:
    module = ALL[name].make()
    found = symmetries(module, ALL[name].inputs(3, 1).flatten(0, 1))
    a = elsewhere(module, 1)
    b = found.random(2).apply(a)
    back = match(module, a, b, found).apply(b)
    for key, value in a.items():
        far = {"rtol": 1e-4, "atol": 1e-5} if name in SLOWLY else {"rtol": 1e-6, "atol": 1e-8}
        torch.testing.assert_close(back[key], value, **far)


def test_units_that_do_nothing_are_no_hindrance() -> None:
    """Two compute nothing, one is not read, and two are alike: any of their orders and scales gives the same."""
    net = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2)).double()
    a = {k: v.clone() for k, v in elsewhere(net, 1).items()}
    for unit in (2, 5):
        a["0.weight"][unit], a["0.bias"][unit] = 0.0, 0.0
    a["2.weight"][:, [2, 7]] = 0.0
    a["0.weight"][4], a["0.bias"][4], a["2.weight"][:, 4] = a["0.weight"][3], a["0.bias"][3], a["2.weight"][:, 3]
    found = symmetries(net, torch.randn(5, 3))
    there = found.random(3).apply(a)
    back = match(net, a, there, found).apply(there)
    live = [0, 1, 3, 4, 6, 8]
    for key, dim in (("0.weight", 0), ("0.bias", 0), ("2.weight", 1)):
        torch.testing.assert_close(*(w[key].index_select(dim, torch.tensor(live)) for w in (back, a)))
    assert all(bool(torch.isfinite(w).all()) for w in back.values())


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


class Grouped(nn.Sequential):
    """Units in groups of a norm, which are permuted as groups and within; signs of what comes after."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 12), nn.GroupNorm(4, 12), nn.SiLU(), nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 2))


@pytest.mark.parametrize("name", ["grouped", "vit", "resnet_basic"])
def test_units_are_found_again_by_what_they_compute(name: str) -> None:
    """Permutations alone: of each unit, correlations of 1 with itself, and less with the others at these inputs."""
    torch.manual_seed(0)
    module = Grouped().double() if name == "grouped" else ALL[name].make()
    x = torch.randn(40, 3) if name == "grouped" else ALL[name].inputs(20, 1).flatten(0, 1)
    found = symmetries(module, x[:10])
    a = elsewhere(module, 1)
    b = found.random(2, kinds=("permutation",)).apply(a)
    elements = by_activations(a, b, found.only("permutation"), x.double())
    back = acted(b, elements, found)
    assert elements
    moved = {name for g in found.groups if g.kind == "permutation" for name, _ in g.weights}
    for key in moved:
        torch.testing.assert_close(back[key], a[key], rtol=1e-6, atol=1e-8)


def test_groups_of_some_kinds_hold_those_of_linear_maps() -> None:
    case = ALL["llama"]
    found = symmetries(case.make(), case.inputs(3, 1).flatten(0, 1))
    choices: tuple[tuple[Kind, ...], ...] = (("permutation",), ("permutation", "orthogonal"))
    for kinds in choices:
        fewer = found.only(*kinds)
        assert {g.kind for g in fewer.groups} == set(kinds)
        assert len(fewer.groups) == len([g for g in found.groups if g.kind not in ("scale", "sign", "rotation")])
        assert fewer.verify(4) < 1e-12


def test_with_data_the_barrier_is_what_counts() -> None:
    train = nv.load("digits").subset(range(300))
    nets = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10))
        adam = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(60):
            adam.zero_grad()
            nn.functional.cross_entropy(net(train.x), train.y).backward()
            adam.step()
        nets.append(net)
    a, b = (net.state_dict() for net in nets)
    found = symmetries(nets[0], train.x[:50])
    ways: tuple[dict[str, Any], ...] = ({}, {"data": train}, {"data": train, "steps": 40, "lr": 3e-3})
    heights = [
        nv.paths.barrier(nets[0], a, match(nets[0], a, b, found, **how).apply(b), train, points=3).height
        for how in ways
    ]
    assert heights[1] <= heights[0]
    assert heights[2] <= heights[1]
    assert heights[2] < 0.5 * nv.paths.barrier(nets[0], a, b, train, points=3).height
    with pytest.raises(InputError, match="data for steps"):
        match(nets[0], a, b, found, steps=3)


class Decoder(nn.Module):
    """One block of two heads on a stream of six between root-mean-square norms, read at its last position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 6)
        self.q, self.k, self.v, self.o = (nn.Linear(6, 6, bias=False) for _ in "qkvo")
        self.up, self.down, self.head = nn.Linear(6, 10), nn.Linear(10, 6, bias=False), nn.Linear(6, 4, bias=False)
        self.gain1, self.gain2, self.gain3 = (nn.Parameter(torch.ones(6)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        def normed(h: Tensor, gain: Tensor) -> Tensor:
            return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6) * gain

        h = self.embed(x.long())
        n = normed(h, self.gain1)
        q, k, v = (m(n).unflatten(-1, (2, 3)).transpose(1, 2) for m in (self.q, self.k, self.v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.o(seen.transpose(1, 2).flatten(2))
        h = h + self.down(self.up(normed(h, self.gain2)).relu())
        return self.head(normed(h, self.gain3)[:, -1])


def test_rotations_are_turned_by_the_gradient_of_the_loss_half_way() -> None:
    """The first step goes against finite differences, the function stays, and steps undo a planted turn."""
    module = Decoder()
    rng = generator(3, "turn")
    x = torch.randint(5, (300, 7), generator=rng).double()
    a = {k: v.double() for k, v in elsewhere(module, 1).items()}
    module.load_state_dict(a)
    module.double().eval()
    found = symmetries(module, x[:20])
    with torch.no_grad():
        data = nv.Data(x, (8 * module(x)).argmax(1), task="classification")
    target, rows = prepared(module, data)
    middle, every = Middle(target, rows, a), torch.arange(300)
    own = [g for g in found.groups if g.kind not in FINITE]
    assert {g.kind for g in own} == {"scale", "orthogonal", "invertible"}
    small = [0.4 * torch.randn(g.identity().values.shape, generator=rng, dtype=torch.float64) for g in own]
    b = acted(a, [exponential(g, t, a) for g, t in zip(own, small, strict=True)], found)
    before, gradient = middle.loss(b, every, 0)
    move = turning(b, found, 1)
    assert move is not None
    elements, there = move(gradient)
    for group, element in zip(own, elements, strict=True):
        # Adam's first step is by the sign of the gradient.
        at = (*(0 for _ in element.values.shape[:-1]), 1)
        log = torch.zeros_like(element.values)
        log[at] = 1e-4
        rise = float(middle.loss(acted(b, [exponential(group, log, b)], found), every, 0)[0] - before)
        assert abs(rise) < 1e-9 or rise * float(element.values[at] - group.identity().values[at]) < 0
    with torch.no_grad():
        for w in (b, there):
            torch.testing.assert_close(torch.func.functional_call(module, w, (x,)), module(x), rtol=1e-9, atol=1e-9)
    again = turning(b, found, 60)
    assert again is not None
    after, floor = (float(middle.loss(w, every, 0)[0]) for w in (lowered(middle, b, again, 60, 0)[1], a))
    assert after - floor < 0.2 * (float(before) - floor)


def test_many_networks_come_into_the_order_of_the_first() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 2))
    found = symmetries(net, torch.randn(4, 4))
    base = elsewhere(net, 1)
    models = [base]
    for i in range(1, 4):
        rng = generator(i, "little")
        near = {k: v + 0.02 * torch.randn(v.shape, generator=rng, dtype=v.dtype) for k, v in base.items()}
        models.append(found.random(i, kinds=("permutation", "sign")).apply(near))
    ways = match_many(net, models, found)
    assert ways[0].elements == ()
    for way, model in zip(ways, models, strict=True):
        there = way.apply(model)
        assert max(float((there[k] - v).abs().max()) for k, v in base.items()) < 0.15
    with pytest.raises(InputError, match="two networks"):
        match_many(net, models[:1], found)


def test_what_is_no_network_of_the_kind_is_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    found, state = symmetries(net, torch.randn(4, 3)), net.state_dict()
    with pytest.raises(InputError, match=r"'0.weight' of shape \(8, 3\)"):
        match(net, state, {k: v for k, v in state.items() if k != "0.weight"}, found)
    with pytest.raises(InputError, match=r"finite weights '2\.bias'"):
        match(net, state, {**state, "2.bias": torch.full((2,), torch.nan)}, found)
