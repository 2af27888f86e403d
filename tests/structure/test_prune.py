"""Pruning: damages and evidences against closed forms of orthogonal designs, groups by what taking them away changes.

Nothing here is a test of chance: all is drawn from fixed seeds.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.structure.groups import grouped, spread, sums
from novacula.structure.prune import damage
from novacula.structure.shrinkage import Shrinkage, log_evidence, tuned


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _orthogonal() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    # A design whose Gram matrix is diagonal, with lengths that differ; noise of variance one.
    q = torch.linalg.qr(torch.randn(9, 4, generator=_rng(), dtype=torch.float64))[0]
    x = q * torch.tensor([3.0, 0.5, 2.0, 1.0], dtype=torch.float64)
    y = x @ torch.tensor([0.4, 2.0, -1.0, 0.0], dtype=torch.float64) + torch.randn(9, generator=_rng(1)).double()
    return x, y, x.square().sum(0)


def test_the_damage_is_what_the_log_posterior_loses() -> None:
    x, y, h = _orthogonal()
    precision = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    w = (x.T @ y) / (h + precision)

    def energy(w: torch.Tensor) -> float:
        return float(0.5 * (y - x @ w).square().sum() + 0.5 * (precision * w.square()).sum())

    expected = [energy(torch.where(torch.arange(4) == i, 0.0, w)) - energy(w) for i in range(4)]
    torch.testing.assert_close(damage(w, h, precision), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(damage(w, h, precision, "magnitude"), w.square())


def test_the_evidence_of_what_is_left_is_that_of_the_smaller_model() -> None:
    x, y, h = _orthogonal()
    precision, kept = torch.tensor([1.0, 2.0, 0.5, 3.0]).double(), torch.tensor([1.0, 0.0, 1.0, 1.0]).double()
    w = kept * (x.T @ y) / (h + precision)
    fit = float(-0.5 * (y - x @ w).square().sum() - 4.5 * math.log(2 * math.pi))
    left = x[:, kept > 0]
    covariance = torch.eye(9).double() + left @ torch.diag(1 / precision[kept > 0]) @ left.T
    expected = torch.distributions.MultivariateNormal(torch.zeros(9).double(), covariance).log_prob(y)
    found = log_evidence(fit, {"w": w}, {"w": h}, {"w": precision}, {"w": kept})
    assert found == pytest.approx(float(expected), rel=1e-12)


def test_tuned_precisions_are_the_evidences_maximum() -> None:
    h, w = torch.tensor([[4.0, 0.3], [7.0, 2.0]]).double(), torch.tensor([[0.5, -1.5], [0.2, 0.9]]).double()
    kept, groups = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).double(), torch.tensor([[0, 0], [1, 1]])
    start = {"w": torch.ones(2, 2).double()}
    for _ in range(20):
        start = tuned({"w": w}, {"w": h}, start, {"w": groups}, {"w": kept})
    best = log_evidence(0.0, {"w": w * kept}, {"w": h}, start, {"w": kept})
    for row in range(2):
        for factor in (0.98, 1.02):
            moved = start["w"].clone()
            moved[row] *= factor
            assert log_evidence(0.0, {"w": w * kept}, {"w": h}, {"w": moved}, {"w": kept}) < best


def test_the_prior_has_a_precision_for_each_weight() -> None:
    w = {"a": torch.randn(2, 3, generator=_rng()).double(), "b": torch.randn(2, generator=_rng(1)).double()}
    p = {"a": torch.tensor([[1.0], [4.0]]).double(), "b": torch.tensor(2.0).double()}
    normals = [torch.distributions.Normal(0.0, p[k].expand(w[k].shape).rsqrt()).log_prob(w[k]).sum() for k in w]
    prior = Shrinkage(p)
    torch.testing.assert_close(prior.log_prob(w), torch.stack(normals).sum())
    draws = prior.sample(w, 20_000, _rng())["a"].var(0)  # five standard errors: a false alarm in 300,000
    torch.testing.assert_close(draws, (1 / p["a"]).expand(2, 3), rtol=0.05, atol=0)


def test_groups_are_rows_units_and_heads() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    params = {k: v.detach() for k, v in net.named_parameters()}
    rows, units = grouped(net, params, "row"), grouped(net, params, "unit")
    assert rows["0.weight"].tolist() == [[i] * 3 for i in range(4)]
    assert (rows["0.bias"] == -1).all()
    assert (rows["2.weight"] == -1).all()
    assert units["0.bias"].tolist() == [0, 1, 2, 3]
    assert sums({k: torch.ones_like(w) for k, w in params.items()}, units).tolist() == [4.0] * 4
    found = spread(torch.arange(4.0), units, {k: torch.full_like(w, 9.0) for k, w in params.items()})
    assert found["0.bias"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert (found["2.weight"] == 9.0).all()
    with pytest.raises(nv.InputError, match="a network with a head"):
        grouped(net, params, "head")
    with pytest.raises(nv.InputError, match="by as one of weight"):
        grouped(net, params, "layer")  # type: ignore[arg-type]


def test_a_head_that_is_gone_says_nothing() -> None:
    layer = nn.MultiheadAttention(6, 3, bias=False, batch_first=True)
    params = {k: v.detach() for k, v in layer.named_parameters()}
    heads, x = grouped(layer, params, "head"), torch.randn(2, 5, 6, generator=_rng())
    assert sums({k: torch.ones_like(w) for k, w in params.items()}, heads).tolist() == [48.0] * 3
    # By hand: the heads' outputs add up.
    q, k, v = (x @ w.T for w in params["in_proj_weight"].chunk(3))
    for gone in range(3):
        expected = torch.zeros(2, 5, 6)
        for h in (h for h in range(3) if h != gone):
            part = slice(2 * h, 2 * h + 2)
            weights = (q[..., part] @ k[..., part].mT / math.sqrt(2)).softmax(-1)
            expected += weights @ v[..., part] @ params["out_proj.weight"][:, part].T
        cut = {name: torch.where(heads[name] == gone, 0.0, w) for name, w in params.items()}
        found = torch.func.functional_call(layer, cut, (x, x, x))[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_damage_sees_through_scales_and_magnitude_does_not() -> None:
    # Inputs on scales a thousand apart: what matters has small weights, what does not large ones.
    x = torch.randn(300, 6, generator=_rng()) * torch.tensor([30.0, 30.0, 30.0, 0.03, 0.03, 0.03])
    y = x @ torch.tensor([0.03, -0.05, 0.04, 3.0, -4.0, 3.5]) + 0.3 * torch.randn(300, generator=_rng(1))
    target = nv.Target(nn.Linear(6, 1), nv.Normal(sigma=0.3), nv.Gaussian(0.05))
    post = nv.infer(nv.MAP(lr=0.05), target, nv.Data(x, y), epochs=100)
    found = nv.structure.prune(
        post, nv.Data(x, y), to=3 / 7, epochs=20, folds=3, train=100, lr=0.05, precisions="tensor"
    )
    ours, theirs = (found.at(3 / 7, c) for c in ("damage", "magnitude"))
    assert ours.kept["weight"].tolist() == [[True] * 3 + [False] * 3]
    assert theirs.kept["weight"].tolist() == [[False] * 3 + [True] * 3]
    assert ours.loss < theirs.loss - 1
    assert ours.evidence > theirs.evidence + 100
    gap, error = found.given_up(theirs)
    assert gap > 5 * error


def test_pruned_digits() -> None:
    data = nv.load("digits").subset(range(240))
    target = nv.Target(nv.networks.make("mlp", data.x_shape, 10), nv.Categorical())
    post = nv.infer(nv.MAP(), target, data, epochs=15)
    before = {k: w.clone() for k, w in target.params().items()}
    found = nv.structure.prune(post, data, to=(0.5, 0.9), rounds=1, epochs=3, folds=2, train=10, subset=100)
    assert all(torch.equal(w, before[k]) for k, w in target.params().items())
    assert len(found.table()) == 5
    assert found.dense.sparsity == 0
    for level in found.levels:
        assert level.sparsity == pytest.approx(level.asked, abs=1e-3)
        assert all(bool((level.params[k][~kept] == 0).all()) for k, kept in level.kept.items())
        assert math.isfinite(level.evidence)
        assert level.losses is not None
        assert level.losses.shape == (240,)
        mean = nv.predict(level.posterior, data.x).mean()
        assert mean.shape == (240, 10)
    few: dict[str, Any] = {"rounds": 0, "epochs": 1, "folds": 0, "subset": 50}
    unit = nv.structure.prune(post, data, to=0.3, by="unit", criteria=["damage"], **few).at(0.3)
    first = next(kept for kept in unit.kept.values() if kept.ndim == 2)
    assert bool((first.all(1) | ~first.any(1)).all())
    assert math.isnan(unit.loss)
    with pytest.raises(nv.InputError, match="above 0 and below 1"):
        nv.structure.prune(post, data, to=1.0)
    with pytest.raises(nv.InputError, match="criteria among"):
        nv.structure.prune(post, data, criteria=["size"])  # type: ignore[list-item]
    with pytest.raises(nv.InputError, match=r"at most 0\.\d+ of the weights, by unit"):
        nv.structure.prune(post, data, to=0.999, by="unit", **few)
    with pytest.raises(nv.InputError, match="asked for"):
        found.at(0.7)
