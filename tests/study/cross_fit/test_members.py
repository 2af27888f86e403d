"""Several networks for each fold: their mixture, its temperature, and the choice between it and one of them."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from conjugate import line, moments
from novacula.core.params import unstack
from novacula.inference import MAP
from novacula.likelihoods import Categorical, Normal
from novacula.posteriors import Point
from novacula.posteriors.mixture import Mixture
from novacula.runs.loading import load_run
from novacula.study import CrossFit
from novacula.study.cross_fit.temperature import fit_temperature, log_prob_at


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wavy(n: int = 90, seed: int = 0) -> nv.Data:
    x = draw(n, 2, seed=seed)
    return nv.Data(x, (2 * x[:, :1]).sin() + x[:, 1:] ** 2 + 0.3 * draw(n, 1, seed=seed + 1))


def flexible() -> nv.Target:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 30), nn.Tanh(), nn.Linear(30, 1)).double()
    return nv.Target(net, likelihood=Normal(sigma=0.3), prior=nv.Gaussian(0.01))


@cache
def crowd() -> CrossFit:
    return nv.cross_fit(flexible(), wavy(), seed=1, method=MAP(lr=2e-2), steps=800, batch_size=30, members=3)


def test_members_start_apart_and_the_first_are_those_of_a_single_fit() -> None:
    fit = crowd()
    alone = nv.cross_fit(flexible(), wavy(), seed=1, method=MAP(lr=2e-2), steps=800, batch_size=30)
    assert fit.members.shape == (3, 90, 1)
    assert [next(iter(w.values())).shape[0] for w in fit.networks] == [3, 3, 3]
    torch.testing.assert_close(fit.outputs, alone.outputs, rtol=1e-6, atol=1e-8)
    assert float((fit.members[0] - fit.members[1]).abs().max()) > 0.05


def test_the_mixture_is_the_mean_density_of_the_members() -> None:
    fit = crowd()
    t = fit.temperature
    each = [torch.distributions.Normal(f, 0.3 * math.sqrt(t)).log_prob(fit.data.y)[:, 0] for f in fit.members]
    by_hand = torch.stack(each).logsumexp(0) - math.log(3)
    torch.testing.assert_close(fit.losses, -by_hand)
    torch.testing.assert_close(log_prob_at(fit.target.likelihood, fit.members, fit.data.y, t), by_hand)
    assert fit.score()["nll"] == pytest.approx(-float(by_hand.mean()))


@pytest.mark.parametrize("classes", [False, True])
def test_the_temperature_of_a_mixture_is_at_the_minimum(classes: bool) -> None:
    f, folds = 3 * draw(4, 200, 3, seed=2), torch.arange(200) % 4
    y = (f.mean(0) + 2 * draw(200, 3, seed=3)).argmax(1) if classes else f.mean(0) + draw(200, 3, seed=3)
    likelihood = Categorical() if classes else Normal(sigma=2.0).bind(3)
    found = fit_temperature(likelihood, f, y, folds)
    at = [-float(log_prob_at(likelihood, f, y, found.value * s).mean()) for s in (0.97, 1.0, 1.03)]
    assert at[1] < min(at[0], at[2])
    assert found.stderr > 0
    # Of equal members it is that of one.
    same = f[:1].expand(3, -1, -1)
    one = fit_temperature(likelihood, f[:1], y, folds)
    many = fit_temperature(likelihood, same, y, folds)
    assert many.value == pytest.approx(one.value, rel=1e-6)
    assert many.stderr == pytest.approx(one.stderr, rel=1e-4)


def test_networks_that_are_given_are_not_trained_again() -> None:
    fit = crowd()
    options = {"seed": 1, "method": MAP(lr=2e-2), "batch_size": 30, "members": 3}
    again = nv.cross_fit(flexible(), wavy(), steps=1, trained=fit.networks, **options)
    assert torch.equal(again.members, fit.members)
    rest = nv.cross_fit(flexible(), wavy(), steps=800, trained=fit.networks[:1], **options)
    assert torch.equal(rest.members, fit.members)
    with pytest.raises(nv.InputError, match="first weights of 3 member"):
        nv.cross_fit(flexible(), wavy(), steps=1, trained=[fit.params[0]], **options)


def test_the_first_folds_alone_are_those_of_only() -> None:
    options = {"seed": 1, "method": MAP(lr=2e-2), "steps": 60, "batch_size": 30}
    whole, part = nv.cross_fit(flexible(), wavy(), **options), nv.cross_fit(flexible(), wavy(), only=1, **options)
    first = whole.first(1)
    assert torch.equal(first.members, part.members)
    assert torch.equal(first.folds, part.folds)
    assert first.compare(part) == (0.0, 0.0)


def test_weights_may_be_trained_under_another_target_than_predicts() -> None:
    data, target = wavy(), line(2, sigma=0.4, precision=1.7)
    under = dataclasses.replace(target, likelihood_temperature=0.25)
    fit = nv.cross_fit(target, data, seed=1, method=MAP(lr=5e-2), steps=800, batch_size=60, under=under)
    assert fit.target.likelihood_temperature == 1
    for k, w in enumerate(fit.params):
        kept = fit.folds != k
        mean, _ = moments(data.x[kept], data.y[kept], sigma=0.2, precision=1.7)  # noise of √T times the size
        torch.testing.assert_close(w["weight"], mean.T, rtol=0, atol=2e-3)


def test_a_mixture_is_chosen_where_it_predicts_better_and_comes_back_from_a_file(tmp_path: Path) -> None:
    fit, data = crowd(), wavy()
    final = nv.infer(nv.Ensemble(MAP(lr=2e-2), members=3), flexible(), data, steps=600, batch_size=30, seed=5)
    members = {k: torch.stack([p.mode[k] for p in final.parts]) for k in final.mode}
    choice = fit.choose(final.mode, members=members, structures=())
    assert choice.structure == "ensemble"
    assert isinstance(choice.posterior, Mixture)
    assert choice.to_dict()["members"] == 3
    assert "the mixture of several networks" in choice.reason
    new = wavy(500, seed=9)
    by_all, by_one = (nv.predict(p, new.x) for p in (choice.posterior, Point(final.mode, fit.target)))
    assert float(by_all.log_prob(new.y).mean()) > float(by_one.log_prob(new.y).mean())
    at = fit.target.calibrated(choice.calibration)
    by_hand = torch.stack([nv.predict(Point(w, at), new.x).log_prob(new.y) for w in unstack(members)])
    torch.testing.assert_close(by_all.log_prob(new.y), by_hand.logsumexp(0) - math.log(3))
    # A run keeps all of them.
    learned = nv.learn(flexible(), data, epochs=2, folds=0)
    kept = dataclasses.replace(learned, choice=choice, params=final.mode)
    kept.save(tmp_path)
    again = load_run(tmp_path, target=flexible())
    wanted = nv.predict(
        Mixture(tuple(Point(w, learned.target.calibrated(choice.calibration)) for w in unstack(members))), new.x
    )
    torch.testing.assert_close(again.predict(new.x).mean(), wanted.mean())


def test_one_network_has_no_mixture_to_choose() -> None:
    options = {"seed": 1, "method": MAP(lr=2e-2), "steps": 30, "batch_size": 30}
    fit = nv.cross_fit(flexible(), wavy(), **options)
    members = {k: w.expand(2, *w.shape) for k, w in flexible().params().items()}
    scores = fit.choose(fit.params[0], members=members, structures=("last_layer",)).scores
    assert "ensemble" not in {s.structure for s in scores}
    with pytest.raises(nv.InputError, match="members as a whole number of 1 or more"):
        nv.cross_fit(flexible(), wavy(), members=0, **options)
    with pytest.raises(nv.InputError, match="a posterior for each member"):
        nv.cross_fit(flexible(), wavy(), members=2, **{**options, "method": nv.SGLD(keep=10)})


def test_a_spread_draws_the_temperature_to_one_by_its_penalty() -> None:
    # Rows that are all right ask for no temperature; with a spread the slope of loss and penalty is nought.
    y = torch.arange(40) % 3
    f = 4 * torch.nn.functional.one_hot(y, 3).double() + 0.1 * torch.randn(40, 3, dtype=torch.float64)
    folds = torch.arange(40) % 2
    assert fit_temperature(Categorical(), f, y, folds).value < 0.2  # where the loss is nought in float64
    found = fit_temperature(Categorical(), f, y, folds, spread=0.5)

    def objective(s: float) -> float:
        return -float((f * math.exp(-s)).log_softmax(1)[torch.arange(40), y].sum()) + s**2 / (2 * 0.5**2)

    s = math.log(found.value)
    assert 0.5 < found.value < 1
    assert abs(objective(s + 1e-4) - objective(s - 1e-4)) / 2e-4 < 1e-3
