"""PSIS-LOO and WAIC against arviz and exact leave-one-out; temperatures chosen by them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conjugate import Conjugate, leave_one_out, line, moments
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.diagnostics import psis_loo, waic
from novacula.inference import MAP, SGLD, Ensemble, Laplace
from novacula.likelihoods import Categorical, Gibbs
from novacula.study import choose_temperature
from novacula.study.temperature.choose import TEMPERATURES
from novacula.target import Target

GOLDEN = json.loads(Path(__file__).with_name("golden_loo.json").read_text(encoding="utf-8"))


def regression(n: int, features: int, seed: int, *, noise: float = 1.0, outlier: float = 0.0) -> tuple[Tensor, Tensor]:
    rng = generator(seed, "regression")
    x = torch.randn(n, features, generator=rng, dtype=torch.float64)
    y = x @ torch.linspace(-1, 1, features, dtype=torch.float64).unsqueeze(1)
    y = y + noise * torch.randn(n, 1, generator=rng, dtype=torch.float64)
    y[0] += outlier
    return x, y


def exact_draws(x: Tensor, y: Tensor, draws: int, *, sigma: float, precision: float, t: float, tl: float) -> Tensor:
    """Log-densities ``(S, N)`` of independent draws of the tempered posterior."""
    m, v = moments(x, y, sigma=sigma, precision=precision, temperature=t, likelihood_temperature=tl)
    z = torch.randn(draws, len(m), generator=generator(4, "draws"), dtype=torch.float64)
    f = (m[:, 0] + z @ torch.linalg.cholesky(v).T) @ x.T
    return -0.5 * ((y[:, 0] - f) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)


# ------------------------------------------------------------------ against arviz


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=["plain", "inefficient", "cold"])
def test_smoothed_densities_and_shapes_are_those_of_arviz(case: dict) -> None:
    """golden_loo.py made them with arviz 0.23.4; at a temperature by weights of its psislw."""
    log_lik = torch.tensor(case["log_lik"], dtype=torch.float64)
    found = psis_loo(log_lik, case["temperature"], efficiency=case["efficiency"])
    assert found.pointwise.tolist() == pytest.approx(case["elpd"], rel=1e-10)
    assert found.k.tolist() == pytest.approx(case["k"], rel=1e-10)
    assert found.elpd == pytest.approx(sum(case["elpd"]), rel=1e-10)


def test_waic_is_that_of_arviz() -> None:
    """golden_loo.py made it with arviz 0.23.4, whose variance divides by S where the paper's divides by S − 1."""
    case = GOLDEN["cases"][0]
    found = waic(torch.tensor(case["log_lik"], dtype=torch.float64))
    theirs = found.pointwise + found.variance / len(case["log_lik"])
    assert theirs.tolist() == pytest.approx(case["waic"], rel=1e-10)
    assert found.p_waic == pytest.approx(float(found.variance.sum()))
    assert found.stderr == pytest.approx(float(found.pointwise.std()) * 6**0.5)
    assert "varies by more than 0.4" in found.warnings[0]


def test_waic_of_normal_draws_is_its_closed_form() -> None:
    """Log-densities with deviation s over the draws: ``log E exp`` is m + s²/2, from which s² is taken."""
    m, s = torch.tensor([-1.0, -2.5, 0.3], dtype=torch.float64), torch.tensor([0.2, 0.4, 0.1], dtype=torch.float64)
    found = waic(m + s * torch.randn(40_000, 3, generator=generator(0), dtype=torch.float64))
    # The error of a log-mean is below s/√S = 0.002, and of a variance s² √(2/S) = 0.0011: five of each for the largest.
    # A false alarm has a chance of less than 1e-5.
    assert found.elpd == pytest.approx(float((m - s.square() / 2).sum()), abs=0.02)
    assert found.p_waic == pytest.approx(float(s.square().sum()), abs=0.006)
    assert found.warnings == ()


# ------------------------------------------------------------------ against exact leave-one-out


