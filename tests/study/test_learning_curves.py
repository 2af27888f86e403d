"""What a prior is worth in data: planted curves, real networks, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

import novacula as nv
from novacula import InputError
from novacula.study import Curves, curve

SIZES = (100, 200, 400, 800, 1600)


def curves(factor: float, spread: float = 0.0, n: int = 400, seed: int = 0) -> Curves:
    """A loss that is a straight line in log n, and one that is where it would be with ``factor`` times the data."""
    rng = torch.Generator().manual_seed(seed)

    def losses(times: float) -> torch.Tensor:
        mean = torch.tensor([3.0 - 0.3 * math.log(times * s) for s in SIZES], dtype=torch.float64)
        noise = torch.randn(3, len(SIZES), n, generator=rng, dtype=torch.float64)
        return mean[None, :, None] + spread * (noise + noise.mean(2, keepdim=True))

    return Curves(SIZES, {"with": losses(factor), "none": losses(1.0)})


@pytest.mark.parametrize("factor", [1.0, 1.7, 3.1])
def test_a_planted_ratio_is_found(factor: float) -> None:
    found = curves(factor).worth("with", "none")
    # At the largest sizes the other never gets there, so that the mean is a lower bound; below, the ratio is exact.
    exact = [min(factor, SIZES[-1] / s) for s in SIZES]
    assert found.value == pytest.approx(math.exp(sum(map(math.log, exact)) / len(exact)), rel=1e-6)
    assert found.bound == (factor > 1)
    assert found.sizes == SIZES
    back = curves(factor).worth("none", "with")
    assert back.value == pytest.approx(1 / factor, rel=1e-6)
    assert not back.bound


def test_intervals_hold_the_ratio() -> None:
    """A ratio below 1, where nothing is bounded; 40 data sets of 3 repetitions, whose bootstrap is a little narrow.

    Of 90 % intervals at least 28 of 40 hold the ratio, but for a probability below .001 if they hold 85 %.
    """
    held = 0
    for seed in range(40):
        low, high = curves(2.0, 0.3, seed=seed).worth("none", "with").interval
        held += low <= 0.5 <= high
    assert held >= 28


def test_gains_are_paired() -> None:
    found = curves(2.0, 0.2)
    gain, stderr = found.gain("with", "none")
    torch.testing.assert_close(gain, found.mean("none") - found.mean("with"))
    assert bool((stderr > 0).all())
    assert set(found.to_dict()["losses"]) == {"with", "none"}
    with pytest.raises(InputError, match="one of with, none"):
        found.mean("flip")
    far = Curves(SIZES, {"a": torch.full((1, 5, 4), 2.0), "b": torch.full((1, 5, 4), 1.0)})
    with pytest.raises(InputError, match="wider range"):
        far.worth("a", "b")


def test_the_prior_that_drew_the_weights_is_worth_more_than_a_flat_one() -> None:
    """A ridge of the right precision against least squares: 30 inputs, noise 1, 40 to 120 rows, 2 orders."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(800, 30, generator=rng)
    y = x @ (0.3 * torch.randn(30, 1, generator=rng)) + torch.randn(800, 1, generator=rng)
    data, net = nv.Data(x, y), torch.nn.Linear(30, 1)
    noise = nv.Normal(sigma=1.0)
    flat, right = (nv.Target(net, likelihood=noise, prior=nv.Gaussian(p)) for p in (1e-3, 11.0))
    options = {"test": 400, "repetitions": 2, "steps": 150, "method": nv.MAP(lr=0.1)}
    found = curve({"flat": flat, "right": right}, data, [40, 60, 120], **options)
    assert found.losses["flat"].shape == (2, 3, 400)
    assert bool((found.mean("flat").diff() < 0).all())
    assert found.worth("right", "flat").interval[0] > 1.1
    gain, stderr = found.gain("right", "flat")
    assert float(gain[0]) > 3 * float(stderr[0])
    again = curve({"flat": flat, "right": right}, data, [40, 60, 120], **options)
    assert torch.equal(found.losses["right"], again.losses["right"])


def test_what_cannot_be_split_is_refused() -> None:
    data, net = nv.load("digits").subset(range(60)), torch.nn.Linear(64, 10)
    with pytest.raises(InputError, match="two sizes or more"):
        curve({"a": net}, data, [20])
    with pytest.raises(InputError, match="enough examples"):
        curve({"a": net}, data, [20, 60])
