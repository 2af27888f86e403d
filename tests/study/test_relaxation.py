"""Relaxed layers, decided: a planted convolution and a planted map of places, with labels that a network makes."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import novacula as nv


@pytest.fixture(autouse=True)
def quiet() -> None:
    warnings.simplefilter("ignore")


def labelled(planted: str) -> nv.Data:
    """Images whose outputs are those of a convolution, or of a dense map; noise of .1."""
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(300, 1, 4, 4, generator=rng)
    y = F.conv2d(x, torch.randn(2, 1, 3, 3, generator=rng) / 3, padding=1).flatten(1)
    if planted == "dense":
        y = x.flatten(1) @ torch.randn(16, 32, generator=rng) / 4
    return nv.Data(x, y + 0.1 * torch.randn(y.shape, generator=rng))


@pytest.mark.parametrize("planted", ["convolution", "dense"])
def test_each_layer_ends_as_what_was_planted(planted: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Unflatten(1, (2, 4, 4)), nn.Identity(), nn.Flatten())
    data = labelled(planted)
    target = nv.Target(nv.structure.relax(net, data.x[:2], kernel=3), nv.Normal(sigma=0.1))
    found = nv.study.relaxation(target, data, steps=60, rounds=4, lr=0.02, subset=100)
    assert found.share(planted) > 0.9
    (kept,) = [t for t in found.trials if t.kept] or [None]
    assert kept is None or (kept.part == planted and kept.without > kept.before)
    assert sum(len(of) for of in found.effective.values()) == 2
    residual = nv.predict(found.posterior, data.x).mean() - data.y
    assert float(residual.square().mean().sqrt()) == pytest.approx(0.1, rel=0.25)
    assert math.isfinite(found.evidence)


def test_a_network_without_relaxed_layers_is_refused() -> None:
    data = labelled("dense")
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32))
    with pytest.raises(nv.InputError, match="relax"):
        nv.study.relaxation(nv.Target(net, nv.Normal()), data)
