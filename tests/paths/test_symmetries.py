"""Symmetries against counts, by networks of every kind, and what must not be taken for one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from menagerie.families import ALL
from menagerie.hugging_face import Logits
from novacula.core.errors import InputError
from novacula.paths import match, symmetries


def kinds(found: Any) -> list[tuple[str, int, int]]:
    return sorted((g.kind, g.size, g.copies) for g in found.groups)


def two_inputs(name: str) -> Tensor:
    return ALL[name].inputs(3, 1).flatten(0, 1)


def test_a_perceptron_has_the_symmetries_of_its_functions() -> None:
    """Rectified units may be scaled, tanh flips, a logistic function neither."""
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 6), nn.Sigmoid())
    found = symmetries(nn.Sequential(net, nn.Linear(6, 2)), torch.zeros(4, 3))
    assert kinds(found) == [
        ("permutation", 6, 1),
        ("permutation", 7, 1),
        ("permutation", 8, 1),
        ("scale", 8, 1),
        ("sign", 7, 1),
    ]
    assert found.coverage == 1
    assert not found.frozen
    assert found.verify(3) < 1e-12
    assert found.log_order == pytest.approx(sum(math.lgamma(n + 1) for n in (6, 7, 8)))


def test_groups_of_channels_are_a_wreath_product() -> None:
    """Four groups of two: 4! · (2!)⁴ orders, which brute force over all 8! confirms to be all."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 6), nn.GroupNorm(3, 6), nn.SiLU(), nn.Linear(6, 2)).double()
    found = symmetries(net, torch.randn(5, 2))
    assert kinds(found)[:2] == [("permutation", 2, 3), ("permutation", 3, 1)]
    x = torch.randn(5, 2, dtype=torch.float64)
    with torch.no_grad():
        for p in net[1].parameters():
            p.normal_()
        before, count = net(x), 0
        state = {k: v.clone() for k, v in net.state_dict().items()}
        for order in itertools.permutations(range(6)):
            rows = {k: v[list(order)] if k[0] in "01" else v for k, v in state.items()}
            rows["3.weight"] = state["3.weight"][:, list(order)]
            count += bool((torch.func.functional_call(net, rows, (x,)) - before).abs().max() < 1e-9)
    assert count == round(math.exp(found.log_order)) == 6 * 2**3