@pytest.mark.parametrize(("t", "tl"), [(1.0, 1.0), (0.3, 1.0), (4.0, 1.0), (1.0, 0.4), (1.0, 5.0), (0.5, 2.0)])
def test_it_is_exact_leave_one_out_of_a_conjugate_model(t: float, tl: float) -> None:
    """Whole posterior and likelihood tempered, apart and together; the ratios take the product of the temperatures.

    20,000 independent draws; in 24 other cases with k below 0.64 no density was off by more than 0.025 nats.
    """
    x, y = regression(25, 3, seed=3)
    log_lik = exact_draws(x, y, 20_000, sigma=0.9, precision=1.5, t=t, tl=tl)
    found = psis_loo(log_lik, t * tl)
    naive = leave_one_out(x, y, sigma=0.9, precision=1.5, temperature=t, tl=tl)
    assert float(found.k.max()) < 0.5
    assert found.warnings == ()
    assert torch.allclose(found.pointwise, naive, atol=0.04)
    assert found.elpd == pytest.approx(float(naive.sum()), abs=0.15)
    assert found.stderr == pytest.approx(float(naive.std()) * 5, rel=0.02)
    if t == tl == 1:
        easy = waic(log_lik)
        assert torch.allclose(easy.pointwise, naive, atol=0.05)
        assert easy.p_waic == pytest.approx(found.p_loo, rel=0.1)
    if t * tl != 1:
        wrong = psis_loo(log_lik, 1.0)
        assert float((wrong.pointwise - naive).abs().max()) > 0.04


def test_an_example_that_alone_holds_its_weights_is_reported() -> None:
    """One feature is seen in a single example, an outlier: the posterior without it is elsewhere."""
    x, y = regression(20, 3, seed=1)
    x[:, 0], x[0, 0], y[0] = 0.0, 3.0, 12.0
    log_lik = exact_draws(x, y, 2_500, sigma=1.0, precision=0.01, t=1.0, tl=1.0)
    found = psis_loo(log_lik)
    assert found.threshold == 0.7
    assert int(found.k.argmax()) == 0
    assert float(found.k[0]) > 0.7
    assert found.bad == 1
    assert "1 of 20 examples" in found.warnings[0]
    assert "k > 0.70 for 1" in repr(found)
    assert psis_loo(log_lik[:100]).threshold == pytest.approx(0.5)


def test_shapes_are_those_of_known_tails() -> None:
    """Ratios ``u^(−k)`` of uniform u have a Pareto tail of shape k.

    Of 20,000 draws 424 are in the tail, the fit's standard deviation is about (1 + k)/√424 < .1; three columns each.
    """
    u = torch.rand(20_000, 3, generator=generator(2), dtype=torch.float64)
    for k in (0.2, 0.5, 0.9):
        found = psis_loo(k * u.log())
        assert torch.allclose(found.k, torch.full((3,), k, dtype=torch.float64), atol=0.25)


def test_draws_that_do_not_differ_are_not_believed() -> None:
    same = psis_loo(torch.full((200, 3), -1.5, dtype=torch.float64))
    assert same.pointwise.tolist() == pytest.approx([-1.5] * 3)
    assert same.bad == 3
    few = psis_loo(torch.randn(20, 2, generator=generator(3)))
    assert few.k.tolist() == [math.inf, math.inf]
    assert few.pointwise.dtype == torch.float64


def test_many_examples_are_those_taken_apart() -> None:
    log_lik = torch.randn(300, 301, generator=generator(5), dtype=torch.float64)
    found = psis_loo(log_lik)
    for n in (0, 127, 128, 300):
        one = psis_loo(log_lik[:, n : n + 1])
        assert float(one.pointwise) == pytest.approx(float(found.pointwise[n]), rel=1e-12)
        assert float(one.k) == pytest.approx(float(found.k[n]), rel=1e-9)
    assert math.isnan(one.stderr)


def test_what_is_no_matrix_of_log_likelihoods_is_refused() -> None:
    good = torch.randn(10, 3, generator=generator(6))
    for bad in (good[0], good[:1], good[:, :0], [[1.0]]):
        with pytest.raises(InputError, match=r"log-likelihoods of shape \(S, N\)"):
            psis_loo(bad)
    broken = good.clone()
    broken[4, 1] = -math.inf
    with pytest.raises(InputError, match="-inf for draw 4, example 1"):
        waic(broken)
    for name in ("temperature", "efficiency"):
        with pytest.raises(InputError, match=f"a {name} above zero"):
            psis_loo(good, **{name: 0.0})


