"""Training against the posterior: references against each other, planted answers, keeping, and what is refused."""

from __future__ import annotations

import itertools
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.inference import Descent
from novacula.study.sampling import compare, task
from novacula.study.sampling.reference import reference
from novacula.study.sampling.trained import Trained

X = nv.functions.cube(4)
Y = (X[:, 0] + X[:, 1] > 0).long()
ORDER = torch.randperm(16, generator=torch.Generator().manual_seed(2))
TRAIN, REST = ORDER[:7], ORDER[7:]
DATA, HELD_OUT = (X[TRAIN], Y[TRAIN]), (X[REST], Y[REST])
FAST = Descent(lr=0.3, batch_size=4, beyond=(20,))


def network(outputs: int = 1) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, outputs))


def made(outputs: int = 1) -> task.Task:
    return task.Task.of(network(outputs), DATA, HELD_OUT, nv.FanIn(1.5), None)


def by_hand(t: task.Task, seed: int, n: int) -> task.Functions:
    """Networks of the prior that fit, by their formula."""
    w = t.target.prior.sample(t.target.params(), n, torch.Generator().manual_seed(seed))
    hidden = torch.tanh(torch.einsum("nd,shd->snh", X[TRAIN], w["0.weight"]) + w["0.bias"][:, None])
    f = torch.einsum("snh,sch->snc", hidden, w["2.weight"]) + w["2.bias"][:, None]
    right = (f[..., 0] > 0) == (Y[TRAIN] > 0) if f.shape[2] == 1 else f.argmax(2) == Y[TRAIN]
    return t.functions({k: v[right.all(1)] for k, v in w.items()})


@pytest.mark.parametrize("outputs", [1, 2])
def test_both_references_are_the_prior_that_fits(outputs: int):
    t = made(outputs)
    hand = by_hand(t, 5, 60_000)
    for by in ("rejection", "splitting"):
        found = reference(t, by, 640, 10**7, 8, seed=1, progress=lambda *_: None)
        result = compare._compared(t, Trained((hand,), np.ones(len(hand)), 10, 0), found, Descent(), 9, {}, 0)
        # p is below a thousandth in one of a thousand seeds.
        assert result.checkpoints[0].functions.p_value > 1e-3
        assert result.checkpoints[0].errors.p_value > 1e-3
        share = result.checkpoints[0].share
        assert share.low < 1 < share.high or abs(share.value - 1) < 0.05
        truth = math.log(len(hand) / 60_000)
        assert abs(found.log_evidence[0] - truth) < 4 * math.hypot(found.log_evidence[1], len(hand) ** -0.5)
        # The standard deviation of Mann and Whitney's share; that of splitting is larger, as its draws are worth less.
        sizes = result.checkpoints[0].functions.sizes
        assert abs(result.checkpoints[0].larger - 0.5) < 4 * math.sqrt((1 / sizes[0] + 1 / sizes[1]) / 12)