class Residual(nn.Module):
    """A stream of three, and two units that write to it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.silu(self.a(x))
        return self.d(h + self.c(nn.functional.silu(self.b(h))))


def test_orders_are_all_that_brute_force_finds() -> None:
    """Of all orders of each axis by itself, 3!⁴ · 2!², those that leave the function are 3! · 2!."""
    net = Residual().double()
    rng = torch.Generator().manual_seed(0)
    state = {k: torch.randn(v.shape, generator=rng).double() for k, v in net.state_dict().items()}
    x, count = torch.randn(5, 2, generator=rng).double(), 0
    (a, p), (b, q), (c, r), (d, s) = ((state[f"{k}.weight"], state[f"{k}.bias"]) for k in "abcd")

    def out(u: list[int], v: list[int], w: list[int], y: list[int], i: list[int], j: list[int]) -> Tensor:
        h = nn.functional.silu(x @ a[u].T + p[u])
        inner = nn.functional.silu(h @ b[i][:, v].T + q[i])
        return (h + inner @ c[w][:, j].T + r[w]) @ d[:, y].T + s

    three, two = ([list(o) for o in itertools.permutations(range(n))] for n in (3, 2))
    before = out(*([[0, 1, 2]] * 4), *([[0, 1]] * 2))
    torch.testing.assert_close(before, torch.func.functional_call(net, state, (x,)))
    for choice in itertools.product(three, three, three, three, two, two):
        count += bool((out(*choice) - before).abs().max() < 1e-9)
    found = symmetries(net, x)
    assert count == round(math.exp(found.log_order)) == 6 * 2


def test_heads_and_what_is_within_them() -> None:
    """Packed projections: heads may be permuted, and within each there are invertible maps of two kinds."""
    found = symmetries(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8))
    assert [k for k in kinds(found) if k[0] == "invertible"] == [("invertible", 4, 2)] * 2
    assert ("permutation", 2, 1) in kinds(found)
    assert found.coverage == 1
    assert found.verify(1) < 1e-12


def test_streams_between_norms_of_mean_squares_may_be_rotated() -> None:
    found = symmetries(ALL["llama"].make(), two_inputs("llama"))
    assert [k for k in kinds(found) if k[0] == "orthogonal"] == [("orthogonal", 4, 1)]
    assert found.coverage == 1
    assert found.verify(2) < 1e-12
    moved = {name for g in found.groups if g.kind in ("permutation", "invertible") for name, _ in g.weights}
    assert any("v_proj" in name for name in moved)


class Rotary(nn.Module):
    """Attention with rotary embeddings: four heads of queries on two of keys. Planes lie in halves, or side by side."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.q, self.k, self.v, self.o = nn.Linear(5, 24), nn.Linear(5, 12), nn.Linear(5, 12), nn.Linear(24, 3)

    def turned(self, h: Tensor) -> Tensor:
        angle = torch.arange(h.shape[2])[:, None] * torch.tensor([1.0, 0.4, 0.1])
        if self.how == "complex":
            z = torch.view_as_complex(h.unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(z * torch.polar(torch.ones_like(angle), angle).to(z)).flatten(-2)
        if self.how == "steps":
            angle, other = angle.repeat_interleave(2, -1), torch.stack([-h[..., 1::2], h[..., ::2]], -1).flatten(-2)
        else:
            one, two = h.chunk(2, -1)
            angle, other = angle.repeat(1, 2), torch.cat([-two, one], -1)
        return h * angle.cos() + other * angle.sin()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (-1, 6)).transpose(1, 2) for f in (self.q, self.k, self.v))
        q = self.turned(q).unflatten(1, (2, 2))
        seen = torch.softmax(q @ self.turned(k).unsqueeze(2).mT, -1) @ v.unsqueeze(2)
        return self.o(seen.flatten(1, 2).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("how", ["halves", "steps", "complex"])
def test_rotary_embeddings_leave_the_rotations_that_commute_with_them(how: str) -> None:
    """As many directions as the null space of ``Xᵀ R(p) + R(p) Y`` at all positions p has, and no more."""
    module = Rotary(how)
    turns = module.turned(torch.eye(6).double()[None, :, None].expand(1, 6, 9, 6))[0]  # of the i-th unit vector
    rows = []
    for r in turns.permute(1, 2, 0):
        eye = torch.eye(6).double()
        # In the entries of X and Y, row by row.
        by_x = torch.einsum("ai,bj->ijba", eye, r.T).reshape(36, 36)
        by_y = torch.einsum("ia,jb->ijab", r, eye).reshape(36, 36)
        rows.append(torch.cat([by_x, by_y], 1))
    free = int((torch.linalg.svdvals(torch.cat(rows)) < 1e-9).sum())
    found = symmetries(module, torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(0)))
    own = [g for g in found.groups if g.kind in ("scale", "rotation") and g.size == 3]
    assert sum(g.size * g.copies for g in own) == 2 * free  # each of two heads of keys
    assert {g.kind for g in own} == {"scale", "rotation"}
    assert found.verify(1) < 1e-12
    assert found.coverage == 1
    # A planted one is found again.
    rng = torch.Generator().manual_seed(1)
    a = {k: torch.randn(v.shape, generator=rng).double() for k, v in module.state_dict().items()}
    b = found.random(2, kinds=("permutation", "rotation")).apply(a)
    assert any(float((b[k] - v).abs().max()) > 0.1 for k, v in a.items())
    back = match(module, a, b, found).apply(b)
    for key, value in a.items():
        torch.testing.assert_close(back[key], value, rtol=1e-6, atol=1e-8)