# ------------------------------------------------------------------ temperatures chosen by it


@pytest.mark.parametrize("which", ["posterior", "likelihood"])
def test_the_scores_of_draws_are_exact_leave_one_out(which: str) -> None:
    """2,000 independent draws, the same for both seeds: means of 30 examples to 0.02 nats."""
    x, y = regression(30, 4, seed=7)
    target = line(4, sigma=0.8, precision=2.0)
    method = Conjugate(draws=2_000)
    found = choose_temperature(
        method, target, Data(x, y), temperatures=(0.3, 3.0), which=which, steps=1, chains=1, seeds=(0, 1)
    )
    assert found.criterion == "psis-loo"
    assert [s.temperature for s in found.scores] == [0.3, 1.0, 3.0]
    naive = {}
    for score in found.scores:
        t = score.temperature
        kind = {"temperature": t} if which == "posterior" else {"tl": t}
        naive[t] = leave_one_out(x, y, sigma=0.8, precision=2.0, **kind)
        assert score.elpd.value == pytest.approx(float(naive[t].mean()), abs=0.02)
    for score in found.scores:
        gap = naive[score.temperature] - naive[1.0]
        assert score.gain.value == pytest.approx(float(gap.mean()), abs=0.02)
        assert score.gain.stderr == pytest.approx(float(gap.std()) / 30**0.5, abs=0.01)


@pytest.mark.parametrize("which", ["posterior", "likelihood"])
def test_a_warm_temperature_is_chosen_where_the_noise_is_larger_than_the_model_says(which: str) -> None:
    """Noise of 1 where the model says 0.6: exactly, T = 10 gains 0.36 nats an example or more, three standard errors.

    Colder ones have too much influence to be judged; exactly, too, they are worse.
    """
    x, y = regression(80, 12, seed=8)
    data, target = Data(x, y), line(12, sigma=0.6, precision=5.0)
    found = choose_temperature(
        Conjugate(draws=2_000), target, data, temperatures=(0.1, 3.0, 10.0), which=which, steps=1, seeds=(0,)
    )
    assert found.temperature == 10
    assert (found.target.temperature, found.target.likelihood_temperature) == (
        (10, 1) if which == "posterior" else (1, 10)
    )
    assert found.reason.startswith("T = 10: better than T = 1 by 0.")
    assert [s.trusted for s in found.scores] == [False, True, True, True]
    assert found.warnings[0].endswith("(Pareto k) at T = 0.1")
    assert "one seed" in found.warnings[1]


def test_a_cold_temperature_is_chosen_as_far_as_it_can_be_judged() -> None:
    """Noise of 0.5 where the model says 0.7. Exactly, T = 0.1 is better still, but its k are too large to know."""
    x, y = regression(100, 30, seed=8, noise=0.5)
    found = choose_temperature(
        Conjugate(draws=2_000),
        line(30, sigma=0.7, precision=5.0),
        Data(x, y),
        temperatures=(0.1, 0.3, 3.0),
        steps=1,
        seeds=(0,),
    )
    assert [s.trusted for s in found.scores] == [False, True, True, True]
    assert found.scores[0].gain.value > found.scores[1].gain.value
    assert found.temperature == 0.3


