"""Cross-fitting: predictions by networks that have not seen the examples, against closed forms."""

from __future__ import annotations

import itertools
import math
from functools import cache

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

import novacula as nv
from conjugate import line, moments
from novacula.core.units import Units
from novacula.data.standardise import Standardiser
from novacula.diagnostics.crossed_mean import nested
from novacula.inference import MAP
from novacula.likelihoods import Bernoulli, Categorical, HeteroscedasticNormal, Normal
from novacula.posteriors import Point
from novacula.prediction import evaluate
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.temperature import fit_temperature
from strangers import Poisson


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def planted(n: int = 40) -> nv.Data:
    x = draw(n, 3)
    return nv.Data(x, x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.7 * draw(n, 1, seed=1))


@cache
def ridge() -> CrossFit:
    return nv.cross_fit(
        line(3, sigma=0.4, precision=1.7), planted(), seed=1, method=MAP(lr=5e-2), steps=800, batch_size=40
    )


# ---------------------------------------------------------------------- ridge regression


def test_out_of_fold_predictions_are_those_of_ridge_regressions_without_the_fold() -> None:
    fit, data = ridge(), planted()
    expected = torch.empty(40, 1, dtype=torch.float64)
    for k in range(3):
        kept, out = fit.folds != k, fit.folds == k
        mean, _ = moments(data.x[kept], data.y[kept], sigma=0.4, precision=1.7)
        torch.testing.assert_close(fit.params[k]["weight"], mean.T, rtol=0, atol=2e-4)
        expected[out] = data.x[out] @ mean
    torch.testing.assert_close(fit.plain.mean(), expected, rtol=0, atol=1e-3)
    z = (data.y - expected) / 0.4
    score = fit.score(calibrated=False)
    assert score["nll"] == pytest.approx(float((z**2 / 2).mean() + math.log(0.4) + math.log(2 * math.pi) / 2), abs=1e-3)
    assert score["rmse"] == pytest.approx(float((data.y - expected).square().mean().sqrt()), abs=1e-4)
    assert fit.temperature == pytest.approx(float(z.square().mean()), abs=2e-3)


def test_scores_are_those_of_the_predictive_with_errors_of_their_means() -> None:
    fit = ridge()
    score = fit.score()
    assert {k: score[k] for k in ("nll", "rmse", "crps")} == pytest.approx(
        {k: evaluate(fit.predictive, fit.labels)[k] for k in ("nll", "rmse", "crps")}
    )
    assert score["n"] == 40
    assert score["nll"] == pytest.approx(float(fit.losses.mean()))
    assert score["stderr"] == nested(fit.losses, fit.folds).stderr
    assert score["nll"] < fit.score(calibrated=False)["nll"]
    # The calibrated Gaussian's loss at its own optimum, σ² T the mean square of the errors: ½ log 2πe σ² T.
    assert score["nll"] == pytest.approx(math.log(2 * math.pi * math.e * score["rmse"] ** 2) / 2)
    assert {"rmse_stderr", "crps_stderr"} <= set(score)


def test_the_same_seed_gives_the_same_networks_here_and_in_processes() -> None:
    target, data, seen = nv.Target(net(2, 3, 2), prior=nv.Gaussian()), nv.Data(draw(24, 2), torch.arange(24) % 2), []
    options = {"folds": 2, "seed": 4, "epochs": 3, "batch_size": 5}
    here = nv.cross_fit(target, data, **options, progress=lambda *a: seen.append(a[:2]))
    away = nv.cross_fit(target, data, **options, workers=2, backend="threads")
    assert torch.equal(here.outputs, away.outputs)
    assert seen == [(i, 6) for i in range(1, 7)]
    assert not torch.equal(nv.cross_fit(target, data, **{**options, "seed": 5}).outputs, here.outputs)


