"""Which copies of the inputs training, scores and predictions take."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.rng import generator
from novacula.posteriors import Point
from novacula.target import Copies, Target
from novacula.target.copies import fixed_copies, member_outputs

F64 = torch.float64


def made(invariance: nv.invariances.Invariance | None) -> tuple[Target, nv.Data]:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(30, 1, 5, 6, generator=rng, dtype=F64)
    y = torch.randint(3, (30,), generator=rng)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(30, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    return Target(network, invariance=invariance, copies=Copies(4, 3, 5)), nv.Data(x, y)


POLICIES = {"policy": nv.Trivial(), "composed": nv.Compose(nv.Flip(eta=torch.tensor([0.5])), nv.Trivial())}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_for_training_alone(name: str) -> None:
    target, data = made(POLICIES[name])
    plain, params = dataclasses.replace(target, invariance=None), target.params()
    # One changed copy of each input in training, whatever `Copies` says …
    xs = target.warp(data.x, target.copies.train, generator(1))
    assert xs.shape == (30, 1, 1, 5, 6)
    assert not torch.equal(xs.squeeze(1), data.x)
    # … and the inputs themselves wherever something is scored or predicted.
    assert torch.equal(fixed_copies(target, data.x, 5, 0), data.x.unsqueeze(1))
    single = {k: w.unsqueeze(0) for k, w in params.items()}
    for average, shape in ((True, (1, 30, 3)), (False, (1, 30, 1, 3))):
        assert member_outputs(target, single, data.x, copies=5, seed=0, average=average).shape == shape
    expected = nv.predict(Point(params, plain), data.x).mean()
    assert torch.equal(nv.predict(Point(params, target), data.x).mean(), expected)
    assert torch.equal(target.outputs(params, data.x, 3, generator(1)), plain.forward(params, data.x))
    for (ours, _), (theirs, _) in zip(
        target.problem(params, data, seed=0).batches(), plain.problem(params, data, seed=0).batches(), strict=True
    ):
        assert torch.equal(ours, theirs)
    score = nv.evidence.Laplace(structure="exact")
    scores = [score(t, data, params, seed=0) for t in (target, plain)]
    assert scores[0].value == scores[1].value
    assert any("scored as they are" in text for text in scores[0].assumptions)
    assert not any("scored as they are" in text for text in scores[1].assumptions)


def test_an_invariance_is_averaged_over_everywhere() -> None:
    invariance = nv.Affine(eta=torch.tensor([0.3], dtype=F64), only=("rotation",))
    target, data = made(invariance)
    assert target.averaged is invariance
    assert target.warp(data.x, 4, generator(1)).shape == (30, 4, 1, 5, 6)
    assert torch.equal(target.scored(data.x, 4, generator(1)), target.warp(data.x, 4, generator(1)))
    assert fixed_copies(target, data.x, 5, 0).shape == (30, 5, 1, 5, 6)
    assert made(None)[0].averaged is None


def test_training_with_a_policy_learns_the_labels() -> None:
    target, data = made(POLICIES["policy"])
    fit = nv.infer(nv.MAP(), target, data, steps=20, batch_size=10, seed=0)
    same = nv.infer(nv.MAP(), target, data, steps=20, batch_size=10, seed=0)
    plain = nv.infer(nv.MAP(), dataclasses.replace(target, invariance=None), data, steps=20, batch_size=10, seed=0)
    found = [nv.predict(posterior, data.x).mean() for posterior in (fit, same, plain)]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])