def test_layers_that_share_a_table_of_angles_turn_apart() -> None:
    """GPT-J: a part of each head is turned, in planes side by side, by one table for all layers."""
    transformers = pytest.importorskip("transformers")
    options = {
        "vocab_size": 9,
        "n_embd": 12,
        "n_layer": 2,
        "n_head": 2,
        "rotary_dim": 4,
        "n_inner": 5,
        "n_positions": 8,
    }
    silent = {"bos_token_id": 1, "eos_token_id": 2, "use_cache": False}
    module = Logits(transformers.GPTJForCausalLM(transformers.GPTJConfig(**options, **silent)).eval(), "input_ids")
    found = symmetries(module, torch.randint(9, (2, 5), generator=torch.Generator().manual_seed(0)))
    assert [k for k in kinds(found) if k[0] == "rotation"] == [("rotation", 2, 2)] * 2
    assert found.coverage == 1
    assert found.verify(1) < 1e-12


class Last(nn.Module):
    """A stream of which the norm's last position alone is read, or the mean over some."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled
        self.embed, self.head = nn.Embedding(5, 6), nn.Linear(6, 3, bias=False)
        self.gain = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain
        return self.head(h[:, slice(0, None)][:, 1:].mean(1) if self.pooled else h[:, -2:][:, 0])


@pytest.mark.parametrize("pooled", [False, True])
def test_a_stream_may_be_rotated_where_positions_of_it_are_chosen_or_averaged(pooled: bool) -> None:
    found = symmetries(Last(pooled), torch.randint(5, (4, 7)))
    assert kinds(found) == [("orthogonal", 6, 1)]
    assert found.coverage == 1
    assert found.verify(2) < 1e-12


COVERED = {
    "resnet_basic": 1.0,
    "unet_averaged": 1.0,
    "densenet": 1.0,
    "mobilenet_v3": 1.0,
    "vit": 1.0,
    "swin": 0.98,
    "bert": 1.0,
    "gpt2": 1.0,
    "lstm_two_layers": 1.0,
    "gru_two_layers": 1.0,
    "autoencoder_tied": 1.0,
    "instance_norm": 1.0,
    "shufflenet_v2": 0.9,  # a false sign or exchange of two would pass by chance if the identity were tried
    "soft_mixture": 0.7,
    "embedding_bag": 1.0,
    "embedding_bag_max": 1.0,
    "embedding_max_norm": 1.0,
    "state_space": 1.0,
    "fourier_operator": 1.0,
    "graph_attention": 1.0,
    "pruned": 1.0,
}


@pytest.mark.parametrize("name", sorted(COVERED))
def test_networks_as_people_write_them(name: str) -> None:
    found = symmetries(ALL[name].make(), two_inputs(name))
    assert found.coverage >= COVERED[name]
    assert found.verify(5) < 1e-12
    # Not only at random weights: the function at the network's own.
    module, moved = ALL[name].make(), ALL[name].make()
    moved.load_state_dict(found.random(6).apply(module.state_dict()))
    with torch.no_grad():
        a, b = module(two_inputs(name)), moved(two_inputs(name))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


class Again(nn.Module):
    """A layer that is used twice, between two that stand once."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.b(torch.tanh(self.a(x)))))))


def convolutions(norm: nn.Module, end: nn.Module, n: int) -> nn.Module:
    """A norm, a convolution of each channel by itself, one of all, and what reads them."""
    apart = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.SiLU(), nn.Conv2d(8, 6, 1))
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), norm, nn.ReLU(), apart, nn.ReLU(), end, nn.Linear(n, 3))


HARD: dict[str, tuple[nn.Module, Tensor, list[tuple[str, int, int]]]] = {
    "groups of a norm": (
        convolutions(nn.GroupNorm(4, 8), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 6),
        torch.randn(3, 2, 5, 5),
        [("permutation", 2, 4), ("permutation", 4, 1), ("permutation", 6, 1)],
    ),
    "flattened": (
        convolutions(nn.BatchNorm2d(8), nn.Flatten(), 54),
        torch.randn(3, 2, 5, 5),
        [("permutation", 6, 1), ("permutation", 8, 1)],
    ),
    "used twice": (Again(), torch.randn(4, 3), [("permutation", 6, 1)]),
}


@pytest.mark.parametrize("name", list(HARD))
def test_what_is_easily_taken_for_more_than_it_is(name: str) -> None:
    """Channels that lie in groups, under positions, or in a layer that is used twice."""
    module, x, orders = HARD[name]
    found = symmetries(module, x)
    assert [k for k in kinds(found) if k[0] == "permutation"] == orders
    assert found.coverage == 1
    assert found.verify(1) < 1e-12