def test_networks_start_where_they_are_told_to_and_else_afresh() -> None:
    target, data = line(3, sigma=0.4, precision=1.7), planted()
    own = target.params()
    told = nv.cross_fit(target, data, steps=1, method=MAP(lr=1e-12), starts=[own] * 3)
    assert all(torch.allclose(w["weight"], own["weight"], atol=1e-9) for w in told.params)
    afresh = nv.cross_fit(target, data, steps=1, method=MAP(lr=1e-12))
    assert len({tuple(w["weight"].flatten().tolist()) for w in [own, *afresh.params]}) == 4


def test_the_default_length_is_1500_steps_or_20_epochs() -> None:
    seen: list[int] = []

    class Counting:
        batching = "mini"

        def init(self, target, data, rng, start):
            seen.append(start.steps)
            return MAP().init(target, data, rng, start)

        def step(self, target, state, batch, rng):
            _, info = MAP().step(target, state, batch, rng)
            return state, type(info)(info.loss, {}, done=True)

        posterior = MAP.posterior

    target = line(2, sigma=1.0, precision=1.0)
    nv.cross_fit(target, nv.Data(draw(30, 2), draw(30, 1)), method=Counting(), folds=2)
    nv.cross_fit(target, nv.Data(draw(900, 2), draw(900, 1)), method=Counting(), folds=2, batch_size=2)
    assert seen == [1500, 1500, 4500, 4500]


def test_data_in_standard_units_are_scored_in_their_own() -> None:
    raw = planted()
    scaled = nv.Data(raw.x, 50 * raw.y + 7)
    scaling = Standardiser.fit(scaled)
    target = nv.Target(nn.Linear(3, 1).double(), likelihood=nv.Normal(sigma=0.3))
    fit = nv.cross_fit(target, scaling.apply(scaled), steps=50, folds=2)
    score = fit.score()
    torch.testing.assert_close(fit.labels, scaled.y, rtol=0, atol=1e-9)
    assert score["rmse"] == pytest.approx(float((fit.plain.mean() - scaled.y).square().mean().sqrt()))
    assert score["nll"] == pytest.approx(math.log(2 * math.pi * math.e * score["rmse"] ** 2) / 2)


# ---------------------------------------------------------------------- the temperature


@pytest.mark.parametrize("likelihood", [Categorical(), Bernoulli()])
@pytest.mark.parametrize("sharpness", [0.4, 3.0])
def test_the_temperature_of_logits_is_the_least_loss_of_a_grid(
    likelihood: nv.likelihoods.Likelihood, sharpness: float
) -> None:
    f = draw(300, 3)
    y = likelihood.sample(f, torch.Generator().manual_seed(1))
    found = fit_temperature(likelihood, sharpness * f, y, torch.arange(300) % 3)

    def loss(t: float) -> float:
        return -float(likelihood.log_prob(sharpness * f / t, y).mean())

    grid = torch.logspace(-1, 1, 4001, dtype=torch.float64, base=10).tolist()
    assert found.value == pytest.approx(min(grid, key=loss), rel=2e-3)
    exact = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9})
    assert found.value == pytest.approx(float(exact.x), rel=1e-6)
    # The labels were drawn at temperature 1: within 4 standard errors, a false alarm in 16,000.
    assert abs(found.value - sharpness) < 4 * found.stderr


def test_the_temperature_of_noise_has_a_closed_form() -> None:
    f, y = draw(50, 2), draw(50, 2, seed=1)
    likelihood = Normal(log_sigma=torch.tensor([0.3, -0.2], dtype=torch.float64))
    found = fit_temperature(likelihood, f, y, torch.arange(50) % 5)
    assert found.value == pytest.approx(float(((y - f) / likelihood.sigma).square().mean()))

    def loss(t: float) -> float:
        return -float(likelihood.scaled(math.log(t) / 2).log_prob(f, y).mean())

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10})
    assert found.value == pytest.approx(float(best.x), rel=1e-5)


