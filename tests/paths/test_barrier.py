"""The loss along a line: closed forms, permuted units, statistics that are taken anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import novacula as nv
from novacula import InputError
from novacula.paths import barrier


def trained(seed: int, train: nv.Data) -> nn.Module:
    """A network of two hidden layers, by a plain loop."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for epoch in range(6):
        for x, y, _ in train.batches(50, seed, epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def case() -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, torch.Tensor], nv.Data, nv.Data]:
    with torch.random.fork_rng():
        train, test = nv.load("digits").split(600, seed=0)
        a, b = trained(0, train), trained(1, train)
    states = [{k: w.clone() for k, w in net.state_dict().items()} for net in (a, b)]
    return a, states[0], states[1], train, test


def test_of_squares_the_line_is_a_parabola() -> None:
    """Of a linear model with noise 1 the loss is below the line by t (1 − t)/2 times the squared distance."""
    rng = torch.Generator().manual_seed(0)
    data = nv.Data(torch.randn(30, 4, generator=rng).double(), torch.randn(30, 2, generator=rng).double())
    net = nn.Linear(4, 2).double()
    a, b = ({k: torch.randn(w.shape, generator=rng).double() for k, w in net.state_dict().items()} for _ in range(2))
    found = barrier(nv.Target(net, likelihood=nv.Normal(sigma=1.0)), a, b, data, points=5)
    apart = data.x @ (a["weight"] - b["weight"]).T + a["bias"] - b["bias"]
    t = found.at
    line = (1 - t) * found.loss[0] + t * found.loss[-1]
    torch.testing.assert_close(found.loss - line, -t * (1 - t) * apart.square().sum(1).mean() / 2)
    assert found.height == 0
    assert found.accuracy is None
    assert found.accuracy_drop is None


def test_the_ends_are_the_networks_themselves(case: tuple) -> None:
    net, a, b, _, test = case
    found = barrier(net, a, b, test, points=3)
    for end, state in ((0, a), (-1, b)):
        net.load_state_dict(state)
        with torch.no_grad():
            f = net(test.x)
        assert float(found.loss[end]) == pytest.approx(float(nn.functional.cross_entropy(f, test.y)), rel=1e-5)
        assert found.accuracy is not None
        assert float(found.accuracy[end]) == pytest.approx(float((f.argmax(1) == test.y).double().mean()))
    net.load_state_dict(a)


def test_units_in_another_order_raise_a_barrier_though_the_function_is_the_same(case: tuple) -> None:
    net, a, _, _, test = case
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    turned = {**a, "4.weight": a["4.weight"][order], "4.bias": a["4.bias"][order], "6.weight": a["6.weight"][:, order]}
    same, moved = barrier(net, a, a, test), barrier(net, a, turned, test)
    assert same.height == pytest.approx(0.0, abs=1e-6)
    assert float((moved.loss[0] - moved.loss[-1]).abs()) < 1e-5
    assert moved.height > 5 * moved.stderr > 0
    assert moved.accuracy_drop is not None
    assert moved.accuracy_drop > 0.01


def test_statistics_taken_anew_lower_the_barrier_of_two_trainings(case: tuple) -> None:
    net, a, b, train, test = case
    found, repaired = barrier(net, a, b, test), barrier(net, a, b, test, train=train)
    assert 0 < repaired.height < found.height
    torch.testing.assert_close(found.losses[[0, -1]], repaired.losses[[0, -1]])
    again = net.state_dict()
    assert all(torch.equal(again[k], a[k]) for k in a)  # the user's network is left as it was


def test_posteriors_and_results_are_taken(case: tuple) -> None:
    _, _, _, train, test = case
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    runs = [nv.infer(nv.MAP(), net, train, steps=5, seed=s) for s in (0, 1)]
    assert barrier(net, runs[0], runs[1], test, points=3).height == pytest.approx(0.0, abs=1e-9)


def test_what_are_no_weights_of_the_network_is_refused(case: tuple) -> None:
    net, a, _, _, test = case
    with pytest.raises(InputError, match="missing, unknown or of another shape"):
        barrier(net, a, {k: v for k, v in a.items() if k != "4.bias"}, test)
    with pytest.raises(InputError, match=r"4\.bias"):
        barrier(net, a, {**a, "4.bias": torch.zeros(3)}, test)
    with pytest.raises(InputError, match=r"NaN or infinity in '4\.bias'"):
        barrier(net, a, {**a, "4.bias": a["4.bias"] * torch.nan}, test)
    with pytest.raises(InputError, match="points"):
        barrier(net, a, a, test, points=2)
    with pytest.raises(InputError, match="weights"):
        barrier(net, a, 3, test)  # type: ignore[arg-type]
