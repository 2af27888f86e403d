"""What choices move: distances by hand and planted ones, the rate of false alarms, and the usual choices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import novacula as nv
from novacula.core.errors import InputError
from novacula.core.rng import derive
from novacula.networks.make import make
from novacula.study.comparing.choices import usual
from novacula.study.comparing.vary import _choice


def test_planted_distances_and_false_alarms() -> None:
    # p = a + b + noise, with a moving by (.3, −.3) on half of the examples and b by nothing: D² = (.3² + .3²)/2 = .09.
    # Of 200 draws the 90 % interval of a should hold .09 in 180 ± 4.2; outside 164 to 196 (four deviations, and the
    # error's own roughness) it would not. b's squared distance should be above nought by its interval in 10 of 200.
    rng, held, alarms, values = torch.Generator().manual_seed(0), 0, 0, []
    n = 60
    step = torch.tensor([0.3, -0.3], dtype=torch.float64) * (torch.arange(n) % 2).unsqueeze(1)
    for _ in range(200):
        noise = 0.2 * torch.randn(2, 4, 4, n, 2, generator=rng, dtype=torch.float64)
        p = noise + torch.stack([torch.zeros_like(step), step]).view(2, 1, 1, n, 2)
        losses = torch.zeros(2, 4, 4)
        a, b = (_choice("", p, losses, axis, range(levels)) for axis, levels in ((0, 2), (1, 4)))
        values.append(a.squared.value)
        held += a.interval[0] ** 2 <= 0.09 <= a.interval[1] ** 2
        alarms += b.interval[0] > 0
    assert sum(values) / 200 == pytest.approx(0.09, abs=0.002)
    assert held >= 164
    assert alarms <= 22  # 10 and four deviations


@pytest.fixture(scope="module")
def data() -> nv.Data:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(90, 3, generator=rng)
    return nv.Data(x, (x[:, 0] * x[:, 1] > 0).long())


def test_the_distance_by_hand(data: nv.Data) -> None:
    def build(width: int, again: bool) -> nn.Module:
        return make("mlp", (3,), 2, width=width, depth=1)

    levels: dict[str, Any] = {"width": (1, 8), "again": (False, True)}
    options: dict[str, Any] = {"steps": 8, "batch_size": 30}
    found = nv.study.vary(build, data, levels, repeats=2, seed=1, **options)
    assert found.runs == 8
    folds = nv.cross_fit(build(1, False), data, steps=1, seed=1).folds  # dealt by the same seed
    p = torch.empty(2, 2, 2, 90, 2, dtype=torch.float64)
    losses = torch.empty(2, 2, 2)
    for i, j, r in torch.cartesian_prod(*[torch.arange(2)] * 3).tolist():
        net = build(levels["width"][i], False)
        fit = nv.cross_fit(net, data, folds=folds, seed=derive(1, "run", i, j, r), **options)
        p[i, j, r], losses[i, j, r] = fit.plain.mean(), fit.losses.mean()
    d = p[0] - p[1]
    by_hand = (d[:, 0] * d[:, 1]).sum(-1).mean()
    width = next(c for c in found.choices if c.name == "width")
    assert width.squared.value == pytest.approx(float(by_hand), rel=1e-5)
    assert width.losses["8"] == pytest.approx(float(losses[1].mean()), rel=1e-5)
    chance = (p[:, :, 0] - p[:, :, 1]).square().sum(-1).mean()
    assert found.chance.squared.value == pytest.approx(float(chance), rel=1e-5)
    assert found.choices[0].squared.value >= found.choices[1].squared.value
    assert len(found.table().splitlines()) == 5
    assert [row["name"] for row in found.to_dict()["choices"]][-1] == "chance"


def test_a_single_choice_and_its_method(data: nv.Data) -> None:
    def build(lr: float) -> tuple[nn.Module, nv.MAP]:
        return make("linear", (3,), 2), nv.MAP(lr=lr)

    found = nv.study.vary(build, data, {"lr": (1e-6, 0.1)}, steps=10, batch_size=20)
    assert list(found.choices[0].losses) == ["1e-06", "0.1"]
    assert found.choices[0].distance > 0.05


def test_the_usual_choices() -> None:
    digits = nv.load("digits").subset(range(40))
    made, levels = usual("mlp", digits, ["init", "optimizer", "depth", "standardise"], 10)
    build: Any = made
    assert levels["depth"] == (1, 2)
    net, method = build(init="orthogonal", optimizer="constant", depth=2, standardise=True)
    assert method.schedule == "constant"
    plain, _ = build(init="default", optimizer="one-cycle", depth=2, standardise=False)
    inner = net[0]
    mean, sd = digits.x.mean(), digits.x.std()
    assert torch.allclose(inner(digits.x), plain((digits.x - mean) / sd), atol=1e-5)
    fit = nv.cross_fit(net, digits, steps=1, method=nv.MAP(lr=1e-9))
    weight = next(w[0] for name, w in fit.networks[0].items() if name.endswith("1.weight"))
    assert torch.allclose(weight.T @ weight, torch.eye(64), atol=1e-4)
    for network, names in (("cnn", ["depth"]), ("mlp", ["luck"]), ("mine.py:net", ["init"])):
        with pytest.raises(InputError):
            usual(network, digits, names, 10)


@pytest.mark.parametrize("wrong", [{}, {"width": (3,)}])
def test_what_is_refused(wrong: dict[str, Any], data: nv.Data) -> None:
    with pytest.raises(InputError, match="two levels"):
        nv.study.vary(lambda width: make("mlp", (3,), 2, width=width), data, wrong)
    with pytest.raises(InputError, match="repeats"):
        nv.study.vary(lambda width: make("mlp", (3,), 2, width=width), data, {"width": (1, 2)}, repeats=1)
