"""Moves along which the last layer follows: they leave the prior above a level as it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.params import flatten, unflatten
from novacula.core.rng import generator
from novacula.inference.particles.splitting.surrogate import Surrogate
from novacula.target.many import outputs
from novacula.target.margins import closeness_of


def case(kind: str) -> tuple[nv.Target, nv.Data]:
    """Five inputs, of three classes or of two labels each that are 0 or 1, and a small network in float64."""
    x = torch.randn(5, 2, generator=generator(0), dtype=torch.float64)
    if kind == "classes":
        net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3, bias=False)).double()
        target = nv.Target(net, prior=nv.priors.Gaussian(0.5))
        return target, nv.Data(x, torch.tensor([0, 1, 2, 1, 0]))
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    target = nv.Target(net, prior=nv.FanIn(1.5, 0.7), likelihood=nv.Bernoulli())
    y = (torch.randn(5, 2, generator=generator(1)) > 0).double()
    return target, nv.Data(x, y, task="multilabel")


def above(target: nv.Target, data: nv.Data) -> tuple[Tensor, Tensor, float]:
    """The draws of the prior above a level, the tenth of a hundred thousand, and the level."""
    like = target.params()
    q = flatten(target.prior.sample(like, 100_000, generator(2)), batch_dims=1)
    score = closeness_of(target, unflatten(q, like), data, seed=0)
    level = float(score.quantile(0.9))
    return q[score > level], score[score > level], level


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_what_is_drawn_above_a_level_stays_so_distributed(kind: str) -> None:
    target, data = case(kind)
    target, data = target.prepare(data)
    q, score, level = above(target, data)
    assert len(q) > 9_000
    surrogate = Surrogate.of(target, data, seed=0)
    assert surrogate is not None
    arcs = torch.tensor([2.0, 3.0], dtype=torch.float64).repeat(len(q), 1)
    moved, after, spent, _ = surrogate.move(q, score, score * 0 + level, arcs, 3, generator(3))
    # Scores are those of the networks, and the weights of all layers have moved.
    like = target.params()
    torch.testing.assert_close(after, closeness_of(target, unflatten(moved, like), data, seed=0))
    assert bool((after > level).all())
    assert spent > 4 * len(q)
    assert bool(((moved != q).double().mean(0) > 0.99).all())

    def told(q: Tensor, score: Tensor) -> Tensor:
        f = outputs(target, unflatten(q, like), data.x).flatten(1)
        norms = torch.stack([part.square().sum(1) for part in (q[:, :9], q[:, 9:], f)], 1)
        return torch.cat([q, q.square(), norms, norms.log(), score.clamp(max=0.1)[:, None]], 1)

    # Each mean changes by chance alone: of about 50, one is 4.9 standard errors away once in 20,000.
    change = told(moved, after) - told(q, score)
    z = change.mean(0) / (change.std(0) / len(q) ** 0.5)
    assert float(z.abs().max()) < 4.9


def test_a_last_layer_that_is_all_of_a_network_has_no_such_moves() -> None:
    target, data = nv.Target(nn.Linear(2, 3)).prepare(nv.Data(torch.randn(4, 2), torch.tensor([0, 1, 2, 0])))
    assert Surrogate.of(target, data, seed=0) is None
