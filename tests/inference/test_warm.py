"""Networks whose prior is warmed find what there is before they decay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import novacula as nv
from novacula.core.rng import generator
from novacula.inference.loop import run
from novacula.inference.variational import ivon
from novacula.target.batch import Batch


@pytest.mark.parametrize(("step", "prior"), [(0, 0.0), (10, 0.25), (20, 0.5), (40, 1.0), (79, 1.0)])
def test_the_prior_rises_over_a_share_of_the_run(step: int, prior: float) -> None:
    batch = Batch(torch.zeros(1), torch.zeros(1), 10, step, 80)
    assert batch.rising(0.5).prior == prior
    assert batch.rising(0.0).prior == 1


@pytest.mark.parametrize(("behind", "step", "prior"), [(0, 5, 0.125), (10, 5, 0.375), (30, 9, 0.975), (40, 0, 1.0)])
def test_parts_of_a_training_have_the_prior_of_one(behind: int, step: int, prior: float) -> None:
    """Of 80 steps in all, ten in this part: it is as in a run of 80 at that step."""
    batch = Batch(torch.zeros(1), torch.zeros(1), 10, step, 10, trained=(behind, 80))
    assert batch.rising(0.5).prior == prior
    assert replace(batch, step=behind + step, steps=80, trained=False).rising(0.5).prior == prior


def hues() -> tuple[Tensor, Tensor]:
    """Digits in two colours, 11° of hue to either side of red, and which it is."""
    data = nv.load("digits")
    x = data.x[:400]
    x = x / x.amax()
    side = 2.0 * (torch.arange(400) % 2) - 1
    red = torch.cat([x, 0.3 * x, 0.3 * x], 1)
    return nv.Colour(eta=torch.ones(1), only=("hue",))(red, 0.06 * side[:, None]), (side > 0).long()


def test_a_network_that_would_decay_to_the_origin_learns() -> None:
    """Plain training of a convolutional network tells the two colours apart; with all of the prior it does not."""
    x, y = hues()
    net = nv.networks.make("cnn", x.shape[1:], 2, seed=0)
    method = nv.MAP(lr=4e-3)
    found = {
        warm: nv.predict(nv.infer(replace(method, warm=warm), net, nv.Data(x, y), steps=400), x).mean()
        for warm in (0.0, method.warm)
    }
    right = {warm: float((p.argmax(1) == y).double().mean()) for warm, p in found.items()}
    assert right[method.warm] > 0.95
    assert right[0.0] < 0.6  # the case that the warming is for; without it, this test has no case


def test_a_variational_network_that_would_keep_the_prior_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that a little change of one input makes, in a network of three hidden layers; all else is noise."""
    draw = generator(0)
    side = 2.0 * (torch.arange(400) % 2) - 1
    x = torch.cat([0.07 * side[:, None], 0.5 + 0.3 * torch.randn(400, 5, generator=draw)], 1)
    data, net = nv.Data(x, (side > 0).long()), nv.networks.make("mlp", (6,), 2, width=16, depth=3, seed=0)

    def right() -> float:
        found = nv.predict(nv.infer(nv.IVON(), net, data, steps=600, seed=1), x).mean()
        return float((found.argmax(1) == data.y).double().mean())

    assert right() > 0.95
    monkeypatch.setattr(ivon, "WARM", 0.0)
    assert right() < 0.6


def test_no_share_of_a_run_is_refused() -> None:
    with pytest.raises(nv.InputError, match="warm as a share"):
        nv.MAP(warm=1.5)


def test_a_run_from_trained_weights_has_all_of_the_prior() -> None:
    """The first step of a run that goes on is that of one without warming; that of a fresh one is another."""
    x = torch.linspace(-1, 1, 8, dtype=torch.float64).unsqueeze(1)
    target = nv.Target(torch.nn.Linear(1, 1, dtype=torch.float64), likelihood=nv.Normal(), prior=nv.Gaussian())
    bound, data = target.prepare(nv.Data(x, 2 * x))

    def first(method: nv.MAP, **how: bool) -> Tensor:
        return run(method, bound, data, steps=1, batch_size=8, **how).state.adam.m["weight"]

    assert torch.equal(first(nv.MAP(), trained=True), first(nv.MAP(warm=0.0)))
    assert not torch.equal(first(nv.MAP(), trained=True), first(nv.MAP()))
