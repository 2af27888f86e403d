"""Planted units that a network would not miss, and networks that only seem to have such."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from novacula.paths import symmetries


def planted(net: Any, first: int, then: int) -> None:
    """Unit 1 dead, 2 unread, 4 and 6 multiples of 3, 7 and 5 cancelling; the rest as drawn."""
    into, out = net[first], net[then]
    with torch.no_grad():
        into.weight[1], into.bias[1] = 0, -1
        out.weight[:, 2] = 0
        for unit, factor, like in ((4, 2.0, 3), (6, 0.5, 3), (7, 3.0, 5)):
            into.weight[unit], into.bias[unit] = factor * into.weight[like], factor * into.bias[like]
        out.weight[:, 7] = -out.weight[:, 5] / 3


def test_planted_units_are_named_and_the_rest_is_not() -> None:
    torch.manual_seed(0)
    net: Any = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    x = torch.randn(50, 3, dtype=torch.float64)
    assert symmetries(net, x).collapse() == ()
    planted(net, 0, 2)
    (found,) = symmetries(net, x).collapse()
    assert found.dead == (1, 2)
    assert found.duplicates == ((3, 4, 6),)
    assert found.cancelling == ((5, 7),)
    assert (found.size, found.left) == (9, 3)
    assert ("0.weight", 0) in found.weights
    # The smaller network, by hand, is the same function.
    keep = [0, 3, 8]  # unit 5 goes with 7
    small = [net[0].weight[keep], net[0].bias[keep], net[2].weight[:, keep].clone()]
    small[2][:, 1] += 2 * net[2].weight[:, 4] + 0.5 * net[2].weight[:, 6]
    hidden = (x @ small[0].T + small[1]).relu()
    torch.testing.assert_close(net[4]((hidden @ small[2].T + net[2].bias).tanh()), net(x))
    # At other weights of the same network there is none.
    other = {k: torch.randn_like(v) for k, v in net.state_dict().items()}
    assert all(not own.duplicates for own in symmetries(net, x).collapse(other))


def test_channels_behind_a_norm_of_their_own_collapse() -> None:
    torch.manual_seed(1)
    net: Any = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 2)).double().eval()
    x = torch.randn(6, 2, 7, 7, dtype=torch.float64)
    with torch.no_grad():
        for v in net[0].parameters():
            v[5] = v[2]
        for v in (net[1].weight, net[1].bias, net[1].running_mean, net[1].running_var):
            v.add_(torch.rand(8))
            v[5] = v[2]
    (found,) = symmetries(net, x).collapse()
    assert found.duplicates == ((2, 5),)
    assert found.left == 7


class Twice(nn.Module):
    """Units that are read again past what makes two of them alike; or behind a norm over all of them."""

    def __init__(self, normed: bool) -> None:
        super().__init__()
        self.up, self.down, self.past = nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(5, 2)
        self.norm = nn.LayerNorm(5) if normed else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        if self.norm is not None:
            return self.down(self.norm(h))
        return self.past(h) + self.down(h.relu())


def test_what_only_seems_alike_stays() -> None:
    """A rectified unit that is dead, but read before it is rectified; a norm, which counts duplicates."""
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for normed in (False, True):
        torch.manual_seed(2)
        net = Twice(normed).double()
        with torch.no_grad():
            if normed:
                net.up.weight[1], net.up.bias[1] = net.up.weight[0], net.up.bias[0]
            else:
                net.up.bias[1] = -50
        assert symmetries(net, x).collapse() == ()
