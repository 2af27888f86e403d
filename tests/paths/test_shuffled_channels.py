"""Networks whose units lie under one another in circles, as shuffled channels do: all symmetries, at every run."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from novacula.paths import symmetries


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels of all groups in turn, as ShuffleNet orders them."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class Shuffle(nn.Module):
    """Convolutions of points, the second in groups, a stream of shuffled channels, and a third in groups or not."""

    def __init__(self, channels: int, groups: int, *, stream: bool, again: bool = False) -> None:
        super().__init__()
        self.groups, self.stream, self.again = groups, stream, again
        self.one, self.two = nn.Conv2d(2, channels, 1), nn.Conv2d(channels, channels, 1, groups=groups)
        self.three = nn.Conv2d(channels, channels, 1, groups=groups if again else 1)
        self.head = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = shuffled(nn.functional.silu(self.two(nn.functional.silu(self.one(x)))), self.groups)
        h = h + nn.functional.silu(self.three(h)) if self.stream else self.three(h).sigmoid()
        return self.head((shuffled(h, self.groups) if self.again else h).mean((2, 3)))


class Heads(nn.Module):
    """Attention, and a softmax over heads of what it has written."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 12), nn.Linear(12, 3)
        self.q, self.k, self.v, self.o = (nn.Linear(12, 12) for _ in "qkvo")

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        q, k, v = (m(h).unflatten(-1, (3, -1)).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = self.o(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        z = nn.functional.silu(y).unflatten(-1, (-1, 3)).softmax(-1).transpose(2, 3).flatten(2)
        return self.last((h + y + z).mean(1))


class Unet(nn.Module):
    """Down and up with norms of groups, and a join of both."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(2, 8, 3, 1, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up, self.join, self.head = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 8, 3, 1, 1), nn.Conv2d(8, 1, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(4, n) for n in (8, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        a = nn.functional.silu(self.norms[0](self.down(x)))
        b = self.up(nn.functional.silu(self.norms[1](self.deep(a))))
        return self.head(nn.functional.silu(self.join(self.norms[2](torch.cat([a, b], 1)))))


CASES = {
    "shuffle": (lambda: Shuffle(12, 3, stream=False), (2, 2, 4, 4)),
    "stream": (lambda: Shuffle(12, 3, stream=True), (2, 2, 4, 4)),
    "again": (lambda: Shuffle(12, 3, stream=False, again=True), (2, 2, 4, 4)),
    "heads": (Heads, (2, 5, 2)),
    "unet": (Unet, (2, 2, 8, 8)),
}


def groups(name: str) -> list[list[object]]:
    """All groups, in the order in which they are found."""
    make, shape = CASES[name]
    found = symmetries(make(), torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    return [[g.kind, g.size, g.copies, [list(w) for w in g.weights]] for g in found.groups]


def test_the_groups_are_the_same_at_every_run() -> None:
    """Hashes of words and places in memory, by which sets are ordered, differ from run to run."""
    code = "import json; from paths.test_shuffled_channels import CASES, groups; "
    code += "print(json.dumps({n: groups(n) for n in CASES}))"
    path = os.pathsep.join([os.path.dirname(os.path.dirname(__file__)), *sys.path])
    said = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for seed in ("0", "5", "11")
    ]
    assert said[1] == said[0]
    assert said[2] == said[0]


@pytest.mark.parametrize(
    ("name", "order"), [("shuffle", 6 * 24**3 * 24**3 * math.factorial(12)), ("stream", 6 * 24**6)]
)
def test_what_is_in_each_group_of_channels_has_an_order_of_its_own(name: str, order: int) -> None:
    """The three groups, four inputs and four outputs within each; and what follows, where it is no stream."""
    found = symmetries(CASES[name][0](), torch.randn(CASES[name][1]))
    assert found.log_order == pytest.approx(math.log(order))
    assert found.coverage == 1
    assert found.verify(2) < 1e-12


def test_brute_force_finds_no_more_orders_of_shuffled_channels() -> None:
    """Of all 4! · 4! orders of the channels before and after a convolution in two groups: 2! · (2!)² · (2!)²."""
    net = Shuffle(4, 2, stream=True).double()
    rng = torch.Generator().manual_seed(0)
    state = {k: torch.randn(v.shape, generator=rng).double() for k, v in net.state_dict().items()}
    x, count = torch.randn(3, 2, 2, 2, generator=rng).double(), 0
    found = symmetries(net, x)
    before = torch.func.functional_call(net, state, (x,))
    orders = list(itertools.permutations(range(4)))
    # What is before the shuffle in an order: after it channel c is at 2 (c mod 2) + c div 2.
    after = [0, 2, 1, 3]
    for one, two in itertools.product(orders, orders):
        rows = {k: v[list(one)] if k.startswith("one") else v for k, v in state.items()}
        # Each output reads the inputs of its own group, wherever these now are; not in order, it is another network.
        whole = torch.zeros(4, 4).double()
        for o in range(4):
            for i in range(2):
                whole[o, 2 * (o // 2) + i] = state["two.weight"][o, i, 0, 0]
        moved = whole[list(two)][:, list(one)]
        if any(moved[o, i] for o in range(4) for i in range(4) if o // 2 != i // 2):
            continue
        rows["two.weight"] = torch.stack([moved[o, 2 * (o // 2) : 2 * (o // 2) + 2] for o in range(4)])[..., None, None]
        rows["two.bias"] = state["two.bias"][list(two)]
        stream = [after[two[after[p]]] for p in range(4)]
        rows["three.weight"] = state["three.weight"][stream][:, stream]
        rows["three.bias"], rows["head.weight"] = state["three.bias"][stream], state["head.weight"][:, stream]
        count += bool((torch.func.functional_call(net, rows, (x,)) - before).abs().max() < 1e-9)
    assert count == round(math.exp(found.log_order)) == 2 * 2**2 * 2**2
