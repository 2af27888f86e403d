"""Projections to equivariant weights: exact invariance at one, projections indeed, closed forms of the mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.structure.soften import Group

F64 = torch.float64
MOVES: dict[Group, Callable[[Tensor], Tensor]] = {
    "turns": lambda x: x.rot90(1, (2, 3)),
    "mirror": lambda x: x.flip(3),
    "both": lambda x: x.flip(2),
}


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 9, 2 * 9), nn.Tanh(),
            nn.Unflatten(1, (2, 3, 3)), nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(18, 4), nn.Tanh(), nn.Linear(4, 2),
        ).double()  # fmt: skip
        for w in net.parameters():
            w.detach().mul_(3)
        return net


@pytest.mark.parametrize("group", ["turns", "mirror", "both"])
def test_at_one_the_network_is_invariant_and_in_between_on_the_line(group: Group) -> None:
    net, x = network(), torch.randn(5, 2, 6, 6, dtype=F64)
    even, move = nv.structure.soften(net, x, 1.0, group=group), MOVES[group]
    torch.testing.assert_close(even(move(x)), even(x), rtol=0, atol=1e-12)
    assert not torch.allclose(net(move(x)), net(x), atol=1e-3)
    again, half = nv.structure.soften(even, x, 1.0, group=group), nv.structure.soften(net, x, 0.3, group=group)
    for name, w in net.named_parameters():
        own, other = even.get_parameter(name), half.get_parameter(name)
        torch.testing.assert_close(again.get_parameter(name), own)
        torch.testing.assert_close(other, 0.7 * w + 0.3 * own)
        # Orthogonal: what is taken away has no part in what is left.
        assert float(((w - own) * own).sum().abs().detach()) < 1e-10 * float(w.detach().square().sum() + 1)


def test_a_turn_alone_leaves_a_difference_under_mirrors() -> None:
    net, x = network(), torch.randn(5, 2, 6, 6, dtype=F64)
    even = nv.structure.soften(net, x, 1.0, group="turns")
    assert not torch.allclose(even(x.flip(3)), even(x), atol=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    net, x = network(), torch.randn(2, 2, 6, 6, dtype=F64)
    wide = nn.Sequential(nn.Conv2d(1, 1, (3, 1)))
    cases = [
        lambda: nv.structure.soften(net, x, 1.5),
        lambda: nv.structure.soften(net, x, 0.5, group="all"),  # type: ignore[arg-type]
        lambda: nv.structure.soften(wide, torch.zeros(1, 1, 5, 5), 0.5),
        lambda: nv.structure.soften(nn.Linear(3, 2), torch.zeros(4, 3), 0.5),
    ]
    for case in cases:
        with pytest.raises(nv.InputError):
            case()
