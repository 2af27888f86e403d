"""Extents by what networks say of unseen examples: the value, its gradient, the minibatches, and planted cases."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import novacula as nv
from novacula.core.params import Params, stack
from novacula.core.rng import derive, generator
from novacula.data.folds import folds_of
from novacula.inference.loop import run
from novacula.inference.optimising.map import MAP
from novacula.invariances.perturb import parse, perturb
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning import blind
from novacula.study.learning.blind import BlindExtents, BlindScore, networks_of


def case() -> tuple[nv.Target, nv.Data, list[Params]]:
    rng = torch.Generator().manual_seed(3)
    data = nv.Data(torch.rand(12, 1, 6, 6, generator=rng).double(), torch.arange(12) % 3)
    net = nv.networks.make("mlp", (1, 6, 6), 3, seed=0).double()
    invariance = nv.Affine(eta=torch.tensor([0.2, 0.3]).double(), only=("rotation", "shear"))
    target, data = nv.Target(net, invariance=invariance).prepare(data)
    weights = [{k: w + 0.1 * k_ for k, w in target.params().items()} for k_ in range(2)]
    return target, data, weights


def test_the_value_is_the_log_likelihood_of_averaged_outputs_on_unseen_rows() -> None:
    target, data, weights = case()
    for w, r in zip(weights, [torch.tensor([0, 3, 7]), torch.tensor([1, 2])], strict=True):
        by_hand, rng = 0.0, generator(4, "blind")
        noise = target.invariance.noise(len(r) * 5, data.x[r], rng)  # type: ignore[union-attr]
        for i, row in enumerate(r.tolist()):
            copies = [
                target.forward(w, target.invariance(data.x[row : row + 1], noise[5 * i + s : 5 * i + s + 1]))  # type: ignore[misc]
                for s in range(5)
            ]
            mean = torch.stack(copies).mean(0)[0]
            by_hand += float(mean.log_softmax(0)[data.y[row]])
        assert float(blind.blind(target, w, data, r, 5, seed=4)) == pytest.approx(by_hand, rel=1e-12)


def test_the_score_carries_its_gradient_and_stands_for_all_examples() -> None:
    target, data, weights = case()
    fit = CrossFit(
        target, data, torch.arange(12) % 2, tuple(stack([w]) for w in weights), torch.zeros(1, 12, 3), warnings=()
    )
    score = BlindScore(fit, examples=4, copies=3)

    def value(eta: torch.Tensor) -> torch.Tensor:
        return score(target.with_learnable({"invariance.eta": eta}), data, {}, seed=1).value

    eta = torch.tensor([0.2, 0.3]).double().requires_grad_()
    (slope,) = torch.autograd.grad(value(eta), eta)
    for i in range(2):
        step = 1e-4 * torch.eye(2).double()[i]
        numeric = float(value(eta.detach() + step) - value(eta.detach() - step)) / 2e-4
        # Bilinear interpolation has kinks, which a finite difference may straddle.
        assert float(slope[i]) == pytest.approx(numeric, rel=2e-2, abs=1e-3)
    whole = BlindScore(fit, examples=6, copies=3)(target, data, {}, seed=1)
    rows = [torch.arange(0, 12, 2), torch.arange(1, 12, 2)]
    shuffled = [r[torch.randperm(6, generator=rng)] for rng in [generator(1, "rows")] for r in rows]
    by_hand = sum(
        float(blind.blind(target, w, data, r, 3, derive(1, k)))
        for k, (w, r) in enumerate(zip(weights, shuffled, strict=True))
    )
    assert float(whole) == pytest.approx(by_hand, rel=1e-12)


def test_minibatches_take_every_row_once_before_any_twice() -> None:
    rows = torch.cat([blind._minibatch(12, 4, step, seed=0) for step in range(6)])
    assert sorted(rows[:12].tolist()) == list(range(12))
    assert sorted(rows[12:].tolist()) == list(range(12))
    assert rows[:12].tolist() != rows[12:].tolist()
    assert len(blind._minibatch(3, 10, 0, seed=0)) == 3


def searched(x: torch.Tensor, steps: int, path: Path | None = None, *, resume: bool = False) -> dict[str, float]:
    data = nv.Data(x[:400], nv.load("digits").y[:400])
    net = nv.networks.make("mlp", data.x_shape, 10, seed=0)
    target, data = nv.Target(net, invariance=nv.Affine(only=("rotation", "shear"))).prepare(data)
    method = BlindExtents(folds_of(data, 3), MAP(lr=0.01), 32)
    outcome = run(method, target, data, steps=steps, checkpoint=path, resume=resume)
    assert len(networks_of(outcome.state)) == 3
    assert len(method.posterior(target, outcome.state).parts) == 3
    return {k.removeprefix("extent/"): v for k, v in outcome.history[-1].items() if k.startswith("extent/")}


def test_each_network_trains_under_its_own_extents_and_in_the_end_under_their_mean() -> None:
    target, data, _ = case()
    method = BlindExtents(torch.arange(12) % 3, MAP(lr=0.01), 4, moves=8, lr=0.1, examples=4, copies=2)
    seen = list[list[float]]()

    class Watched(MAP):
        def step(self, target: Any, state: Any, batch: Any, rng: Any) -> Any:
            seen.append(target.learnable()["invariance.eta"].tolist())
            return super().step(target, state, batch, rng)

    watched = dataclasses.replace(method, optimiser=Watched(lr=0.01))
    state = run(watched, target, data, steps=40).state
    assert state.adam.count
    own = state.eta.abs()
    assert len({tuple(e) for e in own.tolist()}) == 3
    torch.testing.assert_close(state.apart(target), own.std(0))
    mean = (1.125 * own.mean(0)).clamp(max=1.0)
    for last in seen[-3:]:  # the networks of the last step
        torch.testing.assert_close(torch.tensor(last).double(), torch.stack([mean[0], 1.125 * own.mean(0)[1]]))
    halfway = seen[3 * 20 : 3 * 21]
    assert len({tuple(e) for e in halfway}) == 3


def test_digits_turned_by_any_angle_ask_for_wide_rotations_and_upright_ones_do_not() -> None:
    """Over seeds 0 to 5 the rotations lay between .75 and .89 of a half turn, and at .00."""
    upright = nv.load("digits").x
    turned = searched(perturb(upright, [parse("rotate=180")], seed=1), 700)
    assert turned["rotation"] > 0.6
    assert turned["shear"] < 0.1
    assert searched(upright, 700)["rotation"] < 0.1


def test_an_interrupted_search_goes_on_to_the_same_end(tmp_path: Path) -> None:
    x = nv.load("digits").x
    whole = searched(x, 120)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, record: dict[str, float]) -> None:
        if done == 40:
            raise Stopped

    data = nv.Data(x[:400], nv.load("digits").y[:400])
    net = nv.networks.make("mlp", data.x_shape, 10, seed=0)
    target, data = nv.Target(net, invariance=nv.Affine(only=("rotation", "shear"))).prepare(data)
    method = BlindExtents(folds_of(data, 3), MAP(lr=0.01), 32)
    with pytest.raises(Stopped):
        run(method, target, data, steps=120, checkpoint=tmp_path / "run", progress=stop)
    assert searched(x, 120, tmp_path / "run", resume=True) == whole