def test_the_standard_error_of_the_temperature_is_the_spread_of_repetitions() -> None:
    f = 2 * draw(200, 3)
    found = [
        fit_temperature(
            Categorical(), f, Categorical().sample(f, torch.Generator().manual_seed(i)), torch.arange(200) % 50
        )
        for i in range(200)
    ]
    values = torch.tensor([t.value for t in found])
    errors = torch.tensor([t.stderr for t in found])
    # The spread of 200 has an error of 5 %; 25 % is 5 of these. With 50 folds the larger of two estimates is about
    # a twentieth above either.
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.25)
    spread = fit_temperature(Normal(), draw(400, 1), 2 * draw(400, 1, seed=3), torch.arange(400))
    # Of Gaussian errors: T √(2/N).
    assert spread.stderr == pytest.approx(spread.value * math.sqrt(2 / 400), rel=0.2)


def test_the_temperature_is_bounded() -> None:
    f, folds = 40 * torch.eye(3, dtype=torch.float64), torch.arange(3)
    right = fit_temperature(Categorical(), f, torch.arange(3), folds)
    wrong = fit_temperature(Categorical(), f, (torch.arange(3) + 1) % 3, folds)
    assert (right.value, wrong.value) == (0.05, 20.0)
    assert math.isnan(right.stderr)
    assert math.isnan(wrong.stderr)
    far = fit_temperature(Normal(sigma=1e-3), torch.zeros(4, 1), torch.ones(4, 1), torch.arange(4) % 2)
    assert far.value == 20.0


def test_a_target_at_a_temperature() -> None:
    x, y = draw(5, 2), torch.tensor([0, 1, 2, 0, 1])
    logits = nv.Target(net(2, 3), likelihood=Categorical())
    w = logits.params()
    warm = logits.calibrated(2.5)
    torch.testing.assert_close(warm.forward(w, x), logits.forward(w, x) / 2.5)
    # p^(1/T), normalised over the labels.
    p = logits.forward(w, x).softmax(1) ** (1 / 2.5)
    expected = (p / p.sum(1, keepdim=True)).gather(1, y[:, None]).log()[:, 0]
    torch.testing.assert_close(warm.likelihood.log_prob(warm.forward(w, x), y), expected)
    again = warm.calibrated(4.0)
    torch.testing.assert_close(again.forward(w, x), logits.forward(w, x) / 10)
    noisy = nv.Target(net(2, 3), likelihood=Normal(sigma=3.0))
    assert float(noisy.calibrated(4.0).likelihood.sigma) == pytest.approx(6.0)
    assert logits.calibrated(1.0) is logits
    poisson = nv.Target(net(2, 1), likelihood=Poisson())
    assert poisson.calibrated(1.0) is poisson
    with pytest.raises(nv.InputError, match="declares its tempering; got Poisson"):
        poisson.calibrated(2.0)
    with pytest.raises(nv.InputError, match="above zero"):
        logits.calibrated(0.0)


def noisy_labels(n: int, seed: int) -> nv.Data:
    x = draw(n, 2, seed=seed)
    flip = torch.rand(n, generator=torch.Generator().manual_seed(seed + 1)) < 0.25
    return nv.Data(x, (x[:, 0] > 0).long() ^ flip)