def test_where_bayes_itself_cannot_be_judged_it_stays() -> None:
    x, y = regression(60, 20, seed=8, noise=2.0)
    found = choose_temperature(
        Conjugate(draws=2_000),
        line(20, sigma=0.5, precision=0.3),
        Data(x, y),
        temperatures=(10.0,),
        steps=1,
        seeds=(0,),
    )
    bayes, warm = found.scores
    assert not bayes.trusted
    assert warm.better
    assert found.temperature == 1
    assert found.reason.startswith("T = 1 stays, as nothing can be held against it")


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_laplace_chooses_by_its_own_leave_one_out(noise: float) -> None:
    """Exact in a linear model, and one fit for all temperatures."""
    x, y = regression(60, 15, seed=9, noise=noise)
    found = choose_temperature(
        Conjugate(), line(15, sigma=0.7, precision=3.0), Data(x, y), temperatures=TEMPERATURES, steps=1, seeds=(0, 1)
    )
    assert found.criterion == "leave-one-out"
    exact = {t: leave_one_out(x, y, sigma=0.7, precision=3.0, temperature=t) for t in TEMPERATURES}
    # The examples come in another order.
    for score in found.scores:
        assert score.elpd.value == pytest.approx(float(exact[score.temperature].mean()), rel=1e-6)
        gap = exact[score.temperature] - exact[1.0]
        assert score.gain.stderr == pytest.approx(float(gap.std()) / 60**0.5, abs=1e-6)
    assert found.temperature == {0.5: 0.1, 1.0: 1.0}[noise]
    assert found.target.temperature == found.temperature
    values = found.to_dict()
    assert [s["temperature"] for s in values["scores"]] == list(TEMPERATURES)
    assert found.table().count("\n") == 5


def test_laplace_is_left_out_at_the_likelihoods_temperature_too() -> None:
    """Exact in a linear model, where every temperature of the likelihood has a fit of its own."""
    x, y = regression(60, 15, seed=9, noise=0.5, outlier=2.0)
    found = choose_temperature(
        Conjugate(), line(15, sigma=0.7, precision=3.0), Data(x, y), which="likelihood", steps=1, seeds=(0, 1)
    )
    assert found.criterion == "leave-one-out"
    for score in found.scores:
        exact = leave_one_out(x, y, sigma=0.7, precision=3.0, tl=score.temperature)
        assert score.elpd.value == pytest.approx(float(exact.mean()), rel=1e-6)
    assert (found.target.temperature, found.target.likelihood_temperature) == (1.0, found.temperature)


def test_networks_and_samplers_take_part() -> None:
    rng = generator(10)
    x = torch.randn(60, 4, generator=rng)
    data = Data(x, (x[:, 0] + 0.5 * torch.randn(60, generator=rng) > 0).long())
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    found = choose_temperature(
        SGLD(lr=0.05, keep=25), Target(net, Categorical()), data, temperatures=(3.0,), steps=120, seeds=(0, 1)
    )
    assert found.n == 60
    assert found.criterion == "psis-loo"
    assert all(math.isfinite(s.elpd.stderr) for s in found.scores)
    assert found.scores[1].gain.freedom < 60
    laplace = choose_temperature(
        Laplace("kron", optimiser=MAP(lr=0.02)),
        Target(net, Categorical()),
        data,
        temperatures=(0.3,),
        steps=80,
        seeds=(3,),
    )
    assert laplace.criterion == "leave-one-out"
    both = choose_temperature(
        Ensemble(Laplace("last_layer", optimiser=MAP(lr=0.02)), members=2),
        Target(net, Categorical()),
        data,
        temperatures=(0.3,),
        steps=80,
        seeds=(3,),
    )
    assert both.criterion == "leave-one-out"
    assert both.n <= 60


def test_what_cannot_be_left_out_is_refused() -> None:
    x, y = regression(30, 2, seed=12)
    data, target = Data(x, y), line(2, sigma=0.7, precision=1.0)
    with pytest.raises(InputError, match="a posterior of draws, or Laplace's; got a Point"):
        choose_temperature(MAP(), target, data, steps=5, seeds=(0,), chains=1)
    with pytest.raises(InputError, match="got a mixture of Points"):
        choose_temperature(Ensemble(MAP(), members=2), target, data, steps=5, seeds=(0,), chains=1)
    gibbs = Target(nn.Linear(2, 1).double(), Gibbs(lambda f, y: (f - y).square().sum(1), name="square"))
    with pytest.raises(InputError, match="a likelihood with a normalised density"):
        choose_temperature(SGLD(), gibbs, data, steps=5)
    with pytest.raises(InputError, match="temperatures above zero; got -1"):
        choose_temperature(SGLD(), target, data, temperatures=(-1.0,), steps=5)
    with pytest.raises(InputError, match="which='posterior' or 'likelihood'"):
        choose_temperature(SGLD(), target, data, which="prior", steps=5)