@pytest.mark.parametrize("covered", [True, False])
def test_the_infinitely_wide_reference_is_the_process_that_fits(covered: bool):
    act = nn.ReLU() if covered else nn.Softplus()
    net = nn.Sequential(nn.Linear(4, 300), act, nn.Linear(300, 1, bias=False))
    t = task.Task.of(net, DATA, HELD_OUT, nv.FanIn(1.5, 0.7), None)
    found = reference(t, "nngp", 2_000, 10**6, 1, seed=1, progress=lambda *_: None)
    x = torch.cat([X[TRAIN], X[REST]]).double()
    if covered:  # 0.7² + 1.5² E[relu relu] of outputs of variances q = .7² + 1.5² |x|²/4, by the formula of two angles
        inner = 0.49 + 2.25 * (x @ x.T) / 4
        size = inner.diagonal().sqrt()
        angle = (inner / size[:, None] / size).clamp(-1, 1).acos()
        cross = size[:, None] * size * (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)
        k = 2.25 * cross
    else:
        k = nv.kernels.monte_carlo(net, nv.FanIn(1.5, 0.7), x.float(), draws=40_000, seed=9)[:, 0, :, 0]
    k = k + 1e-6 * k.diagonal().mean() * torch.eye(16)
    noise = torch.randn(100_000, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    f = noise @ torch.linalg.cholesky(k.double()).T
    fits = ((f[:, :7] > 0) == (Y[TRAIN] > 0)).all(1)
    assert fits.sum() > 500
    assert abs(found.log_evidence[0] - math.log(float(fits.double().mean()))) < 5 * float(fits.sum()) ** -0.5 + 0.05
    size = f[fits][:, :7].square().mean(1).sqrt()
    margin = f[fits][:, :7].abs().amin(1) / size
    hand = task.Functions((f[fits][:, 7:] > 0).numpy().astype(np.uint8), margin.numpy(), np.zeros(int(fits.sum()), int))
    result = compare._compared(t, Trained((hand,), np.ones(len(hand)), 10, 0), found, Descent(), 9, {}, 0)
    assert result.checkpoints[0].functions.p_value > 1e-3  # below that in one of a thousand seeds
    assert abs(result.checkpoints[0].larger - 0.5) < 4 * math.sqrt((1 / len(hand) + 1 / 2_000) / 12)
    with pytest.raises(InputError, match="one output"):
        reference(made(2), "nngp", 10, 100, 1, seed=0, progress=lambda *_: None)


def test_margins_labels_and_shares_are_what_they_are_called():
    t = made(2)
    functions = by_hand(t, 0, 4_000)
    assert functions.labels.shape[1] == len(REST)
    weights = t.target.prior.sample(t.target.params(), 3, torch.Generator().manual_seed(0))
    f = torch.stack([t.target.forward({k: v[i] for k, v in weights.items()}, X[TRAIN]) for i in range(3)])
    own = f.gather(2, Y[TRAIN][None, :, None].expand(3, -1, 1))[..., 0]
    least = (own - f.gather(2, 1 - Y[TRAIN][None, :, None].expand(3, -1, 1))[..., 0]).amin(1)
    size = (f - f.mean(2, keepdim=True)).square().mean((1, 2)).sqrt()
    assert np.allclose(t.functions(weights).margins, (least / size).detach().numpy(), rtol=1e-5)
    share = compare._share(0.5, compare.Interval(0.2, 0.18, 0.22), compare.Interval(0.1, 0.09, 0.11))
    assert math.isclose(share.value, 0.75)
    assert math.isclose(share.high - share.value, math.hypot(0.02, 0.75 * 0.01) / 0.4)
    assert math.isnan(compare._share(0.5, compare.Interval(0.2, 0.1, 0.3), compare.Interval(0.49, 0.45, 0.53)).value)
    a, b = np.random.default_rng(0).normal(size=(2, 40)).round(1)
    assert math.isclose(compare._larger(a, b), np.mean([(x > y) + 0.5 * (x == y) for x, y in itertools.product(a, b)]))


def test_training_near_the_origin_is_no_draw_of_the_posterior(tmp_path: Path):
    how = {"prior": nv.FanIn(1.5), "nets": 200, "points": 9, "draws": 400, "named": {"none": [0] * 9}}
    ask = partial(nv.study.sgd_vs_bayes, network(), DATA, HELD_OUT, init=nv.FanIn(0.05, 0.05), keep=tmp_path, **how)
    near = ask(method=FAST)
    stop, beyond = near.checkpoints
    assert stop.functions.p_value == 1e-3
    assert stop.functions.least.low > 0.1
    assert near.nets == near.tried == 200
    assert beyond.beyond == 20
    assert stop.named["none"].trained.value == 0
    # Labels, counts and pairs hold together.
    labels, bayes, trained = near.counts
    assert bayes.sum() == near.draws[0] == 400
    assert trained.sum(1).tolist() == [200, 200]
    is_target = (labels == Y[REST].numpy()).all(1)
    assert math.isclose(trained[0][is_target].sum() / 200, stop.named["target"].trained.value)
    rise = beyond.named["target"].trained.value - stop.named["target"].trained.value
    assert math.isclose(near.overtraining[0].to_target.value, rise, abs_tol=1e-12)
    assert math.isclose(near.overtraining[0].error.value, beyond.error.value - stop.error.value, abs_tol=1e-12)
    assert "stop + 20" in str(near)
    # What was kept is taken, and is the same; other settings are another thing.
    files = sorted(p.name for p in tmp_path.iterdir())
    assert len(files) == 2
    assert ask(method=FAST).to_dict() == near.to_dict()
    assert sorted(p.name for p in tmp_path.iterdir()) == files


def test_what_is_refused():
    for bad in (
        {"points": 10},
        {"by": "guess"},
        {"named": {"short": "01"}},
        {"nets": 0},
        {"nets": 10**12},
        {"epochs": 1, "method": Descent(lr=1e-6), "nets": 20},
    ):
        with pytest.raises(InputError):
            nv.study.sgd_vs_bayes(network(), DATA, HELD_OUT, **{"points": 9, "nets": 4, **bad})
    with pytest.raises(InputError, match="class"):
        nv.study.sgd_vs_bayes(network(), (X[TRAIN], torch.randn(7)), HELD_OUT, points=9)
    with pytest.raises(InputError, match="same input with different labels"):
        nv.study.sgd_vs_bayes(network(), (X[[0, 0, 1]], Y[[0, 15, 1]]), HELD_OUT, points=9)
    never = nn.Linear(4, 1, bias=False)  # says class 0 at the origin, whatever its weights
    contrary = (torch.cat([torch.zeros(1, 4), X[1:4]]), torch.tensor([1, 0, 0, 1]))
    t = task.Task.of(never, contrary, HELD_OUT, nv.FanIn(), None)
    with pytest.raises(InputError, match="networks of the prior that fit"):
        reference(t, "rejection", 9, 999, 1, seed=0, progress=lambda *_: None)