def test_an_overconfident_network_is_found_out_and_mended() -> None:
    # Sixty points, a quarter of the labels wrong, fitted without a prior to speak of.
    train, fresh = noisy_labels(60, 0), noisy_labels(2000, 10)
    target = nv.Target(net(2, 20, 20, 2), prior=nv.Gaussian(precision=1e-4, per="all"))
    method = MAP(lr=5e-2)
    fit = nv.cross_fit(target, train, method=method, steps=600, batch_size=60)
    final = nv.infer(method, target, train, steps=600, batch_size=60).mode
    assert float(-nv.predict(Point(final, target), train.x).log_prob(train.y).mean()) < 0.02
    assert fit.temperature > 1 + 2 * fit.temperature_stderr
    losses = [
        -nv.predict(Point(final, t), fresh.x).log_prob(fresh.y)
        for t in (target, fit.target.calibrated(fit.temperature))
    ]
    gain = losses[0] - losses[1]
    assert float(gain.mean()) > 4 * float(gain.std() / math.sqrt(2000))
    assert fit.score()["nll"] < fit.score(calibrated=False)["nll"]
    assert fit.score()["ece"] < fit.score(calibrated=False)["ece"]
    assert fit.score()["accuracy"] == fit.score(calibrated=False)["accuracy"]
    assert fit.reliability.count.sum() == 60


# ---------------------------------------------------------------------- comparisons


def test_comparisons_are_paired() -> None:
    data, options = planted(), {"method": MAP(lr=5e-2), "steps": 300, "batch_size": 40}
    weak = nv.cross_fit(line(3, sigma=0.4, precision=300.0), data, seed=1, **options)
    gain, stderr = ridge().compare(weak)
    by_hand = []
    for fit in (ridge(), weak):
        sd = 0.4 * math.sqrt(fit.temperature)
        by_hand.append(torch.distributions.Normal(fit.outputs, sd).log_prob(data.y)[:, 0])
    d = by_hand[0] - by_hand[1]
    assert gain == pytest.approx(float(d.mean()))
    folds = [d[ridge().folds == k] for k in range(3)]
    within = sum(float(((f - f.mean()) ** 2).sum()) for f in folds) / (40 * 37)
    between = sum(float((f - d.mean()).sum()) ** 2 for f in folds) * 1.5 / 40**2
    assert stderr == pytest.approx(math.sqrt(max(within, between)))
    assert gain > 0
    back = weak.compare(ridge())
    assert back == (pytest.approx(-gain), pytest.approx(stderr))


def test_comparisons_need_the_same_data_folds_and_kind_of_loss() -> None:
    target, data = line(3, sigma=0.4, precision=1.7), planted()
    with pytest.raises(nv.InputError, match="predictions of the same data"):
        ridge().compare(nv.cross_fit(target, planted(39), steps=1))
    with pytest.raises(nv.InputError, match="the same 3 folds"):
        ridge().compare(nv.cross_fit(target, data, seed=2, steps=1))
    other = nv.cross_fit(target, data, folds=ridge().folds, seed=2, steps=1)
    assert math.isfinite(ridge().compare(other)[0])
    loss = nv.Gibbs(lambda f, y: (f - y).square().sum(1), name="square", task="regression")
    gibbs = nv.cross_fit(nv.Target(net(3, 1), likelihood=loss), data, folds=ridge().folds, steps=1)
    assert gibbs.temperature == 1
    assert gibbs.score()["loss"] == pytest.approx(float((gibbs.outputs - data.y).square().mean()))
    with pytest.raises(nv.InputError, match="two losses of one kind"):
        ridge().compare(gibbs)


def test_the_error_of_a_mean_over_folds() -> None:
    a, folds = draw(12), torch.tensor([0, 1, 2] * 4)
    assert nested(a, folds).value == pytest.approx(float(a.mean()))
    # Values that differ between folds alone: the spread is that of the three folds.
    b = torch.tensor([1.0, 5.0, 6.0] * 4)
    mean = nested(b, folds)
    assert mean.stderr == pytest.approx(float(torch.tensor([1.0, 5.0, 6.0]).std()) / math.sqrt(3))
    assert mean.freedom == 2
    # Values that differ within folds alone.
    c = torch.tensor([1.0] * 3 + [2.0] * 3 + [4.0] * 3 + [5.0] * 3)
    assert nested(c, folds).stderr == pytest.approx(float(((c - 3) ** 2).sum() / (12 * 9)) ** 0.5)
    # A fold for each example: the usual error of a mean.
    assert nested(a, torch.arange(12)).stderr == pytest.approx(float(a.std()) / math.sqrt(12))


