"""The choice of the predictive by examples that no network has seen."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from conjugate import line, moments
from novacula.inference import MAP
from novacula.posteriors import LaplacePosterior, Point
from novacula.runs.loading import load_run
from novacula.study import CrossFit
from strangers import Poisson


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(n: int = 60) -> nv.Data:
    x = draw(n, 3)
    return nv.Data(x, x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.7 * draw(n, 1, seed=1))


def fitted(sigma: float) -> tuple[CrossFit, dict[str, Tensor]]:
    target, data = line(3, sigma=sigma, precision=1.0), planted()
    fit = nv.cross_fit(target, data, seed=1, method=MAP(lr=5e-2), steps=600, batch_size=60)
    mean, _ = moments(data.x, data.y, sigma=sigma, precision=1.0)
    return fit, {"weight": mean.T}


@cache
def too_sure() -> tuple[CrossFit, dict[str, Tensor]]:
    return fitted(0.2)


def test_labels_that_are_too_sure_are_tempered() -> None:
    fit, final = too_sure()
    choice = fit.choose(final)
    assert (choice.structure, choice.temperature) == ("point", 0.0)
    assert choice.calibration == fit.temperature > 5
    assert isinstance(choice.posterior, Point)
    x, y = draw(500, 3, seed=7), None
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.7 * draw(500, 1, seed=8)
    tempered, plain = (nv.predict(p, x).log_prob(y).mean() for p in (choice.posterior, Point(final, fit.target)))
    assert float(tempered - plain) > 1
    assert "with its labels at temperature" in choice.reason
    assert json.loads(json.dumps(choice.to_dict()))["calibration"] == fit.temperature


def test_the_gain_of_the_temperature_is_that_of_the_other_folds() -> None:
    fit, final = too_sure()
    z = (fit.data.y - fit.outputs)[:, 0] / 0.2
    gains = torch.empty(60, dtype=torch.float64)
    for k in range(3):
        out = fit.folds == k
        t = float(z[~out].square().mean())
        gains[out] = z[out] ** 2 / 2 - (z[out] ** 2 / t + math.log(t)) / 2
    point, tempered, *averages = fit.choose(final).scores
    assert (point.gain, point.stderr, point.calibration, point.margin) == (0.0, 0.0, 1.0, 1.0)
    assert point.nll == pytest.approx(fit.score(calibrated=False)["nll"])
    assert tempered.gain == pytest.approx(float(gains.mean()))
    assert tempered.nll == pytest.approx(point.nll - tempered.gain)
    assert tempered.calibration == fit.temperature
    assert tempered.better
    wanted = {(s, t) for s in ("last_layer", "kron") for t in (0.1, 1.0, fit.temperature)}
    assert {(s.structure, s.temperature) for s in averages} == wanted


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_posteriors_are_scored_by_the_closed_form(temperature: float) -> None:
    fit, final = too_sure()
    choice = fit.choose(final, structures=("exact",), temperatures=(temperature,))
    losses = torch.empty(60, dtype=torch.float64)
    for k in range(3):
        kept, out = fit.folds != k, fit.folds == k
        x, y = fit.data.x, fit.data.y
        mean, v = moments(x[kept], y[kept], sigma=0.2, precision=1.0, temperature=temperature)
        sd = (((x[out] @ v) * x[out]).sum(1) + 0.04).sqrt()
        losses[out] = -torch.distributions.Normal((x[out] @ mean)[:, 0], sd).log_prob(y[out, 0])
    (score,) = [s for s in choice.scores if s.temperature == temperature]
    assert score.nll == pytest.approx(float(losses.mean()), abs=1e-3)
    assert score.examples == 60


def test_some_examples_stand_for_all() -> None:
    fit, final = too_sure()
    choice = fit.choose(final, structures=("exact",), temperatures=(1.0,), examples=30)
    point, tempered, *averages = choice.scores
    assert (point.examples, tempered.examples, {s.examples for s in averages}) == (60, 60, {30})
    assert all(s.nll == pytest.approx(point.nll - s.gain) for s in averages)


def test_a_model_that_is_right_stays_as_it_is() -> None:
    fit, final = fitted(0.7)
    choice = fit.choose(final)
    assert (choice.structure, choice.calibration) == ("point", 1.0)
    assert isinstance(choice.posterior, Point)
    assert choice.posterior.target is fit.target
    assert "nothing beats it; the closest is" in choice.reason


def test_an_average_over_weights_is_chosen_where_it_pays() -> None:
    # Twelve points and nine weights with noise that is known: where weights are unsure, so are predictions, and one
    # temperature for all of them is not as good.
    def made(n: int, seed: int) -> nv.Data:
        x = draw(n, 9, seed=seed) * torch.tensor([4.0] + [0.4] * 8, dtype=torch.float64)
        x = torch.where(torch.arange(n)[:, None] % 2 == 0, x, 0.05 * x)
        return nv.Data(x, x @ draw(9, 1, seed=99) + 0.05 * draw(n, 1, seed=seed + 1))

    data, fresh = made(24, 0), made(1000, 5)
    target = line(9, sigma=0.05, precision=1.0)
    fit = nv.cross_fit(target, data, method=MAP(lr=5e-2), steps=2000, batch_size=24)
    final = {"weight": moments(data.x, data.y, sigma=0.05, precision=1.0)[0].T}
    choice = fit.choose(final, structures=("exact",))
    assert (choice.structure, choice.calibration) == ("exact", 1.0)
    assert isinstance(choice.posterior, LaplacePosterior)
    assert choice.posterior.temperature == choice.temperature > 0
    points = [Point(final, target), Point(final, target.calibrated(fit.temperature))]
    mine, *others = (float(nv.predict(p, fresh.x).log_prob(fresh.y).mean()) for p in (choice.posterior, *points))
    assert mine > max(others)


def test_a_stranger_and_a_loss_are_chosen_among_what_they_have() -> None:
    x = draw(45, 2)
    y = torch.poisson((x[:, :1] / 2).exp(), generator=torch.Generator().manual_seed(0))
    counts = nv.cross_fit(nv.Target(nn.Linear(2, 1).double(), likelihood=Poisson()), nv.Data(x, y), steps=150)
    choice = counts.choose(counts.params[0], structures=("exact",), temperatures=(0.5,))
    assert {(s.structure, s.temperature, s.calibration) for s in choice.scores} == {
        ("point", 0.0, 1.0),
        ("exact", 0.5, 1.0),
        ("exact", 1.0, 1.0),
    }
    assert all(math.isfinite(s.nll) for s in choice.scores)
    loss = nv.Gibbs(lambda f, y: (f - y).square().sum(1), name="square", task="regression")
    gibbs = nv.cross_fit(nv.Target(nn.Linear(3, 1).double(), likelihood=loss), planted(), steps=1)
    assert gibbs.choose(gibbs.params[0]).scores == ()


def test_structures_that_a_network_does_not_have_are_named() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(3, 1, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return (x @ self.w).tanh()

    target = nv.Target(Bare(), likelihood=nv.Normal(sigma=0.7))
    start = target.params()
    fit = nv.cross_fit(target, planted(), steps=5, starts=[start] * 3)
    choice = fit.choose(start, structures=("last_layer",))
    assert len(choice.scores) == 2
    assert "'last_layer' was not considered" in choice.warnings[0]


def test_a_saved_run_predicts_at_its_temperature(tmp_path: Path) -> None:
    x = draw(40, 2)
    data = nv.Data(x, (x[:, 0] + draw(40, seed=3) > 0).long())
    target = nv.Target(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double())
    fit = nv.learn(target, data, epochs=2)
    chosen = dataclasses.replace(
        fit.choice, posterior=Point(fit.params, fit.target.calibrated(2.5)), calibration=2.5, structure="point"
    )
    dataclasses.replace(fit, choice=chosen).save(tmp_path / "run")
    again = load_run(tmp_path / "run", target=target, data=data)
    mean = nv.predict(again.posterior, x).mean()
    torch.testing.assert_close(mean, nv.predict(chosen.posterior, x).mean())
    torch.testing.assert_close(mean, (nv.predict(fit.point, x).outputs[0] / 2.5).softmax(1))


@pytest.mark.parametrize(
    ("options", "match"),
    [({"structures": ("sparse",)}, "structures among"), ({"temperatures": (-1.0,)}, "temperatures above zero")],
)
def test_unknown_candidates_are_refused(options: dict[str, tuple[object]], match: str) -> None:
    fit, final = too_sure()
    with pytest.raises(nv.InputError, match=match):
        fit.choose(final, **options)  # type: ignore[arg-type]
