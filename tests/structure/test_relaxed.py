"""Relaxed layers: the function that came, closed forms of the parts, and planted structure that the evidence finds."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import novacula as nv

F64 = torch.float64


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def between_images() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(2 * 6 * 4, 3 * 3 * 2), nn.Tanh(), nn.Unflatten(1, (3, 3, 2)),
        nn.Conv2d(3, 4, (3, 1), padding=(1, 0)), nn.Flatten(), nn.Linear(24, 2),
    ).double()  # fmt: skip


def test_the_function_stays_and_only_layers_between_images_are_relaxed() -> None:
    net, x = between_images(), drawn(0, 5, 2, 6, 4)
    relaxed = nv.structure.relax(net, x)
    torch.testing.assert_close(relaxed(x), net(x), rtol=0, atol=0)
    alone = nv.structure.keep(relaxed, {"1": "dense", "4": "convolution"})
    torch.testing.assert_close(alone(x), net(x), rtol=0, atol=0)
    assert sorted(w.numel() for w in alone.parameters()) == sorted(w.numel() for w in net.parameters())
    assert nv.structure.parts(relaxed) == {
        "1": {
            "dense": ["1.dense.weight", "1.dense.bias"],
            "convolution": ["1.convolution.weight", "1.convolution.bias"],
        },
        "4": {
            "convolution": ["4.convolution.weight", "4.convolution.bias"],
            "varying": ["4.varying.weight"],
        },
    }
    assert not any("dense" in name for name, _ in net.named_parameters())


def test_a_dense_layer_holds_its_convolution() -> None:
    """What the convolution adds is a dense map, of strided windows: the matrix of it taken column by column."""
    layer = nv.structure.relax(between_images(), drawn(0, 1, 2, 6, 4), kernel=3).get_submodule("1")
    kernel = drawn(1, 3, 2, 3, 3)
    with torch.no_grad():
        layer.get_submodule("convolution").weight.copy_(kernel)  # type: ignore[operator, union-attr]
        layer.get_submodule("dense").weight.zero_()  # type: ignore[operator, union-attr]
        layer.get_submodule("dense").bias.zero_()  # type: ignore[operator, union-attr]
    columns = layer(torch.eye(48, dtype=F64)).T.unflatten(0, (3, 3, 2)).unflatten(-1, (2, 6, 4)).detach()
    for row, column in ((0, 0), (1, 1), (2, 0)):
        for dy in range(3):
            for dx in range(3):
                y, x = 2 * row + dy - 1, 2 * column + dx - 1
                if 0 <= y < 6 and 0 <= x < 4:
                    torch.testing.assert_close(columns[:, row, column, :, y, x], kernel[:, :, dy, dx])
    assert int((columns != 0).sum()) == 3 * 2 * sum(
        (min(2 * r + 2, 6) - max(2 * r - 1, 0)) * (min(2 * c + 2, 4) - max(2 * c - 1, 0))
        for r in range(3)
        for c in range(2)
    )


def test_what_stands_beside_a_convolution_is_a_filter_of_each_place() -> None:
    net, x = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, stride=(1, 2)), nn.Tanh()).double(), drawn(2, 4, 2, 5, 6)
    relaxed = nv.structure.relax(net, x, frequencies=2)
    layer = relaxed.get_submodule("0")
    partner = layer.get_submodule("varying").weight
    assert isinstance(partner, nn.Parameter)
    assert partner.shape == (3 * 8, 2, 3, 3)
    with torch.no_grad():
        partner.copy_(drawn(3, *partner.shape))
    out = layer(x)
    windows = F.unfold(x, 3, padding=1, stride=(1, 2)).unflatten(2, (5, 3))  # (N, 18, H', W')
    rows, columns = torch.arange(5, dtype=F64), torch.arange(3, dtype=F64)
    for row, column in ((0, 0), (3, 2), (4, 1)):
        filters = net[0].weight.detach().clone()  # type: ignore[union-attr, operator]
        for b, (i, j) in enumerate([(i, j) for i in range(3) for j in range(3)][1:]):
            of_y = (math.pi * i * (rows + 0.5) / 5).cos()
            of_x = (math.pi * j * (columns + 0.5) / 3).cos()
            wave = of_y[row] * of_x[column] / (of_y.square().mean() * of_x.square().mean()).sqrt()
            filters += wave * partner.detach().unflatten(0, (3, 8))[:, b]
        expected = windows[:, :, row, column] @ filters.flatten(1).T + net[0].bias  # type: ignore[union-attr, operator]
        torch.testing.assert_close(out[:, :, row, column], expected)


@pytest.mark.parametrize("planted", ["convolution", "dense"])
def test_the_exact_evidence_ranks_the_parts_by_what_was_planted(planted: str) -> None:
    """A dense start and a linear truth: a convolution, or a map of places; precisions solved for, evidence exact."""
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 32, bias=False), nn.Unflatten(1, (2, 4, 4)), nn.Identity(), nn.Flatten()
    ).double()
    relaxed = nv.structure.relax(net, drawn(0, 1, 1, 4, 4), kernel=3)
    x = drawn(4, 50, 1, 4, 4)
    truth = F.conv2d(x, drawn(5, 2, 1, 3, 3) / 2, padding=1).flatten(1)
    if planted == "dense":
        truth = x.flatten(1) @ drawn(6, 16, 32) / 4
    data = nv.Data(x, truth + 0.3 * drawn(7, *truth.shape))
    value, share = {}, {}
    for part in ("both", "dense", "convolution"):
        module = relaxed if part == "both" else nv.structure.keep(relaxed, {"1": part})
        target = nv.Target(module, nv.Normal(sigma=0.3))
        params = target.params()
        for _ in range(3):
            params = nv.evidence.newton_step(target, data, params, seed=0)
            target = nv.evidence.tune(target, data, params, learn=("prior",), seed=0).target
        value[part] = float(nv.evidence.LinearGaussian()(target, data, params, seed=0))
        share[part] = nv.structure.shares(module, nv.evidence.effective(target, data, params))["1"]
    other = "dense" if planted == "convolution" else "convolution"
    assert value[planted] > value["both"] - 5
    assert value["both"] > value[other] + 100
    assert share[planted][planted] > 10
    if planted == "dense":
        assert share["both"]["dense"] > 0.95 * sum(share["both"].values())


def test_effective_parameters_are_those_of_the_inverse() -> None:
    x, y = drawn(8, 30, 3), drawn(9, 30, 2)
    net = nn.Linear(3, 2).double()
    target = nv.Target(net, nv.Normal(sigma=0.5), nv.Gaussian(log_precision=torch.tensor([1.3, -0.4], dtype=F64)))
    found = nv.evidence.effective(target, (x, y), target.params(), structure="exact")
    wide = torch.cat([x, x.new_ones(30, 1)], 1)
    precision = torch.diag(torch.tensor([1.3, 1.3, 1.3, -0.4], dtype=F64).exp())
    h = wide.T @ wide / 0.25
    gamma = (h @ torch.linalg.inv(h + precision)).diagonal() * 2  # both outputs alike
    assert found["weight"] == pytest.approx(float(gamma[:3].sum()), rel=1e-6)
    assert found["bias"] == pytest.approx(float(gamma[3]), rel=1e-6)
    alone = nv.evidence.effective(target, (x, y), target.params(), structure="kron")
    apart = h[:3, :3] @ torch.linalg.inv(h[:3, :3] + precision[:3, :3])
    assert alone["weight"] == pytest.approx(2 * float(apart.diagonal().sum()), rel=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    net, x = between_images(), drawn(0, 2, 2, 6, 4)
    cases = [
        lambda: nv.structure.relax(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).double(), x),
        lambda: nv.structure.relax(net, x, kernel=4),
        lambda: nv.structure.relax(net, x, frequencies=0),
        lambda: nv.structure.relax(net, x[:, :1]),
        lambda: nv.structure.keep(nv.structure.relax(net, x), {"1": "varying"}),
        lambda: nv.evidence.effective(nv.Target(net, prior=nv.StudentT()), (x, torch.zeros(2)), {}),
        lambda: nv.evidence.effective(nv.Target(net), (x, torch.tensor([0, 1])), {}, structure="all"),  # type: ignore[arg-type]
    ]
    for case in cases:
        with pytest.raises(nv.InputError):
            case()
