"""Networks that were widened by units that do nothing, and permuted, are found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from novacula.core.errors import InputError
from novacula.paths import barrier, match, symmetries, widen


class Heads(nn.Module):
    """Attention of heads of three, packed, on a stream of five, and a perceptron; norms are of the stream."""

    def __init__(self, heads: int, wide: int) -> None:
        super().__init__()
        self.norm, self.packed, self.out = nn.LayerNorm(5), nn.Linear(5, 9 * heads), nn.Linear(3 * heads, 5)
        self.up, self.down = nn.Linear(5, wide), nn.Linear(wide, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (-1, 3)).transpose(1, 2) for part in self.packed(self.norm(x)).chunk(3, -1))
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return self.down(nn.functional.gelu(self.up(x)))


def perceptron(n: int, m: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, n), nn.ReLU(), nn.Linear(n, m), nn.Tanh(), nn.Linear(m, 2))


def convolutions(n: int, m: int) -> nn.Module:
    first = nn.Sequential(nn.Conv2d(2, n, 3), nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, m, 2), nn.GELU())
    return nn.Sequential(first, nn.Flatten(), nn.Linear(9 * m, 2))


CASES: dict[str, tuple[Callable[[int, int], Any], tuple[int, int], tuple[int, int], tuple[int, ...]]] = {
    "perceptron": (perceptron, (6, 5), (9, 8), (3,)),
    "convolutions": (convolutions, (4, 3), (7, 5), (2, 6, 6)),
    "heads": (Heads, (2, 4), (3, 7), (6, 5)),
}


def drawn(module: nn.Module, seed: int) -> dict[str, Tensor]:
    rng, found = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for name, value in module.state_dict().items():
        new = torch.randn(value.shape, generator=rng).double()
        found[name] = value if not value.is_floating_point() else new.abs() + 0.5 if name.endswith("var") else new
    return found


def outputs(module: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.func.functional_call(module.double().eval(), weights, (x.double(),))


@pytest.mark.parametrize("name", list(CASES))
def test_a_narrower_network_among_dead_units_is_found_again(name: str) -> None:
    make, small, large, shape = CASES[name]
    narrow, wide = make(*small), make(*large)
    x = torch.randn(20, *shape, generator=torch.Generator().manual_seed(0))
    found, weights = symmetries(wide, x), drawn(narrow, 1)
    inside = widen(narrow, weights, found)
    torch.testing.assert_close(outputs(wide, inside, x), outputs(narrow, weights, x), rtol=1e-10, atol=1e-10)
    # Elsewhere in the orbit, where what nothing reads computes something.
    there = found.random(2).apply(inside)
    for key, value in there.items():
        if value.is_floating_point() and name == "perceptron" and key in ("0.weight", "0.bias"):
            dead = (there["2.weight"] == 0).all(0)
            value[dead] = torch.randn(value[dead].shape, generator=torch.Generator().manual_seed(3)).double()
    clean = found.merged(there)
    assert len(symmetries(wide, x).collapse(there)) >= 1
    back = match(wide, inside, clean, found).apply(clean)
    torch.testing.assert_close(outputs(wide, back, x), outputs(narrow, weights, x), rtol=1e-10, atol=1e-10)
    for key, value in inside.items():
        torch.testing.assert_close(back[key], value, rtol=1e-6, atol=1e-8)


def test_split_units_are_merged_and_then_found_again() -> None:
    """A unit as two, of which the one is scaled, and another as three that cancel but for one."""
    narrow, wide = perceptron(6, 5), perceptron(9, 8)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    found, weights = symmetries(wide, x), drawn(narrow, 1)
    inside = widen(narrow, weights, found)
    split = {k: v.clone() for k, v in inside.items()}
    for new, old, size, share in ((6, 0, 2.0, 0.3), (7, 1, 1.0, 0.6), (8, 1, 0.5, -0.6)):
        split["0.weight"][new], split["0.bias"][new] = size * inside["0.weight"][old], size * inside["0.bias"][old]
        split["2.weight"][:, new] = share / size * inside["2.weight"][:, old]
    split["2.weight"][:, 0] *= 0.7
    for key in ("2.weight", "2.bias"):
        split[key][5] = split[key][2]  # of tanh, and shared by halves
    split["4.weight"][:, 5] = split["4.weight"][:, 2] / 2
    split["4.weight"][:, 2] /= 2
    torch.testing.assert_close(outputs(wide, split, x), outputs(narrow, weights, x), rtol=1e-10, atol=1e-10)
    there = found.random(2).apply(split)
    clean = found.merged(there)
    assert sum(bool((clean["2.weight"][:, i] == 0).all()) for i in range(9)) == 3
    assert sum(bool((clean["4.weight"][:, i] == 0).all()) for i in range(8)) == 3
    back = match(wide, inside, clean, found).apply(clean)
    torch.testing.assert_close(outputs(wide, back, x), outputs(narrow, weights, x), rtol=1e-10, atol=1e-10)
    for key, value in inside.items():
        torch.testing.assert_close(back[key], value, rtol=1e-6, atol=1e-8)
    # So there is no barrier between them, where there was one.
    data = (x.double(), outputs(narrow, weights, x))
    far, near = (barrier(wide, inside, w, data, points=5).height for w in (there, back))
    assert far > 0.01
    assert near < 1e-6


class Normed(nn.Sequential):
    """A norm over units, which counts dead ones."""

    def __init__(self, n: int) -> None:
        super().__init__(nn.Linear(3, n), nn.LayerNorm(n), nn.ReLU(), nn.Linear(n, 2))


def test_where_theory_does_not_allow_it_networks_are_refused() -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="outputs that change by"):
        widen(Normed(5), Normed(5).state_dict(), symmetries(Normed(8), x))
    found = symmetries(perceptron(9, 8), x)
    with pytest.raises(InputError, match=r"'0\.weight' that is nowhere wider.* 10 in 9"):
        widen(perceptron(10, 5), perceptron(10, 5).state_dict(), found)
    with pytest.raises(InputError, match="weights of the same names"):
        widen(nn.Sequential(nn.Linear(3, 2)), nn.Linear(3, 2).state_dict(), found)
    with pytest.raises(InputError, match=r"nv\.paths\.widen"):
        match(perceptron(9, 8), perceptron(6, 5).state_dict(), perceptron(9, 8).state_dict(), found)