# ---------------------------------------------------------------------- other networks


def test_a_strangers_likelihood_has_temperature_one() -> None:
    x = draw(60, 2)
    y = torch.poisson((x[:, :1] / 2).exp(), generator=torch.Generator().manual_seed(0))
    fit = nv.cross_fit(nv.Target(net(2, 1), likelihood=Poisson()), nv.Data(x, y, task="regression"), steps=100)
    assert fit.temperature == 1
    assert math.isnan(fit.temperature_stderr)
    assert torch.equal(fit.losses, -Poisson().log_prob(fit.outputs, y))
    assert fit.score()["nll"] == pytest.approx(float(fit.losses.mean()))


def test_noise_that_the_network_says_has_temperature_one() -> None:
    target = nv.Target(net(3, 2), likelihood=HeteroscedasticNormal())
    assert nv.cross_fit(target, planted(), steps=1).temperature == 1


def test_an_invariant_target_predicts_under_its_transformations() -> None:
    data = nv.load("digits").subset(range(90))
    target = nv.Target(nv.networks.make("linear", data.x_shape, 10), invariance=nv.Affine(only=("rotation",)))
    fit = nv.cross_fit(target, data, steps=40, seed=2)
    k = int(fit.folds[7])
    point = Point(fit.params[k], target)
    assert fit.score()["n"] == 90
    single = fit.outputs[7:8].softmax(1)
    averaged = target.forward(fit.params[k], data.x[7:8]).softmax(1)
    assert not torch.allclose(single, averaged, atol=1e-4)
    torch.testing.assert_close(single, nv.predict(point, data.x[7:8], copies=512).mean(), rtol=0, atol=0.02)


def test_data_in_units_of_their_own() -> None:
    raw = planted()
    data = nv.Data(raw.x * 1e3 + 5, raw.y * 40 - 9)
    scale = Standardiser.fit(data)
    units = Units(scale.x_mean, scale.x_sd, scale.y_mean, scale.y_sd)
    target = nv.Target(nn.Linear(3, 1).double(), likelihood=Normal(sigma=0.3)).in_units(units)
    fit = nv.cross_fit(target, data, steps=400, method=MAP(lr=3e-2))
    assert fit.score()["rmse"] < 0.5 * float(data.y.std())
    assert fit.score()["nll"] == pytest.approx(math.log(2 * math.pi * math.e * fit.score()["rmse"] ** 2) / 2)


def test_a_rare_class_is_said_and_remembered() -> None:
    data = nv.Data(draw(22, 2), [0] * 10 + [1] * 10 + [2] * 2)
    target = nv.Target(net(2, 3))
    with pytest.warns(nv.NovaculaWarning, match="fewer examples"):
        fit = nv.cross_fit(target, data, steps=2)
    assert "class 2 has fewer examples (2) than there are folds (3)" in fit.warnings[0]
    assert fit.predictive.warnings == fit.warnings


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"folds": 1}, "folds as a whole number of 2 or more"),
        ({"folds": torch.zeros(39, dtype=torch.long)}, r"whole numbers of shape \(40,\)"),
        ({"folds": torch.zeros(40)}, "whole numbers"),
        ({"folds": torch.zeros(40, dtype=torch.long)}, "at least two"),
        ({"folds": torch.arange(40) % 2 * 2}, "numbered 0 to K − 1"),
        ({"starts": [{}]}, "first weights of 3 networks like the target's; got 1 of them"),
        ({"starts": [{}] * 3}, "got others"),
        ({"epochs": 1, "steps": 1}, "either epochs or steps"),
        ({"workers": 0}, "workers"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(nv.InputError, match=match):
        nv.cross_fit(line(3, sigma=0.4, precision=1.7), planted(), **options)  # type: ignore[arg-type]
