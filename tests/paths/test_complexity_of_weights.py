"""Measures of complexity against brute force and closed forms; ranks within groups."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from scipy.stats import t as student
from torch import nn

import novacula as nv
from novacula import InputError
from novacula.paths import complexity, ranked_within


def data(n: int = 60) -> nv.Data:
    rng = torch.Generator().manual_seed(0)
    return nv.Data(torch.randn(n, 3, generator=rng), torch.randint(2, (n,), generator=rng))


def network(activation: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), activation, nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2))


def test_the_path_norm_is_the_sum_over_all_paths() -> None:
    net = network(nn.ReLU())
    first, middle, last = (net[i].weight.detach() for i in (0, 2, 4))
    bias, total = net[0].bias.detach(), float(net[4].bias.detach().square().sum())
    for i, j, k, c in itertools.product(range(4), range(4), range(5), range(2)):
        start = bias[j] if i == 3 else first[j, i]
        total += float(start * middle[k, j] * last[c, k]) ** 2
    found = complexity(net, data())
    assert found.path_norm == pytest.approx(math.sqrt(total), rel=1e-5)
    assert found.spectral_norm == pytest.approx(
        sum(math.log(np.linalg.norm(net[i].weight.detach().numpy(), 2)) for i in (0, 2, 4)), rel=1e-5
    )
    assert complexity(network(nn.Tanh()), data()).path_norm is None
    assert complexity(network(nn.LayerNorm(4)), data()).path_norm is None
    assert complexity(network(nn.BatchNorm1d(4)).eval(), data()).path_norm is None


def test_the_margin_is_the_tenth_percentile() -> None:
    net, rows = network(nn.ReLU()), data()
    f = net(rows.x).detach().numpy()
    wanted = np.quantile([row[y] - row[1 - y] for row, y in zip(f, rows.y.tolist(), strict=True)], 0.1)
    assert complexity(net, rows).margin == pytest.approx(wanted, rel=1e-5)


def test_the_flatness_of_a_parabola() -> None:
    """Of squares with noise 1 the mean loss rises by σ²|x|²/2: 2,000 draws know σ to 5 %, the tolerance 10 %."""
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)).double()
    net = nn.Linear(4, 1, bias=False).double()
    target = nv.Target(net, nv.Normal(sigma=1.0))
    with torch.no_grad():
        rows = nv.Data(x, net(x))
    found = complexity(target, rows, rise=0.3, draws=2000)
    sigma = math.sqrt(0.6 / float(x.square().sum(1).mean()))
    assert found.flatness == pytest.approx(sigma, rel=0.1)
    assert found.pac_bayes == pytest.approx(
        float(net.weight.detach().square().sum()) / (2 * found.flatness**2), rel=1e-6
    )
    assert found.margin is None


def test_ranks_within_groups_are_not_those_of_all() -> None:
    """A measure that follows width, and within each width goes the other way."""
    width, seed = (v.ravel().tolist() for v in np.indices((4, 5)))
    measure = 10.0 * np.array(width) - np.array(seed)
    outcome = 10.0 * np.array(width) + np.array(seed)
    found = ranked_within(measure, outcome, {"width": width, "seed": seed})
    assert found["width"].value == pytest.approx(1.0)
    assert found["seed"].value == pytest.approx(-1.0)
    assert found["seed"].interval == pytest.approx((-1.0, -1.0))
    noisy = np.random.default_rng(0).normal(size=20)
    of_width = ranked_within(noisy, outcome, {"width": width, "seed": seed})["width"]
    taus = [kendalltau(noisy[s::5], outcome[s::5]).statistic for s in range(5)]
    assert of_width.value == pytest.approx(np.mean(taus))
    wanted = student.interval(0.9, 4, np.mean(taus), np.std(taus, ddof=1) / 5**0.5)
    assert of_width.interval == pytest.approx(np.clip(wanted, -1, 1))
    assert math.isnan(ranked_within([1.0, 2.0], [1.0, 2.0], {"a": [0, 1], "b": [0, 1]})["a"].value)


def test_bad_input_is_refused() -> None:
    net = network(nn.ReLU())
    with pytest.raises(InputError, match="rise"):
        complexity(net, data(), rise=0.0)
    with pytest.raises(InputError, match="finite weights"):
        complexity(net, data(), {k: w * float("inf") for k, w in net.state_dict().items()})
    for measure, levels in (([1.0], {"a": [0, 1]}), ([1.0, float("nan")], {"a": [0, 1]})):
        with pytest.raises(InputError):
            ranked_within(measure, [1.0, 2.0], levels)
