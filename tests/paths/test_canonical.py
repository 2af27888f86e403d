"""Canonical weights: the same for all that differ by scales and signs, and of the least norm among them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.paths import canonical, symmetries


def somewhere(net: nn.Module, seed: int) -> dict[str, Tensor]:
    rng, found = generator(seed, "weights"), dict[str, Tensor]()
    for name, value in net.state_dict().items():
        drawn = torch.randn(value.shape, generator=rng, dtype=torch.float64)
        found[name] = drawn.exp() if name.endswith("var") else drawn if value.is_floating_point() else value
    return found


class Bottle(nn.Module):
    """Rectified units, a layer of them that is used twice, and odd ones with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(3, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.d(torch.tanh(self.c(self.b(self.b(h).relu()).relu())))


def convolutions() -> nn.Module:
    one, two = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
    return nn.Sequential(one, nn.BatchNorm2d(4), nn.ReLU(), two, nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))


NETWORKS = {
    "rectified": (
        lambda: nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 2)),
        (5, 3),
    ),
    "odd": (lambda: nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 2)), (5, 3)),
    "used twice": (Bottle, (5, 3)),
    "norms of batches": (convolutions, (3, 2, 4, 4)),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_what_differs_by_scales_and_signs_has_one_form(name: str) -> None:
    make, shape = NETWORKS[name]
    net = make().double()
    found = symmetries(net, torch.randn(shape, generator=generator(0, "x")))
    weights = somewhere(net, 1)
    form = canonical(weights, found).apply(weights)
    assert {"scale", "sign"} & {g.kind for g in found.groups}
    for seed in (2, 3):
        there = found.random(seed, kinds=["scale", "sign"]).apply(weights)
        assert max(float((there[k] - weights[k]).abs().max()) for k in weights) > 0.1
        same = canonical(there, found).apply(there)
        for key, value in form.items():
            torch.testing.assert_close(same[key], value, rtol=1e-10, atol=1e-10)
    x = torch.randn(shape, generator=generator(4, "x"), dtype=torch.float64)
    before, after = (torch.func.functional_call(net.eval(), w, (x,)) for w in (weights, form))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)


def test_rectified_units_have_the_closed_form_of_least_norm() -> None:
    """One hidden layer: s² is the norm of what follows over that of what comes before, and Σ w² is 2 Σ |in| |out|."""
    net = nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2)).double()
    found, weights = symmetries(net, torch.randn(5, 3)), somewhere(net, 5)
    form = canonical(weights, found).apply(weights)
    before = torch.cat([weights["0.weight"], weights["0.bias"][:, None]], 1).norm(dim=1)
    after = weights["2.weight"].norm(dim=0)
    factor = (after / before).sqrt()
    torch.testing.assert_close(form["0.weight"], weights["0.weight"] * factor[:, None], rtol=1e-11, atol=0)
    torch.testing.assert_close(form["2.weight"], weights["2.weight"] / factor, rtol=1e-11, atol=0)
    norm = sum(float(form[k].square().sum()) for k in ("0.weight", "0.bias", "2.weight"))
    assert norm == pytest.approx(float(2 * (before * after).sum()), rel=1e-12)


def test_no_scales_give_a_smaller_norm() -> None:
    """Of two layers that hang together, and one that is used twice: the norm's slope is nought, and it is convex."""
    net = Bottle().double()
    found, weights = symmetries(net, torch.randn(5, 3)), somewhere(net, 6)
    form = canonical(weights, found).apply(weights)

    def norm(state: dict[str, Tensor]) -> float:
        return sum(float(v.square().sum()) for v in state.values())

    assert norm(form) < norm(weights)
    for seed in range(20):
        assert norm(found.random(seed, kinds=["scale"]).apply(form)) > norm(form)


def test_units_without_a_side_stay_finite_and_bad_weights_are_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    found, weights = symmetries(net, torch.randn(5, 3)), somewhere(net, 7)
    weights["2.weight"][:, 1] = 0.0
    weights["0.weight"][2], weights["0.bias"][2] = 0.0, 0.0
    form = canonical(weights, found).apply(weights)
    assert all(bool(torch.isfinite(v).all()) for v in form.values())
    weights["0.bias"][0] = float("nan")
    with pytest.raises(InputError, match="finite weights"):
        canonical(weights, found)
