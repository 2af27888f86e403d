"""`Descent` and gradients of members on examples of their own, against plain loops over torch's optimisers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.params import Params, unstack
from novacula.core.rng import generator
from novacula.inference.loop import run
from novacula.inference.optimising.descent import Descent
from novacula.target.own import coded, own_gradient

X = torch.randn(11, 3, generator=generator(4), dtype=torch.float64)
CLASSES = (X[:, 0] * X[:, 1] > 0).long() + (X[:, 2] > 1)
SIGNS = (X[:, :1] + 0.3 * X[:, 1:2] > 0).double()


def problem(y: Tensor, outputs: int) -> tuple[nv.Target, nv.Data]:
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, outputs)).double()
    likelihood = nv.Bernoulli() if y.ndim == 2 else nv.Categorical()
    target = nv.Target(net, prior=nv.FanIn(1.5, 0.5), likelihood=likelihood)
    return target.prepare(nv.Data(X, y, task="multilabel" if y.ndim == 2 else "classification"))


def plain(method: Descent, target: nv.Target, data: nv.Data, start: Params, row: int, members: int, steps: int):
    """One member by torch's optimiser: its stop, and its weights there and `beyond`."""
    net = target.forward.module
    net.load_state_dict({k: w[row] for k, w in start.items()})
    made = torch.optim.Adam if method.optimiser == "adam" else torch.optim.SGD
    extra = {"momentum": method.momentum} if method.optimiser == "sgd" else {}
    optimiser = made(net.parameters(), lr=method.lr, **extra)
    epoch, stop, kept = math.ceil(data.n / method.batch_size), None, []
    for step in range(steps):
        if step % epoch == 0:
            order = torch.rand(members, data.n, generator=generator(7, "step", step)).argsort(1)[row]
        index = order[step % epoch * method.batch_size :][: method.batch_size]
        f, y = net(data.x[index]), data.y[index]
        if method.loss == "squared":
            wanted = nn.functional.one_hot(y, 3) if y.ndim == 1 else 2 * y - 1
            loss = 0.5 * (f - wanted).square().sum() / len(y)
        else:
            hinge = nn.functional.binary_cross_entropy_with_logits if y.ndim == 2 else nn.functional.cross_entropy
            loss = hinge(f, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % epoch == epoch - 1:
            f = net(data.x)
            right = bool(((f > 0) == (data.y > 0)).all() if data.y.ndim == 2 else (f.argmax(1) == data.y).all())
            stop = step + 1 if stop is None and right else stop
            if stop is not None and step + 1 - stop in [e * epoch for e in (0, *method.beyond)]:
                kept.append(torch.cat([w.detach().flatten() for w in net.parameters()]))
    return stop, kept


@pytest.mark.parametrize(
    ("method", "y", "outputs"),
    [
        (Descent(lr=0.3, batch_size=4, beyond=(2, 5)), SIGNS, 1),
        (Descent(lr=0.1, momentum=0.5, batch_size=3, loss="squared"), CLASSES, 3),
        (Descent("adam", lr=0.02, batch_size=20, beyond=(3,)), SIGNS, 1),
    ],
    ids=["sgd", "squared", "adam"],
)
def test_a_member_is_a_run_of_its_own(method: Descent, y: Tensor, outputs: int):
    target, data = problem(y, outputs)
    members, steps = 40, 300
    start = target.prior.sample(target.params(), members, generator(3))
    state = run(method, target, data, start=start, steps=steps, seed=7).state
    assert len(state.rows) < members  # some were taken apart from those that were done
    stops = [int(s) for s in state.stops]
    assert len(set(stops)) > 4
    order = sorted((i for i in range(members) if stops[i] > 0), key=lambda i: stops[i])
    for row in (order[0], order[len(order) // 2], order[-1]):
        stop, kept = plain(method, target, data, start, row, members, steps)
        assert stop == stops[row]
        for i, w in enumerate(kept):
            found = torch.cat([v[i, row].flatten() for v in state.snapshots.values()])
            assert torch.allclose(found, w, rtol=1e-6, atol=1e-8)
        assert len(kept) == method.kept


@pytest.mark.parametrize("loss", ["likelihood", "squared"])
@pytest.mark.parametrize(("y", "outputs"), [(SIGNS, 1), (CLASSES, 3)], ids=["signs", "classes"])
def test_own_gradients_are_those_of_each(loss: str, y: Tensor, outputs: int):
    target, data = problem(y, outputs)
    params = target.prior.sample(target.params(), 5, generator(1))
    index = torch.rand(5, 11, generator=generator(2)).argsort(1)[:, :4]
    labels = coded(data.y, loss, outputs)
    for _ in range(2):  # the second time from a recording
        losses, grads = own_gradient(target, params, data.x[index], labels[index], loss)
        for m, w in enumerate(unstack(params)):
            leaves = {k: v.clone().requires_grad_() for k, v in w.items()}
            f, wanted = target.forward(leaves, data.x[index[m]]), labels[index[m]]
            if loss == "squared":
                value = sum(0.5 * (a - b) ** 2 for a, b in zip(f.flatten(), wanted.flatten(), strict=True)) / 4
            else:
                value = -target.likelihood.log_prob(f, wanted).mean()
            expected = torch.autograd.grad(value, list(leaves.values()))
            assert torch.allclose(losses[m], value)
            for (k, g), e in zip(grads.items(), expected, strict=True):
                assert torch.allclose(g[m], e), k
    assert any(key[0] == "own" for key in target.notes.recordings)


def test_members_that_diverge_are_told_and_end_nothing():
    target, data = problem(SIGNS, 1)
    start = target.prior.sample(target.params(), 20, generator(3))
    start["0.weight"][3] *= torch.inf
    found = run(Descent(lr=0.3), target, data, start=start, steps=900, seed=0)
    assert (found.state.stops == -2).nonzero().flatten().tolist() == [3]
    assert (found.state.stops > 0).sum() == 19
    assert all(math.isfinite(h["loss"]) for h in found.history)
    assert all(a["fit"] <= b["fit"] for a, b in pairwise(found.history) if "fit" in a and "fit" in b)


def test_what_is_refused():
    data = problem(SIGNS, 1)[1]
    for bad in ({"lr": 0}, {"optimiser": "lion"}, {"beyond": (4, 2)}, {"momentum": 1.0}, {"loss": "hinge"}):
        with pytest.raises(InputError):
            Descent(**bad)
    noisy = nv.Target(nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 1)).double(), likelihood=nv.Bernoulli())
    with pytest.raises(InputError, match="BatchNorm or dropout"):
        nv.infer(Descent(), noisy, data, steps=3)