class Tied(nn.Module):
    """An embedding that is the last layer's weight: its columns go with the stream, and its rows stay."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 7, bias=False)
        self.head.weight = self.embed.weight
        nn.init.zeros_(self.mix.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(self.embed(x).mean(1))) + 0.1)


def test_ties_and_layers_of_zeros_hide_nothing() -> None:
    module = Tied()
    x = torch.randint(7, (4, 3))
    found = symmetries(module, x)
    assert ("permutation", 5, 1) in kinds(found)
    # A sign would pass tanh and the tie, but not the constant; a zero layer would hide that.
    assert not [g for g in found.groups if g.kind in ("sign", "scale")]
    state = found.random(1).apply(module.state_dict())
    torch.testing.assert_close(state["head.weight"], state["embed.weight"])
    assert not torch.equal(state["embed.weight"], module.state_dict()["embed.weight"])


class Chosen(nn.Module):
    """Positions that are chosen by index, by size and by a linear system, for all units alike."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.left, self.right = (nn.Linear(*n) for n in ((3, 6), (6, 2), (3, 5), (3, 5)))

    def forward(self, x: Tensor) -> Tensor:
        h, rows = self.a(x), torch.tensor([2, 0, 2, 1])
        wide = rows.view(1, 4, 1).expand(len(x), 4, 6)
        h = torch.zeros_like(h).scatter_reduce(1, wide, h.gather(1, wide), "amax", include_self=False) + h
        h = torch.zeros_like(h).index_add(1, rows, torch.sin(h)) + h.scatter_add(1, wide, h).topk(4, 1).values
        found = torch.linalg.solve(self.left(x) @ self.right(x).mT + torch.ones(4, 4), h)
        return self.b(torch.sin(found).mean(1))


def test_units_pass_what_chooses_positions_by_index() -> None:
    found = symmetries(Chosen(), torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)))
    assert kinds(found) == [("invertible", 5, 1), ("permutation", 6, 1)]
    assert found.coverage == 1
    assert found.verify(1) < 1e-11  # of a linear system
    # An index that the units hold is another thing: what each of them chooses is not theirs any more.
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh())
    found = symmetries(ByUnit(net), torch.randn(4, 3))
    assert not found.groups


class ByUnit(nn.Module):
    """Each unit chooses one of three numbers by a constant of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).gather(1, torch.tensor([[0, 1, 2, 0, 1, 2]]).expand(len(x), 6)).square().mean(1)


class Sorted(nn.Module):
    """Units that are sorted by an operation that nothing is known of."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.b(self.a(x).kthvalue(2, 1, keepdim=True)[0] * self.a(x))))


def test_what_is_not_known_stays_and_is_named() -> None:
    found = symmetries(Sorted(), torch.randn(4, 3))
    assert 0 < found.coverage <= 1
    assert any("kthvalue" in reason for reason in found.frozen.values())
    assert found.verify() < 1e-12


def test_axes_that_are_said_by_hand() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    axes = {"0.weight": ("units", None), "0.bias": ("units",), "2.weight": (None, "units")}
    found = symmetries(net, torch.randn(4, 3), axes=axes)
    assert kinds(found) == [("permutation", 8, 1)]
    with pytest.raises(InputError, match="outputs that change"):
        symmetries(net, torch.randn(4, 3), axes={"0.weight": ("units", None), "0.bias": ("units",)})
    with pytest.raises(InputError, match="one size of 'units'"):
        symmetries(net, torch.randn(4, 3), axes={"0.weight": ("units", "units")})
    with pytest.raises(InputError, match="for each dimension"):
        symmetries(net, torch.randn(4, 3), axes={"0.weight": ("units",)})


def test_bad_input_is_told() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    with pytest.raises(InputError, match=r"torch\.export"):
        symmetries(Branch(), torch.randn(4, 3))
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    found = symmetries(net, torch.randn(4, 3))
    with pytest.raises(InputError, match=r"'0.bias' of shape \(8,\)"):
        found.random().apply(nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 2)).state_dict())
