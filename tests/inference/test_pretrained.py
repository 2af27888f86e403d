"""Members of a network that was trained before start near its weights; those of a fresh one at fresh draws."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.params import Params


def truth(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(2 * x[:, :1]) + x[:, 1:2]


def case() -> tuple[nv.Target, nv.Data, Params]:
    with nv.networks.seeded(0):
        net = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 1))
    rng = torch.Generator().manual_seed(0)
    many = torch.randn(1_000, 4, generator=rng)
    target = nv.Target(net, likelihood=nv.Normal(sigma=0.3), prior=nv.Gaussian(1e-2))
    trained = nv.infer(nv.MAP(lr=1e-2), target, nv.Data(many, truth(many)), steps=600, batch_size=1_000)
    few = torch.randn(30, 4, generator=rng)
    return target, nv.Data(few, truth(few)), trained.mode  # type: ignore[attr-defined]


def errors(post: nv.posteriors.Posterior) -> list[float]:
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(9))
    return [float((f - truth(x)).square().mean().sqrt()) for f in nv.predict(post, x).samples]


def test_members_start_near_trained_weights_and_say_so() -> None:
    target, data, weights = case()
    single = errors(nv.infer(nv.MAP(lr=1e-3), target, data, steps=20, batch_size=30, init=weights))[0]
    ensemble = nv.Ensemble(nv.MAP(lr=1e-3), members=3)
    with pytest.warns(nv.NovaculaWarning, match="all members start near them"):
        found = errors(nv.infer(ensemble, target, data, steps=20, batch_size=30, init=weights))
    assert max(found) < single + 0.2
    assert len({round(e, 6) for e in found}) == 3  # they differ
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = nv.infer(
            nv.Ensemble(nv.MAP(lr=1e-3), members=3, start="given"), target, data, steps=20, batch_size=30, init=weights
        )
        fresh = nv.infer(
            nv.Ensemble(nv.MAP(lr=1e-3), members=3, start="fresh"), target, data, steps=20, batch_size=30, init=weights
        )
    assert errors(told) == found
    assert max(errors(fresh)) > single + 0.3


@pytest.mark.parametrize("seed", range(8))
def test_fresh_networks_are_not_taken_for_trained_ones(seed: int) -> None:
    """Fresh weights lie four standard deviations above eight others in three cases of 1,000."""
    with nv.networks.seeded(seed):
        net = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 1))
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nv.infer(
            nv.Ensemble(nv.MAP(), members=2), nv.Target(net, likelihood=nv.Normal()), nv.Data(x, truth(x)), steps=2
        )


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(nv.InputError, match="start among auto, fresh, given"):
        nv.Ensemble(nv.MAP(), start="near")  # type: ignore[arg-type]
