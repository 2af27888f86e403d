"""Children take their parent's state at a step; a curve bends around a hill."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import novacula as nv
from novacula import InputError
from novacula.paths import Spawn, barrier, bend
from novacula.study import instability

DATA = nv.load("digits").subset(range(300))


def loop(seed: int, on_step: Any, steps: int = 40) -> dict[str, torch.Tensor]:
    """A perceptron with momentum, which is a state, too; the first weights are always the same."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    rng = torch.Generator().manual_seed(seed)
    for step in range(steps):
        on_step(step, net, optimiser)
        rows = torch.randint(DATA.n, (30,), generator=rng)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(DATA.x[rows]), DATA.y[rows]).backward()
        optimiser.step()
    return net.state_dict()


def test_a_child_goes_on_from_its_parent() -> None:
    """Of one order of its own from there on: by hand, two loops of which the second starts with the first's state."""
    spawn = Spawn(at=(25,))
    parent = loop(1, spawn)
    held = {k: v.clone() for k, v in spawn.states[25][0].items()}
    child = loop(2, spawn.child(25))
    again = loop(2, spawn.child(25))
    assert all(torch.equal(again[k], w) for k, w in child.items())
    assert not torch.equal(child["1.weight"], parent["1.weight"])
    assert all(torch.equal(spawn.states[25][0][k], w) for k, w in held.items())
    # The same order: the parent once more, but only if momentum was taken along.
    same = loop(1, spawn.child(25))
    assert all(torch.equal(same[k], w) for k, w in parent.items())
    with pytest.raises(InputError, match="passed, of \\[25\\]"):
        spawn.child(3)
    with pytest.raises(InputError, match="2 things"):
        spawn.child(25)(25, nn.Linear(1, 1))
    with pytest.raises(InputError, match="a step to part at"):
        Spawn(at=())


def test_children_that_part_late_end_together() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    seen = []
    found = instability(loop, (39, 0), net, DATA, points=5, progress=lambda i, n: seen.append((i, n)))
    assert found.at == (0, 39)
    assert seen[-1] == (5, 5)
    a, b = (loop(seed, lambda *_: None) for seed in (1, 2))
    assert found.heights[0] == pytest.approx(barrier(net, a, b, DATA, points=5).height)
    assert found.heights[1] < 0.01
    assert found.settled in (0, 39)
    assert "no longer decides" in found.words
    with pytest.raises(InputError, match="children"):
        instability(loop, (0,), net, DATA, children=1)


class Ring(nn.Module):
    """Outputs that fit where the weights lie on a circle: between opposite points of it stands a hill."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 0.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * (self.w.square().sum() - 1).expand(len(x), 1) + 0 * x[:, :1]


def test_a_curve_goes_around_a_hill() -> None:
    """From one side of a circle to the other the line rises by 9/2; a parabola through (0, 2) comes within ±.13."""
    data, net = nv.Data(torch.zeros(40, 1), torch.zeros(40, 1)), Ring()
    target = nv.Target(net, likelihood=nv.Normal(sigma=1.0))
    a, b = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([-1.0, 0.02])}
    middle = bend(target, a, b, data, steps=600, lr=0.05)
    straight, bent = barrier(target, a, b, data), barrier(target, a, b, data, bend=middle)
    assert straight.height == pytest.approx(4.5, rel=0.01)
    assert bent.height < 0.3
    t = 0.3
    theta = middle["w"]
    at = (1 - t) ** 2 * a["w"] + 2 * t * (1 - t) * theta + t**2 * b["w"]
    by_hand = 0.5 * (3 * (at.square().sum() - 1)) ** 2 - 0.5 * (3 * (torch.tensor([1.0, 0.0]).square().sum() - 1)) ** 2
    torch.testing.assert_close((bent.loss[3] - bent.loss[0]).float(), by_hand, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="of the network"):
        bend(target, a, {"v": torch.zeros(2)}, data)
