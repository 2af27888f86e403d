"""The folds against the evidence: training at a low temperature of the likelihood, where it predicts better."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from conjugate import line
from novacula.study.learning import tempered
from novacula.study.learning.learn import default_method


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rippled(n: int, noise: float, seed: int = 0) -> nv.Data:
    x = draw(n, 2, seed=seed)
    return nv.Data(x, (3 * x[:, :1]).sin() * x[:, 1:].cos() + noise * draw(n, 1, seed=seed + 1))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 40), nn.GELU(), nn.Linear(40, 1))


def learned(data: nv.Data, folds: int = 3) -> Any:
    method = dataclasses.replace(default_method(data.n, table=True), first=400)
    return nv.learn(nv.Target(net(), likelihood=nv.Normal()), data, method=method, folds=folds, seed=3)


def test_a_function_that_a_short_training_cannot_follow_is_trained_colder() -> None:
    """Measured before: log loss .9 and more by the evidence's rounds, below .2 here; the test asks for half a nat."""
    data, new = rippled(300, 0.1), rippled(2000, 0.1, seed=7)
    fit, plain = learned(data), learned(data, folds=0)
    assert fit.settings["likelihood_temperature"] == tempered.COLD
    assert any("the evidence orders these networks wrongly" in w and "they underfit" in w for w in fit.warnings)
    loss, before = (-float(nv.predict(f.posterior, new.x).log_prob(new.y).mean()) for f in (fit, plain))
    assert loss < before - 0.5
    # The final networks are those that stand behind the claims: their loss is as the folds say, or better.
    said = fit.unseen.score()
    assert loss < said["nll"] + 3 * said["stderr"]
    assert fit.hyper["noise"]["value"] == pytest.approx(float(fit.target.learnable()["likelihood.log_sigma"].exp()))
    low, high = fit.hyper["noise"]["interval"]
    assert low < fit.unseen.score()["rmse"] < high
    assert fit.unseen.temperature == pytest.approx(1, abs=1e-3)
    low, high = nv.predict(fit.posterior, new.x).interval(0.9)
    assert 0.8 < float(((new.y > low) & (new.y < high)).float().mean()) < 0.98


def test_underfitting_is_of_examples_that_were_seen() -> None:
    """A prior that lets nothing be learned underfits beside a weak one; one that is learned by heart does not."""
    data = rippled(120, 0.1)
    strong, weak = (
        nv.cross_fit(nv.Target(net(), nv.Normal(sigma=0.3), nv.Gaussian(p)), data, folds=3, steps=400, seed=1)
        for p in (1e4, 0.01)
    )
    assert tempered._underfits(strong, weak)
    assert not tempered._underfits(weak, strong)
    assert not tempered._underfits(weak, weak)
    assert tempered._underfits(strong.first(1), weak)
    assert not tempered._underfits(weak.first(1), strong)


def test_the_noise_is_that_of_unseen_examples() -> None:
    """Of one network a fold it is the residuals' root mean square, output by output; of several, the mixture's."""
    x, y = draw(80, 2), torch.cat([draw(80, 1, seed=1), 30 * draw(80, 1, seed=2) + 5], 1)
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    fit = nv.cross_fit(nv.Target(model, nv.Normal(log_sigma=torch.tensor([0.1, 7.0]).log())), nv.Data(x, y), steps=300)
    one = tempered.with_noise_of(fit, fit.target)
    residual = (fit.data.y - fit.outputs).double().square().mean(0)
    assert torch.allclose(one.likelihood.log_noise(2).double().exp(), residual.sqrt(), rtol=1e-4)
    assert dataclasses.replace(fit, target=one).temperature == pytest.approx(1, abs=1e-4)
    several = nv.cross_fit(nv.Target(net(), likelihood=nv.Normal(sigma=2.0)), rippled(90, 0.3), members=3, steps=300)
    found = tempered.with_noise_of(several, several.target)
    assert found.likelihood.log_noise(1).ndim == 0  # one noise stays one

    def loss(log_sigma: float) -> float:  # of the mixture, by its formula
        normal = torch.distributions.Normal(several.members.double(), torch.tensor(log_sigma).double().exp())
        return -float((normal.log_prob(several.data.y.double()).sum(2).logsumexp(0) - math.log(3)).mean())

    best = float(found.likelihood.log_noise(1))
    assert loss(best) < min(loss(best - 0.02), loss(best + 0.02))


def test_noise_is_left_to_the_evidence() -> None:
    fit = learned(rippled(300, 3.0))
    assert "likelihood_temperature" not in fit.settings
    assert fit.choice.structure != "ensemble"
    assert 2.6 < fit.hyper["noise"]["value"] < 3.5
    assert fit.unseen.data.n == 300


def test_a_linear_model_has_nothing_to_dispose_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained at another temperature")

    monkeypatch.setattr(tempered, "_rounds", never)
    x = draw(60, 3).double()
    data = nv.Data(x, x.sum(1, keepdim=True) + 0.1 * draw(60, 1, seed=1).double())
    fit = nv.learn(line(3, sigma=0.5, precision=1.0), data, seed=0)
    assert fit.settings.get("likelihood_temperature", 1) == 1


@pytest.mark.parametrize(
    ("gains", "kept", "settled"),
    [
        ([0.5, 0.2, 0.1], 4, False),  # still gaining when the budget ends
        ([0.5, 0.01, -0.01], 4, True),  # ties are kept: networks that see more data overfit later
        ([0.5, -0.2, 9.0], 2, True),  # a loss ends it, and the best is kept
        ([-0.2, 9.0, 9.0], 1, True),
    ],
)
def test_rounds_end_when_they_lose(
    gains: list[float], kept: int, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def scripted(*_: object, steps: int, **__: object) -> Any:
        calls.append(steps)
        i = len(calls) - 1
        return SimpleNamespace(networks=(i,), compare=lambda _: (gains[i - 1], 0.05), index=i)

    monkeypatch.setattr(tempered, "cross_fit", scripted)
    method = SimpleNamespace(first=900, optimiser=nv.MAP(), seconds=None)
    plan: Any = SimpleNamespace(method=method, batch_size=10, seed=0, folds=3, most_steps=lambda _: 15 * 900)
    target = nv.Target(net(), likelihood=nv.Normal())
    found = tempered._rounds(plan, target, target, rippled(30, 1.0))
    assert found.lengths == tuple(900 * 2**i for i in range(kept))
    assert calls[:2] == [600, 1200]
    assert found.unseen.index == kept - 1
    assert found.settled is settled
