"""Training steps in bfloat16: close to those in float32, in float32 themselves, and in nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.target.batch import Batch
from novacula.target.training import statistics_of, training_gradient


class Seen(list):
    """A list that copies of a network share."""

    def __deepcopy__(self, memo):
        return self


class Watched(nn.Module):
    """Notes the types that its first product has."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.seen = nn.Linear(12, 30), inner, Seen()

    def forward(self, x):
        h = self.first(x)
        self.seen.append(h.dtype)
        return self.inner(h)


def _target(normalised: bool) -> tuple[nv.Target, nv.Data]:
    torch.manual_seed(3)
    layers = [nn.BatchNorm1d(30)] if normalised else []
    net = Watched(nn.Sequential(*layers, nn.Tanh(), nn.Linear(30, 3)))
    x = torch.randn(40, 12)
    return nv.Target(net, prior=nv.Gaussian(2.0)).prepare(nv.Data(x, (x[:, 0] > 0).long() + (x[:, 1] > 0)))


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("members", [1, 2])
def test_a_step_in_bfloat16_is_near_that_in_float32(normalised, members):
    target, data = _target(normalised)
    params = {k: torch.stack([w * (1 + 0.3 * i) for i in range(members)]) for k, w in target.params().items()}
    statistics = statistics_of(target, data, members, {})
    batch = Batch(data.x, data.y, data.n, 0, 10)
    seen = target.forward.module.seen
    found = {}
    for precision in ("full", "bfloat16"):
        seen.clear()
        found[precision] = training_gradient(target, params, statistics, batch, generator(0), precision)
        assert set(seen) == {torch.float32 if precision == "full" else torch.bfloat16}
    (loss, grads, moved), (low_loss, low_grads, low_moved) = found["full"], found["bfloat16"]
    # bfloat16 rounds at 2⁻⁹ relatively; a few roundings in a row, and their sums, stay well below 3 %, and are not nil.
    assert torch.allclose(low_loss, loss, rtol=0.01)
    for k, g in grads.items():
        assert low_grads[k].dtype == torch.float32
        assert (low_grads[k] - g).norm() < 0.03 * g.norm() + 1e-4, k
    assert any(not torch.equal(low_grads[k], grads[k]) for k in grads)
    for k, v in moved.items():
        assert low_moved[k].dtype == v.dtype
        assert torch.allclose(low_moved[k].float(), v.float(), atol=0.01, rtol=0.01)


def test_what_is_trained_in_bfloat16_is_scored_in_float32():
    target, data = _target(False)
    posts = {p: nv.infer(nv.MAP(0.02, precision=p), target, data, steps=60, seed=0) for p in ("full", "bfloat16")}
    target.forward.module.seen.clear()
    chances = {k: nv.predict(post, data.x).mean() for k, post in posts.items()}
    assert all(w.dtype == torch.float32 for w in posts["bfloat16"].mode.values())
    assert chances["bfloat16"].dtype == torch.float32
    assert (chances["bfloat16"] - chances["full"]).abs().max() < 0.05
    again = nv.infer(nv.MAP(0.02, precision="bfloat16"), target, data, steps=60, seed=0)
    assert all(torch.equal(again.mode[k], w) for k, w in posts["bfloat16"].mode.items())


@pytest.mark.parametrize(
    "method", [nv.Ensemble(nv.MAP(precision="bfloat16"), members=2), nv.SWAG(precision="bfloat16")]
)
def test_other_point_estimators_train_in_it_too(method):
    target, data = _target(True)
    target.forward.trains(data.x)  # what train mode changes is found in the weights' own type
    seen = target.forward.module.seen
    seen.clear()
    post = nv.infer(method, target, data, steps=60, seed=0)
    assert seen.count(torch.bfloat16) >= 60
    assert all(w.dtype == torch.float32 for w in post.sample(1, generator(0)).values())


def test_other_precisions_are_refused():
    for method in (nv.MAP, nv.SWAG):
        with pytest.raises(InputError, match="precision among full, bfloat16"):
            method(precision="float16")


def test_learning_in_bfloat16_trains_in_it_and_solves_and_scores_in_float32():
    target, data = _target(False)
    seen = target.forward.module.seen
    seen.clear()
    fit = nv.learn(target, data, precision="bfloat16", epochs=6, folds=2, seed=0)
    assert {torch.bfloat16, torch.float32} <= set(seen)
    assert fit.settings["precision"] == "bfloat16"
    assert all(w.dtype == torch.float32 for w in fit.params.values())
    assert nv.predict(fit.posterior, data.x).mean().dtype == torch.float32
    seen.clear()
    full = nv.learn(target, data, epochs=6, folds=2, seed=0)
    assert torch.bfloat16 not in seen
    assert full.settings["precision"] == "full"
    assert fit.unseen is not None
    assert full.unseen is not None
    assert 0 < (fit.unseen.losses - full.unseen.losses).abs().max() < 0.1
    with pytest.raises(InputError, match="precision among full, bfloat16"):
        nv.learn(target, data, precision="half")  # type: ignore[arg-type]
