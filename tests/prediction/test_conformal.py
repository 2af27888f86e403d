"""Conformal sets and intervals: exact coverage over exchangeable data, naive definitions, and MAPIE's own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from novacula.core.errors import InputError
from novacula.likelihoods import Bernoulli, Categorical, Gibbs, HeteroscedasticNormal, Normal
from novacula.prediction import Intervals, Predictive, Sets
from novacula.prediction.conformal import (
    APS,
    CQR,
    LAC,
    RAPS,
    Absolute,
    Conformal,
    Normalised,
    calibrate,
    cv_plus,
    cv_plus_sets,
    jackknife_plus,
)
from novacula.prediction.conformal.rank import rank

GOLDEN = json.loads(Path(__file__).with_name("golden_conformal.json").read_text(encoding="utf-8"))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rows(predictive: Predictive, keep: Tensor | slice) -> Predictive:
    v = predictive.covariance
    return Predictive(predictive.likelihood, predictive.outputs[:, keep], "x", None if v is None else v[keep])


def case(task: str, n: int) -> tuple[Predictive, Tensor]:
    """Predictions that are wrong in the same way for all."""
    if task == "classes":
        predictive = Predictive(Categorical(), 3 * draw(2, n, 4), "mixture")
        y = torch.multinomial(predictive.mean().sqrt(), 1, generator=torch.Generator().manual_seed(1))[:, 0]
        return predictive, y
    if task == "labels":
        predictive = Predictive(Bernoulli(), 2 * draw(2, n, 3), "mixture")
        return predictive, (predictive.mean() + 0.4 * draw(n, 3, seed=2) > 0.5).double()
    predictive = Predictive(HeteroscedasticNormal(), draw(3, n, 4), "mixture")
    return predictive, predictive.mean() + predictive.variance() * draw(n, 2, seed=3)


# ------------------------------------------------------------------ the rank


@given(st.integers(1, 400), st.integers(1, 999))
@settings(max_examples=200, deadline=None)
def test_the_rank_is_exact(n: int, thousandths: int) -> None:
    alpha = thousandths / 1000
    want = math.ceil((n + 1) * (1 - Fraction(thousandths, 1000)))
    if (n + 1) * thousandths >= 1000:
        assert rank(n, alpha) == want <= n
    else:
        least = math.ceil(Fraction(1000, thousandths)) - 1
        with pytest.raises(InputError, match=f"at least {least} calibration"):
            rank(n, alpha)
        assert rank(least, alpha) == least


def test_floats_do_not_move_the_rank() -> None:
    # In floating point (n + 1)(1 − α) is a little more than a whole number here, and its ceiling one too many.
    alpha, n = next(
        (k / 100, n)
        for k in range(1, 100)
        for n in range(100, 400)
        if math.ceil((n + 1) * (1 - k / 100)) != math.ceil((n + 1) * (1 - Fraction(k, 100)))
    )
    assert rank(n, alpha) == math.ceil((n + 1) * (1 - alpha)) - 1


# ------------------------------------------------------------------ coverage that is an identity


def coverage_over_all(predictive: Predictive, y: Tensor, alpha: float, score: Any, seed: int = 0) -> Tensor:
    """How often each of n + 1 exchangeable examples is covered by a rule calibrated on the others, per column."""
    found = []
    for i in range(predictive.n):
        others = torch.arange(predictive.n) != i
        rule = calibrate(rows(predictive, others), y[others], alpha=alpha, score=score, seed=seed)
        found.append(rule(rows(predictive, slice(i, i + 1))).covers(y[i : i + 1])[0].double())
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5])
@pytest.mark.parametrize(
    ("task", "score"),
    [
        ("classes", "lac"),
        ("labels", "lac"),
        ("measurements", "absolute"),
        ("measurements", "normalised"),
        ("measurements", "cqr"),
    ],
)
def test_the_average_over_orders_is_the_rank(task: str, score: str, alpha: float) -> None:
    """Every order of n + 1 examples is as likely: the last is covered in exactly k of n + 1, where no scores tie."""
    n = 23
    predictive, y = case(task, n + 1)
    covered = coverage_over_all(predictive, y, alpha, score)
    torch.testing.assert_close(covered, torch.full_like(covered, rank(n, alpha) / (n + 1)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("score", ["lac", APS(randomised=False), RAPS(0.3, 1, randomised=False)])
def test_ties_only_add_coverage(score: Any) -> None:
    # Only three different predictions: most scores tie, and sets keep all that do.
    f = draw(1, 3, 4)[:, torch.arange(24) % 3]
    predictive, y = Predictive(Categorical(), f, "plug-in"), (torch.arange(24) // 3) % 4
    for alpha in (0.1, 0.3, 0.6):
        assert float(coverage_over_all(predictive, y, alpha, score)) >= rank(23, alpha) / 24
    rule = calibrate(predictive, y, alpha=0.3, score=score)
    sets = rule(predictive)
    assert isinstance(sets, Sets)
    for i in range(3):
        assert torch.equal(sets.member[i], sets.member[i + 3])


@pytest.mark.parametrize("score", ["aps", "raps", APS(randomised=False), RAPS(0.2, 2)])
def test_adaptive_sets_cover_what_they_promise(score: Any) -> None:
    """200 calibration sets of 99 and 300 new labels each; the mean of 200 independent coverages, 5 standard errors."""
    predictive, y = case("classes", 399)
    found = []
    for t in range(200):
        order = torch.randperm(399, generator=torch.Generator().manual_seed(t))
        a, b = order[:99], order[99:]
        rule = calibrate(rows(predictive, a), y[a], alpha=0.2, score=score, seed=t)
        found.append(rule(rows(predictive, b)).coverage(y[b]))
    # Splits of one finite population: their mean is an unbiased estimate of the average over all splits.
    slack = 5 * float(np.std(found)) / math.sqrt(200)
    assert np.mean(found) > 0.8 - slack
    if score != APS(randomised=False):  # the exact one ties at a sum of 1 and may cover more
        assert np.mean(found) < 0.81 + slack


def test_groups_are_covered_each_by_itself() -> None:
    """As above within each group; pooled, the hard group is missed too often."""
    sizes = {"easy": 30, "hard": 15}
    groups = [g for g, m in sizes.items() for _ in range(m)]
    n = len(groups)
    mean = draw(1, n, 1)
    scale = torch.where(torch.arange(n)[:, None] < 30, 0.1, 3.0)
    predictive, y = Predictive(Normal(), mean, "plug-in"), mean[0] + scale * draw(n, 1, seed=9)
    covered: dict[str, list[float]] = {"easy": [], "hard": []}
    pooled: dict[str, list[float]] = {"easy": [], "hard": []}
    for i in range(n):
        others = torch.arange(n) != i
        kept = [g for j, g in enumerate(groups) if j != i]
        one = rows(predictive, slice(i, i + 1))
        rule = calibrate(rows(predictive, others), y[others], alpha=0.2, score="absolute", groups=kept)
        covered[groups[i]].append(rule(one, [groups[i]]).coverage(y[i : i + 1]))
        plain = calibrate(rows(predictive, others), y[others], alpha=0.2, score="absolute")
        pooled[groups[i]].append(plain(one).coverage(y[i : i + 1]))
    for g, m in sizes.items():
        assert np.mean(covered[g]) == pytest.approx(rank(m - 1, 0.2) / m)
    assert np.mean(pooled["hard"]) < 0.6 < 0.9 < np.mean(pooled["easy"])
    assert rule.counts == (30, 14)
    assert rule.groups == ("easy", "hard")


def test_groups_may_be_numbers_or_tensors_and_come_in_any_order() -> None:
    predictive, y = case("measurements", 40)
    g = torch.arange(40) % 2
    whole = calibrate(predictive, y, alpha=0.2, groups=g)
    for k in (0, 1):
        alone = calibrate(rows(predictive, g == k), y[g == k], alpha=0.2)
        some = rows(predictive, slice(0, 7))
        a, b = whole(some, np.full(7, k)), alone(some)
        assert isinstance(a, Intervals)
        assert isinstance(b, Intervals)
        torch.testing.assert_close(a.low, b.low)
        torch.testing.assert_close(a.high, b.high)


# ------------------------------------------------------------------ scores by their definitions


def naive_score(p: list[float], label: int, u: float, penalty: float, k: int) -> float:
    order = sorted(range(len(p)), key=lambda c: (-p[c], c))
    place = order.index(label)
    return sum(p[c] for c in order[:place]) + u * p[label] + penalty * max(0, place + 1 - k)


@pytest.mark.parametrize(("score", "penalty", "k"), [(APS(), 0.0, 0), (RAPS(0.7, 2), 0.7, 2), (RAPS(0.1, 0), 0.1, 0)])
def test_adaptive_scores_are_those_of_the_papers(score: Callable[..., Tensor], penalty: float, k: int) -> None:
    p = draw(9, 5).softmax(1)
    p[3] = 0.2  # all tie
    u = torch.rand(9, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    want = [[naive_score(p[i].tolist(), c, float(u[i]), penalty, k) for c in range(5)] for i in range(9)]
    torch.testing.assert_close(score(p, u), double(want), rtol=1e-12, atol=1e-15)


def test_bands_are_those_of_the_predictive() -> None:
    predictive, _ = case("measurements", 6)
    low, high = predictive.interval(0.8)
    mean, sd = predictive.mean(), predictive.variance().sqrt()
    for score, want in (
        (Absolute(), (mean, mean, torch.ones_like(mean))),
        (Normalised(), (mean, mean, sd)),
        (CQR(), (low, high, torch.ones_like(mean))),
    ):
        for got, value in zip(score.band(predictive, 0.2), want, strict=True):
            torch.testing.assert_close(got, value)


def test_intervals_by_hand() -> None:
    zero = Predictive(Normal(sigma=2.0), torch.zeros(1, 9, 1).double(), "plug-in")
    y = double([3, -1, 4, 1, -5, 9, -2, 6, 5.5])
    for score, half in (("absolute", 6.0), ("normalised", 6.0), ("cqr", 6.0)):
        found = zero.conformal(0.2, zero, y, score=score)  # 8 of 9 residuals: 6
        assert isinstance(found, Intervals)
        torch.testing.assert_close(found.high, torch.full((9, 1), half).double())
        torch.testing.assert_close(found.width, torch.full((9, 1), 2 * half).double())
        assert found.coverage(y) == pytest.approx(8 / 9)
        assert found.level == pytest.approx(0.8)
    closed = Intervals(torch.tensor([[-6.0]] * 4), torch.tensor([[6.0]] * 4), 0.8)
    assert closed.covers(torch.tensor([-6.0, 6.0, -6.1, 6.1])).flatten().tolist() == [True, True, False, False]


def test_an_interval_that_shrinks_past_itself_is_empty() -> None:
    wide = Predictive(Normal(sigma=5.0), torch.zeros(1, 9, 1).double(), "plug-in")
    narrow = Predictive(Normal(sigma=0.1), torch.zeros(1, 3, 1).double(), "plug-in")
    found = calibrate(wide, torch.zeros(9).double(), alpha=0.2)(narrow)
    assert isinstance(found, Intervals)
    assert bool((found.high < found.low).all())
    assert found.width.tolist() == [[0.0]] * 3
    assert not found.covers(torch.zeros(3)).any()


def test_sets_of_labels_and_their_lists() -> None:
    predictive, y = case("labels", 50)
    sets = predictive.conformal(0.2, predictive, y)
    assert isinstance(sets, Sets)
    assert sets.member.shape == (50, 3, 2)
    assert sets.size.shape == (50, 3)
    p = predictive.mean()
    for c in range(3):  # each label is a problem of its own
        truth = torch.where(y[:, c] == 1, 1 - p[:, c], p[:, c])
        q = truth.sort().values[rank(50, 0.2) - 1]
        torch.testing.assert_close(sets.member[:, c, 1], 1 - p[:, c] <= q)
        torch.testing.assert_close(sets.member[:, c, 0], p[:, c] <= q)
    assert sets.coverage(y) == pytest.approx(rank(50, 0.2) / 50)
    assert len(sets.to_list()) == 150
    few = Sets(torch.tensor([[True, False, True], [False, False, False]]), 0.9)
    assert few.to_list() == [[0, 2], []]
    assert few.to_list(("cat", "dog", "cow")) == [["cat", "cow"], []]
    assert few.size.tolist() == [2, 0]
    assert few.coverage(torch.tensor([2, 1])) == 0.5


def test_random_sets_repeat_and_do_not_depend_on_what_follows() -> None:
    predictive, y = case("classes", 60)
    rule = calibrate(predictive, y, score="aps", seed=3)
    again = calibrate(predictive, y, score=APS(), seed=3)
    a, b, c = rule(predictive), again(predictive), rule(rows(predictive, slice(0, 20)))
    assert isinstance(a, Sets)
    assert isinstance(b, Sets)
    assert isinstance(c, Sets)
    assert torch.equal(a.member, b.member)
    assert torch.equal(a.member[:20], c.member)
    other = calibrate(predictive, y, score="aps", seed=4)(predictive)
    assert isinstance(other, Sets)
    assert not torch.equal(a.member, other.member)


def test_defaults_fit_the_likelihood() -> None:
    for task, name in (("classes", "lac"), ("labels", "lac"), ("measurements", "cqr")):
        assert calibrate(*case(task, 20)).score.name == name
    loss = Gibbs(lambda f, y: (f - y).square().sum(1), name="squares", task="regression")
    rule = calibrate(Predictive(loss, draw(1, 20, 1), "plug-in"), draw(20, 1, seed=2))
    assert rule.score.name == "absolute"


# ------------------------------------------------------------------ MAPIE


@pytest.mark.parametrize("alpha", [0.1, 0.25])
def test_sets_are_those_of_mapie(alpha: float) -> None:
    """golden_conformal.py made them with mapie 1.6.0, which keeps ``u`` where the papers have ``1 − u``."""
    g = GOLDEN["classes"]
    n, p, y = g["n"], double(g["p"]), torch.tensor(g["y"])
    predictive = Predictive(Categorical(), p.log().unsqueeze(0), "plug-in")
    sets = calibrate(rows(predictive, slice(0, n)), y[:n], alpha=alpha)(rows(predictive, slice(n, None)))
    assert isinstance(sets, Sets)
    assert sets.member.int().tolist() == g[f"lac {alpha}"]
    u, v = (torch.tensor(1 - np.random.RandomState(g["seed"]).uniform(size=m)) for m in (n, len(p) - n))
    q = APS()(p[:n], u).gather(1, y[:n, None])[:, 0].sort().values[rank(n, alpha) - 1]
    assert (APS()(p[n:], v) <= q).int().tolist() == g[f"aps {alpha}"]


@pytest.mark.parametrize("score", ["absolute", "cqr"])
def test_intervals_are_those_of_mapie(score: str) -> None:
    """golden_conformal.py made them with mapie 1.6.0."""
    g = GOLDEN["measurements"]
    n, y = g["n"], double(g["y"])
    f = torch.stack([double(g["mean"]), double(g["sd"]).log()], 1).unsqueeze(0)
    predictive = Predictive(HeteroscedasticNormal(), f, "plug-in")
    rule = calibrate(rows(predictive, slice(0, n)), y[:n], alpha=g["alpha"], score=score)
    found = rule(rows(predictive, slice(n, None)))
    assert isinstance(found, Intervals)
    torch.testing.assert_close(torch.cat([found.low, found.high], 1), double(g[score]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["jackknife+", "cv+"])
def test_crossed_intervals_are_those_of_mapie(name: str) -> None:
    """golden_conformal.py made them with mapie 1.6.0 and linear regressions of scikit-learn 1.9.1."""
    g, y = GOLDEN["crossed"][name], double(GOLDEN["crossed"]["y"])
    parts = (y, double(g["held_out"]), double(g["predictions"]))
    found = cv_plus(*parts, torch.tensor(g["folds"]), alpha=GOLDEN["crossed"]["alpha"])
    torch.testing.assert_close(torch.cat([found.low, found.high], 1), double(g["interval"]), rtol=1e-12, atol=0)
    if name == "jackknife+":
        same = jackknife_plus(*parts, alpha=GOLDEN["crossed"]["alpha"])
        torch.testing.assert_close((same.low, same.high, same.level), (found.low, found.high, 0.7))


# ------------------------------------------------------------------ jackknife+ and CV+


def test_crossed_intervals_by_their_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    n, models, new, alpha = 21, 4, 6, 0.3
    y, held_out, predictions = draw(n, 2), draw(n, 2, seed=1), draw(models, new, 2, seed=2)
    folds = torch.arange(n) % models
    monkeypatch.setattr("novacula.prediction.conformal.cross._AT_ONCE", n * 2 * 4)
    found = cv_plus(y, held_out, predictions, folds, alpha=alpha)
    for j in range(new):
        for d in range(2):
            centre = [float(predictions[folds[i], j, d]) for i in range(n)]
            r = [abs(float(y[i, d] - held_out[i, d])) for i in range(n)]
            low = sorted(c - e for c, e in zip(centre, r, strict=True))[math.floor(0.3 * (n + 1) + 1e-9) - 1]
            high = sorted(c + e for c, e in zip(centre, r, strict=True))[math.ceil(0.7 * (n + 1) - 1e-9) - 1]
            assert (float(found.low[j, d]), float(found.high[j, d])) == pytest.approx((low, high))
    assert found.level == pytest.approx(1 - 0.6 - min(2 * (1 - 1 / 4) / (21 / 4 + 1), (1 - 4 / 21) / 5))


def test_crossed_intervals_in_units_of_a_scale_by_their_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    n, models, new, alpha = 19, 3, 5, 0.2
    y, held_out, predictions = draw(n, 2), draw(n, 2, seed=1), draw(models, new, 2, seed=2)
    own, theirs = draw(n, 2, seed=3).exp(), draw(models, new, 2, seed=4).exp()
    folds = torch.arange(n) % models
    monkeypatch.setattr("novacula.prediction.conformal.cross._AT_ONCE", n * 2 * 2)
    found = cv_plus(y, held_out, predictions, folds, alpha=alpha, scales=(own, theirs))
    for j in range(new):
        for d in range(2):
            ends = []
            for i in range(n):
                z = abs(float(y[i, d] - held_out[i, d])) / float(own[i, d])
                centre, s = float(predictions[folds[i], j, d]), float(theirs[folds[i], j, d])
                ends.append((centre - z * s, centre + z * s))
            low = sorted(e[0] for e in ends)[math.floor(alpha * (n + 1) + 1e-9) - 1]
            high = sorted(e[1] for e in ends)[math.ceil((1 - alpha) * (n + 1) - 1e-9) - 1]
            assert (float(found.low[j, d]), float(found.high[j, d])) == pytest.approx((low, high))
    # One scale for all changes nothing.
    same = cv_plus(y, held_out, predictions, folds, alpha=alpha, scales=(0 * own + 3.0, 0 * theirs + 3.0))
    plain = cv_plus(y, held_out, predictions, folds, alpha=alpha)
    torch.testing.assert_close((same.low, same.high), (plain.low, plain.high))
    with pytest.raises(InputError, match="positive scales"):
        cv_plus(y, held_out, predictions, folds, alpha=alpha, scales=(0 * own, theirs))


def test_the_jackknife_misses_no_more_than_its_theorem_says() -> None:
    """Of n + 1 examples fewer than 2α(n + 1) are missed when each is left out in turn: no chance is involved."""
    n, alpha = 19, 0.15
    x = torch.cat([draw(n + 1, 2), torch.ones(n + 1, 1)], 1)
    y = x @ double([[1.0], [-2.0], [0.3]]) + draw(n + 1, 1, seed=2).exp()

    def fit(keep: Tensor) -> Tensor:
        return torch.linalg.lstsq(x[keep], y[keep]).solution

    missed = 0
    for new in range(n + 1):
        train = [i for i in range(n + 1) if i != new]
        weights = [fit(torch.tensor([j for j in train if j != i])) for i in train]
        left = torch.stack([x[i] @ w for i, w in zip(train, weights, strict=True)])
        there = torch.stack([x[new : new + 1] @ w for w in weights])
        missed += not jackknife_plus(y[train], left, there, alpha=alpha).covers(y[new : new + 1]).all()
    assert 0 < missed < 2 * alpha * (n + 1)


@pytest.mark.parametrize("score", [LAC(), APS(randomised=False), RAPS(0.2, 1, randomised=False)])
def test_crossed_sets_by_their_definition(score: Any) -> None:
    n, models, new, alpha = 25, 3, 40, 0.2
    p, there = draw(n, 4).softmax(1), (2 * draw(models, new, 4, seed=2)).softmax(2)
    y, folds = torch.arange(n) % 4, torch.arange(n) % models
    found = cv_plus_sets(y, p, there, folds, alpha=alpha, score=score)
    own, one = score(p, torch.ones(n)), torch.ones(1)
    for j in range(new):
        for c in range(4):
            worse = sum(bool(own[i, y[i]] < score(there[folds[i], j : j + 1], one)[0, c]) for i in range(n))
            assert bool(found.member[j, c]) == (worse < 0.8 * 26)
    assert 0 < float(found.size.double().mean()) < 4
    assert found.level == pytest.approx(1 - 0.4 - min(2 * (2 / 3) / (25 / 3 + 1), (1 - 3 / 25) / 4))


def test_crossed_sets_of_one_model_are_split_sets() -> None:
    predictive, y = case("classes", 60)
    p = predictive.mean()
    sets = cv_plus_sets(y[:40], p[:40], p[None, 40:], torch.zeros(40), alpha=0.25)
    split = calibrate(rows(predictive, slice(0, 40)), y[:40], alpha=0.25)(rows(predictive, slice(40, None)))
    assert isinstance(split, Sets)
    assert torch.equal(sets.member, split.member)


# ------------------------------------------------------------------ what is refused


def rule() -> Conformal:
    return calibrate(*case("classes", 20), groups=[0, 1] * 10)


@pytest.mark.parametrize(
    ("task", "n", "options", "match"),
    [
        ("classes", 8, {}, "at least 9 calibration examples for alpha=0.1; got 8"),
        ("measurements", 98, {"alpha": 0.01}, "at least 99"),
        ("classes", 20, {"groups": ["a"] * 15 + ["b"] * 5}, "at least 9 calibration examples of group 'b'.*got 5"),
        ("classes", 20, {"groups": ["a"] * 19}, "each of the 20 inputs"),
        ("classes", 20, {"groups": ["a"] * 19 + [math.nan]}, "nan in row 19"),
        ("classes", 20, {"alpha": 0.0}, "between 0 and 1"),
        ("classes", 20, {"alpha": 10}, "between 0 and 1"),
        ("classes", 20, {"score": "cqr"}, "lac, aps, raps"),
        ("classes", 20, {"score": CQR()}, "lac, aps, raps"),
        ("measurements", 20, {"score": APS()}, "absolute, normalised, cqr"),
        ("labels", 20, {"score": "margin"}, "lac, aps, raps"),
    ],
)
def test_bad_calibrations_are_refused(task: str, n: int, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        calibrate(*case(task, n), **options)


def test_labels_and_predictives_that_do_not_fit_are_refused() -> None:
    predictive, y = case("classes", 20)
    with pytest.raises(InputError, match="20 inputs"):
        calibrate(predictive, y[:10])
    with pytest.raises(InputError, match="row 0"):
        calibrate(predictive, y + 4)
    with pytest.raises(InputError, match="among"):
        rule()(predictive, [0] * 19 + [2])
    with pytest.raises(InputError, match="group of each input"):
        rule()(predictive)
    with pytest.raises(InputError, match="no groups"):
        calibrate(predictive, y)(predictive, [0] * 20)
    with pytest.raises(InputError, match="predictive for classification"):
        calibrate(predictive, y)(case("labels", 5)[0])
    with pytest.raises(InputError, match="2 outputs"):
        calibrate(*case("measurements", 20))(Predictive(Normal(), draw(1, 3, 1), "plug-in"))
    raw = Gibbs(lambda f, y: f.square().sum(1), name="raw", task="classification")
    with pytest.raises(InputError, match="sum to 1"):
        calibrate(Predictive(raw, draw(1, 20, 3), "plug-in"), y % 3)
    other = Gibbs(lambda f, y: f.square().sum(1), name="raw")
    with pytest.raises(InputError, match="'other'"):
        calibrate(Predictive(other, draw(1, 20, 3), "plug-in"), y % 3)
    with pytest.raises(InputError, match="negative"):
        RAPS(-0.1)
    sets = predictive.conformal(0.2, predictive, y)
    with pytest.raises(InputError, match=r"shape \(20,\)"):
        sets.covers(y[:3])
    intervals = case("measurements", 20)[0].conformal(0.2, *case("measurements", 20))
    with pytest.raises(InputError, match=r"\(20, 2\)"):
        intervals.covers(torch.zeros(20))


@pytest.mark.parametrize(
    ("function", "arguments", "match"),
    [
        (jackknife_plus, (draw(20), draw(20), draw(19, 3)), "0..18"),
        (jackknife_plus, (draw(20), draw(19), draw(20, 3)), "out-of-fold"),
        (jackknife_plus, (draw(20), draw(20), draw(20)), "out-of-fold"),
        (jackknife_plus, (draw(20), draw(20), math.inf * draw(20, 3)), "finite"),
        (jackknife_plus, (draw(8), draw(8), draw(8, 3)), "at least 9"),
        (cv_plus, (draw(20), draw(20), draw(4, 3), torch.zeros(19)), "20 examples"),
        (cv_plus, (draw(20), draw(20), draw(4, 3), torch.full((20,), 4)), "0..3"),
        (cv_plus_sets, (torch.zeros(20), draw(20, 3), draw(4, 5, 2), torch.zeros(20)), "check the axes"),
        (cv_plus_sets, (torch.zeros(19), draw(20, 3), draw(4, 5, 3), torch.zeros(20)), "20 labels"),
    ],
)
def test_bad_arrays_of_crossed_models_are_refused(function: Any, arguments: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        function(*arguments)
