"""Trajectories: straight lines, circles and random walks, whose numbers are known."""

from __future__ import annotations

import math

import pytest
import torch

import novacula as nv
from novacula.core.errors import InputError


def test_a_random_walk_looks_like_one() -> None:
    d, steps = 4000, 60
    w = torch.randn(steps + 1, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(0)
    found = nv.paths.trajectory([{"a": v[:1000].reshape(20, 50), "b": v[1000:]} for v in w])
    assert found.weights == d
    assert found.exponent == pytest.approx(0.5, abs=0.02)
    # |w_T − w_0|² has a relative standard deviation of about √(2/D): 2 %.
    assert found.straightness == pytest.approx(1.0, abs=0.05)
    z = found.autocorrelation[1:] / found.chance[1:]
    assert float(z.square().mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / (steps - 1)))  # one seed in 10,000


def test_a_circle_comes_back_and_brute_force_agrees() -> None:
    angle = torch.linspace(0, 1.5 * math.pi, 13, dtype=torch.float64)
    w = torch.stack([angle.cos(), 2 * angle.sin(), angle], 1)
    found = nv.paths.trajectory([{"w": v} for v in w])
    steps = w[1:] - w[:-1]
    cosines = [torch.cosine_similarity(steps[i], steps[i + 3], dim=0) for i in range(9)]
    assert float(found.autocorrelation[3]) == pytest.approx(float(sum(cosines)) / 9)
    assert float(found.distance[5]) == pytest.approx(float((w[5] - w[0]).norm()))
    assert float(found.cosine[-1]) == pytest.approx(1.0)
    assert float(found.cosine[2]) == pytest.approx(float(torch.cosine_similarity(w[3] - w[0], w[-1] - w[0], dim=0)))
    assert float(found.walk[-1]) == pytest.approx(float(steps.square().sum().sqrt()))


def test_bad_checkpoints_are_refused() -> None:
    w = [{"w": torch.arange(3.0) * t} for t in range(4)]
    with pytest.raises(InputError, match="three checkpoints"):
        nv.paths.trajectory(w[:2])
    with pytest.raises(InputError, match="number 2"):
        nv.paths.trajectory([*w[:2], {"w": torch.zeros(4)}])
    with pytest.raises(InputError, match="NaN or infinity in number 1"):
        nv.paths.trajectory([w[0], {"w": torch.full((3,), torch.nan)}, w[2]])
    with pytest.raises(InputError, match="equal"):
        nv.paths.trajectory([w[0], w[1], w[1]])
