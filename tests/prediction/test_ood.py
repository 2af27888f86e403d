"""Detection of strange inputs against enumeration and scikit-learn; risk and coverage against all orders of ties."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_curve
from torch import Tensor

from novacula.core.errors import InputError
from novacula.likelihoods import Bernoulli, Categorical, HeteroscedasticNormal, Normal
from novacula.prediction import Predictive, detection, ood, ood_score, risk_coverage, risk_coverage_of


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def average_precision(positive: list[float], negative: list[float]) -> float:
    """``Σ_t (R_t − R_{t−1}) P_t`` over the distinct scores as thresholds, from the highest down."""
    total, before = 0.0, 0.0
    for t in sorted({*positive, *negative}, reverse=True):
        hits, false = sum(s >= t for s in positive), sum(s >= t for s in negative)
        recall = hits / len(positive)
        total += (recall - before) * hits / (hits + false)
        before = recall
    return total


# ------------------------------------------------------------------ detection


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=45),
    st.lists(st.integers(0, 6), min_size=1, max_size=45),
)
@settings(max_examples=60, deadline=None)
def test_all_numbers_by_enumeration_with_many_ties(usual: list[int], strange: list[int]) -> None:
    found = detection(torch.tensor(usual), torch.tensor(strange))
    pairs = [(s > u) + 0.5 * (s == u) for s in strange for u in usual]
    assert found.auroc == pytest.approx(np.mean(pairs))
    assert found.aupr_out == pytest.approx(average_precision([float(s) for s in strange], [float(u) for u in usual]))
    assert found.aupr_in == pytest.approx(average_precision([-float(u) for u in usual], [-float(s) for s in strange]))
    thresholds = [t for t in range(7) if 20 * sum(u <= t for u in usual) >= 19 * len(usual)]
    assert found.fpr95 == pytest.approx(sum(s <= thresholds[0] for s in strange) / len(strange))


@pytest.mark.parametrize("n", [19, 20, 40, 57, 60])
def test_the_false_positive_rate_is_that_of_scikit_learns_curve(n: int) -> None:
    usual, strange = draw(n).round(decimals=1), 0.8 + draw(83, seed=1).round(decimals=1)
    accepted = np.concatenate([-usual.numpy(), -strange.numpy()])
    false, true, _ = roc_curve(np.repeat([1, 0], [n, 83]), accepted, drop_intermediate=False)
    assert detection(usual, strange).fpr95 == pytest.approx(false[np.argmax(true >= 0.95 - 1e-12)])


def test_two_gaussians_have_their_closed_form() -> None:
    """Φ(μ/√2), with a standard error below 0.003 at 2 · 20,000 scores: 5 of them are allowed for."""
    found = detection(draw(20_000), 1.3 + draw(20_000, seed=1))
    assert found.auroc == pytest.approx(norm.cdf(1.3 / math.sqrt(2)), abs=0.015)
    assert found.fpr95 == pytest.approx(norm.cdf(norm.ppf(0.95) - 1.3), abs=0.03)


def test_scores_that_swap_or_do_not_tell() -> None:
    a, b = draw(30), 0.5 + draw(20, seed=2)
    one, other = detection(a, b), detection(b, a)
    assert one.auroc + other.auroc == pytest.approx(1)
    flipped = detection(-b, -a)  # strange inputs of low score, seen from the other side
    assert (flipped.aupr_out, flipped.aupr_in) == pytest.approx((one.aupr_in, one.aupr_out))
    same = detection(torch.zeros(30), torch.zeros(10))
    assert (same.auroc, same.aupr_out, same.aupr_in, same.fpr95) == pytest.approx((0.5, 0.25, 0.75, 1.0))
    apart = detection(torch.zeros(3), torch.ones(4))
    assert (apart.auroc, apart.aupr_out, apart.aupr_in, apart.fpr95) == (1.0, 1.0, 1.0, 0.0)
    assert apart.to_dict() == {"auroc": 1.0, "aupr_out": 1.0, "aupr_in": 1.0, "fpr95": 0.0, "n_in": 3, "n_out": 4}


def test_scores_are_what_they_are_called() -> None:
    f = 3 * draw(4, 9, 5)
    predictive = Predictive(Categorical(), f, "mixture")
    p = f.softmax(-1)
    entropy = -(p.mean(0) * p.mean(0).log()).sum(-1)
    torch.testing.assert_close(ood_score(predictive), entropy)
    torch.testing.assert_close(ood_score(predictive, "max_probability"), 1 - p.mean(0).amax(-1))
    torch.testing.assert_close(ood_score(predictive, "epistemic"), entropy + (p * p.log()).sum(-1).mean(0))
    torch.testing.assert_close(ood_score(predictive, "energy"), -f.exp().sum(-1).log().mean(0))
    # A constant in the logits changes the energy alone.
    moved = Predictive(Categorical(), f + 2.0, "mixture")
    torch.testing.assert_close(ood_score(moved, "energy"), ood_score(predictive, "energy") - 2.0)
    torch.testing.assert_close(ood_score(moved), ood_score(predictive))
    gaussian = Predictive(HeteroscedasticNormal(), f[..., :4], "mixture")
    torch.testing.assert_close(ood_score(gaussian, "epistemic"), gaussian.entropy().epistemic)


def test_a_mixture_whose_parts_disagree_elsewhere_is_found_out() -> None:
    usual = Predictive(
        Categorical(), 4 * torch.eye(3, dtype=torch.float64)[torch.arange(12) % 3].repeat(6, 1, 1), "mixture"
    )
    strange = Predictive(Categorical(), 4 * draw(6, 30, 3), "mixture")
    for score in ("entropy", "max_probability", "epistemic"):
        found = ood(usual, strange, score=score)
        assert found.auroc > (0.99 if score == "epistemic" else 0.9)
        assert (len(found.usual), len(found.strange)) == (12, 30)
        assert found.auroc == detection(ood_score(usual, score), ood_score(strange, score)).auroc


@pytest.mark.parametrize(
    ("likelihood", "kind", "score", "match"),
    [
        (Categorical(), "mixture", "variance", "entropy, max_probability"),
        (Categorical(), "plug-in", "epistemic", "averages over weights"),
        (Categorical(), "probit", "energy", "monte_carlo"),
        (Bernoulli(), "mixture", "energy", "multilabel"),
        (Normal(), "mixture", "max_probability", "regression"),
    ],
)
def test_scores_that_do_not_exist_are_refused(likelihood: Any, kind: str, score: Any, match: str) -> None:
    predictive = Predictive(likelihood, draw(1, 4, 2), kind)
    with pytest.raises(InputError, match=match):
        ood_score(predictive, score)


@pytest.mark.parametrize(
    ("usual", "strange", "match"),
    [
        (torch.zeros(0), torch.zeros(3), r"usual.*shape \(0,\)"),
        (torch.zeros(3), torch.zeros(3, 1), r"strange.*shape \(3, 1\)"),
        (torch.zeros(3), torch.tensor([0.0, math.nan]), "strange.*NaN"),
        (torch.tensor([math.inf]), torch.zeros(3), "usual.*infinity"),
    ],
)
def test_bad_scores_are_refused(usual: Tensor, strange: Tensor, match: str) -> None:
    with pytest.raises(InputError, match=match):
        detection(usual, strange)


# ------------------------------------------------------------------ risk and coverage


def naive_aurc(losses: list[float]) -> float:
    return float(np.mean([np.mean(losses[:k]) for k in range(1, len(losses) + 1)]))


def test_the_area_is_the_mean_over_all_orders_of_tied_rows() -> None:
    confidence = [0.9, 0.5, 0.7, 0.7, 0.5, 0.7, 0.5]
    loss = [0.0, 1.0, 2.0, 0.0, 0.5, 1.0, 0.0]
    orders = [
        order
        for order in itertools.permutations(range(7))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    assert len(orders) == 36
    want = np.mean([naive_aurc([loss[i] for i in order]) for order in orders])
    curve = risk_coverage(torch.tensor(confidence), torch.tensor(loss))
    assert curve.aurc == pytest.approx(want)
    assert curve.e_aurc == pytest.approx(want - naive_aurc(sorted(loss)))
    shuffled = torch.tensor([4, 2, 6, 0, 5, 1, 3])
    assert risk_coverage(torch.tensor(confidence)[shuffled], torch.tensor(loss)[shuffled]).aurc == pytest.approx(want)
    risks = np.mean([[np.mean([loss[i] for i in order[:k]]) for k in range(1, 8)] for order in orders], 0)
    np.testing.assert_allclose(curve.risk, risks)
    np.testing.assert_allclose(curve.coverage, np.arange(1, 8) / 7)


def test_the_best_order_has_no_excess_and_a_worse_one_has_more() -> None:
    loss = draw(50).abs()
    best, middle, worst = (risk_coverage(c, loss) for c in (-loss, torch.zeros(50), loss))
    assert best.e_aurc == pytest.approx(0, abs=1e-12)
    assert best.aurc < middle.aurc < worst.aurc
    assert middle.aurc == pytest.approx(float(loss.mean()))
    assert best.aurc == pytest.approx(naive_aurc(sorted(loss.tolist())))


def test_many_errors_have_the_best_area_of_the_paper() -> None:
    """The best order of 0-1 losses with error rate r has about ``r + (1 − r) log(1 − r)`` (Geifman et al.)."""
    loss = (torch.arange(20_000) < 4_000).double()
    curve = risk_coverage(-loss, loss)
    assert curve.aurc == pytest.approx(0.2 + 0.8 * math.log(0.8), abs=1e-4)


def test_the_curve_of_a_predictive() -> None:
    f, y = draw(2, 40, 3), torch.arange(40) % 3
    predictive = Predictive(Categorical(), f, "mixture")
    p = predictive.mean()
    order = p.amax(1).argsort(descending=True)
    want = naive_aurc((p.argmax(1) != y)[order].double().tolist())
    assert risk_coverage_of(predictive, y).aurc == pytest.approx(want)
    labels = (draw(40, 3, seed=2) > 0).double()
    several = Predictive(Bernoulli(), f, "mixture")
    q = several.mean()
    order = torch.maximum(q, 1 - q).flatten().argsort(descending=True)
    want = naive_aurc(((q > 0.5) != (labels > 0.5)).flatten()[order].double().tolist())
    assert risk_coverage_of(several, labels).aurc == pytest.approx(want)
    with pytest.raises(InputError, match="regression"):
        risk_coverage_of(Predictive(Normal(), f, "mixture"), labels)


@pytest.mark.parametrize(
    ("confidence", "loss"),
    [
        (torch.zeros(3), torch.zeros(2)),
        (torch.zeros(0), torch.zeros(0)),
        (torch.tensor([math.nan]), torch.zeros(1)),
        (torch.zeros(1), torch.tensor([math.inf])),
    ],
)
def test_bad_curves_are_refused(confidence: Tensor, loss: Tensor) -> None:
    with pytest.raises(InputError):
        risk_coverage(confidence, loss)
