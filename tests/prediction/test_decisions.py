"""Decisions against enumeration, closed forms and quadrature; tables of costs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor

from novacula.core.errors import InputError
from novacula.likelihoods import Bernoulli, Categorical, Gibbs, HeteroscedasticNormal, Normal, ZeroOne
from novacula.prediction import Costs, Decision, PointDecision, Predictive, load_costs

COSTS = [[0.0, 2.0, 5.0, 1.5], [7.0, 0.0, 1.0, 1.5], [9.0, 4.0, -1.0, 1.5]]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(n: int = 40, s: int = 3) -> Predictive:
    return Predictive(Categorical(), 3 * draw(s, n, 3), "mixture")


def mixture() -> Predictive:
    return Predictive(HeteroscedasticNormal(), draw(4, 3, 4), "mixture")


def density(predictive: Predictive, row: int, target: int) -> Any:
    mu, sd = (t[:, row, target].numpy() for t in predictive.gaussians())
    return lambda y: float(norm.pdf(y, mu, sd).mean())


def expectation(predictive: Predictive, row: int, target: int, loss: Any, kink: float) -> float:
    p = density(predictive, row, target)
    return sum(quad(lambda y: loss(y) * p(y), a, b, limit=400)[0] for a, b in ((kink - 60, kink), (kink, kink + 60)))


# ------------------------------------------------------------------ costs


def test_the_action_has_the_least_expected_cost_of_all() -> None:
    predictive = classes()
    decision = predictive.decide(COSTS, actions=["stay", "walk", "run", "refer"])
    p = predictive.mean().numpy()
    for n in range(predictive.n):
        each = [sum(p[n, c] * COSTS[c][a] for c in range(3)) for a in range(4)]
        np.testing.assert_allclose(decision.expected[n], each, rtol=1e-12)
        assert int(decision.action[n]) == int(np.argmin(each))
        assert decision.chosen[n] == ("stay", "walk", "run", "refer")[int(np.argmin(each))]
        assert float(decision.loss[n]) == pytest.approx(min(each))
    assert len(set(decision.action.tolist())) == 4  # the case is not degenerate
    assert not decision.abstained.any()
    assert decision.exact


@pytest.mark.parametrize("costs", [COSTS, torch.tensor(COSTS), np.array(COSTS), Costs(COSTS)])
def test_costs_may_come_as_lists_tensors_arrays_or_named(costs: Any) -> None:
    torch.testing.assert_close(classes().decide(costs).expected, classes().mean() @ torch.tensor(COSTS).double())


def test_two_classes_with_unequal_errors_have_their_threshold_moved() -> None:
    """Act on class 1 where p ≥ c₀₁ / (c₀₁ + c₁₀): 1/6 for a miss that costs 5 and a false alarm that costs 1."""
    f = torch.stack([torch.zeros(200), torch.linspace(-4, 4, 200)], -1).double().unsqueeze(0)
    predictive = Predictive(Categorical(), f, "plug-in")
    decision = predictive.decide([[0, 1], [5, 0]])
    torch.testing.assert_close(decision.action, (predictive.mean()[:, 1] > 1 / 6).long())


def test_abstention_is_chows_rule() -> None:
    predictive = classes()
    decision = predictive.decide("zero_one", abstain=0.25)
    p = predictive.mean()
    torch.testing.assert_close(decision.abstained, p.amax(1) < 0.75)
    torch.testing.assert_close(decision.action, torch.where(p.amax(1) < 0.75, 3, p.argmax(1)))
    assert decision.actions == ("0", "1", "2", "abstain")
    assert 0 < int(decision.abstained.sum()) < predictive.n
    assert [c for c, a in zip(decision.chosen, decision.abstained, strict=True) if a] == ["abstain"] * int(
        decision.abstained.sum()
    )
    # Abstaining is never worse in expectation, and loses a tie.
    assert bool((decision.loss <= predictive.decide("zero_one").loss).all())
    sure = Predictive(Categorical(), torch.zeros(1, 1, 4), "plug-in")
    assert not sure.decide("zero_one", abstain=0.75).abstained.any()
    assert sure.decide("zero_one", abstain=0.0).abstained.all()


def test_what_decisions_cost_in_the_end() -> None:
    predictive, y = classes(), torch.arange(40) % 3
    decision = predictive.decide(COSTS, abstain=1.4)
    want = [1.4 if a == 4 else COSTS[int(c)][int(a)] for a, c in zip(decision.action, y, strict=True)]
    torch.testing.assert_close(decision.incurred(y), torch.tensor(want).double())
    with pytest.raises(InputError, match="40 labels"):
        decision.incurred(y[:5])
    with pytest.raises(InputError, match="row 1"):
        decision.incurred(torch.tensor([0, 3] * 20))


def test_expected_costs_are_those_incurred_on_labels_drawn_from_the_predictive() -> None:
    """Over 4,000 draws of 40 labels; 5 standard errors of the mean, so false alarms are below 1e-6."""
    predictive = classes()
    decision = predictive.decide(COSTS, abstain=1.4)
    y = predictive.sample(4_000, torch.Generator().manual_seed(0))
    mean = torch.stack([decision.incurred(row) for row in y]).mean(1)
    # One draw's labels share their component, so the draws' means are the independent quantities.
    assert abs(float(mean.mean() - decision.loss.mean())) < 5 * float(mean.std()) / math.sqrt(len(y))


def test_labels_are_decided_one_by_one() -> None:
    predictive = Predictive(Bernoulli(), draw(2, 11, 3), "mixture")
    decision = predictive.decide([[0, 1, 0.3], [4, 0, 0.9]], actions=["no", "yes", "look"])
    p = predictive.mean()
    for n in range(11):
        for c in range(3):
            q = float(p[n, c])
            each = [4 * q, 1 - q, 0.3 * (1 - q) + 0.9 * q]
            np.testing.assert_allclose(decision.expected[n, c], each, rtol=1e-12)
            assert decision.chosen[n][c] == ("no", "yes", "look")[int(np.argmin(each))]
    y = (draw(11, 3, seed=4) > 0).double()
    want = torch.tensor([[0, 1, 0.3], [4, 0, 0.9]]).double()[y.long(), decision.action]
    torch.testing.assert_close(decision.incurred(y), want)
    torch.testing.assert_close(predictive.decide("zero_one").action, (p > 0.5).long())


# ------------------------------------------------------------------ functions


def test_a_function_of_classes_is_a_matrix() -> None:
    matrix = torch.tensor(COSTS)
    decision = classes().decide(lambda a, y: matrix[y, a], actions=[0, 1, 2, 3], abstain=2.0)
    torch.testing.assert_close(decision.expected, classes().decide(matrix, abstain=2.0).expected)
    assert decision.exact
    assert decision.actions == (0, 1, 2, 3, "abstain")


def test_regret_leads_to_the_same_actions_as_its_loss() -> None:
    matrix = torch.tensor(COSTS)
    regret = matrix - matrix.amin(1, keepdim=True)
    torch.testing.assert_close(classes().decide(regret).action, classes().decide(matrix).action)


def test_a_newsvendor_orders_what_quadrature_says() -> None:
    """Unsold copies cost 1, missing ones 4: the expected cost of each order, to the accuracy of 4,096 even draws."""
    predictive, orders = mixture(), torch.linspace(-3, 3, 13).tolist()

    def cost(order: float, y: Tensor) -> Tensor:
        return ((order - y).clamp(min=0) + 4 * (y - order).clamp(min=0))[..., 0]

    decision = predictive.decide(cost, actions=orders, draws=4096)
    assert not decision.exact
    for n in range(predictive.n):
        want = [expectation(predictive, n, 0, lambda y, a=a: max(a - y, 0) + 4 * max(y - a, 0), a) for a in orders]
        np.testing.assert_allclose(decision.expected[n], want, rtol=0.02)
        assert want[int(decision.action[n])] < min(want) + 0.02
    few = Predictive(HeteroscedasticNormal(), predictive.outputs[:, 1:2], "mixture")
    torch.testing.assert_close(
        few.decide(cost, actions=orders, draws=4096).expected, decision.expected[1:2], rtol=1e-12, atol=0
    )


def test_a_loss_of_several_targets_sees_how_they_vary_together() -> None:
    """``E (y₁ + y₂ − a)²`` in closed form, for one Gaussian with a covariance and for a mixture of two far apart."""
    v = torch.tensor([[[2.0, 1.8], [1.8, 2.0]]], dtype=torch.float64)
    m = torch.tensor([[[0.3, -1.0]]], dtype=torch.float64)
    one = Predictive(Normal(sigma=0.5), m, "analytic", covariance=v)
    square = lambda a, y: (y.sum(-1) - a).square()  # noqa: E731
    got = one.decide(square, actions=[0.0, 1.0], draws=8192).expected[0]
    torch.testing.assert_close(got, 7.6 + 0.5 + (torch.tensor([0.0, 1.0]).double() + 0.7).square(), rtol=0.01, atol=0)
    far = torch.tensor([[[3.0, 3.0]], [[-3.0, -3.0]]], dtype=torch.float64)
    two = Predictive(Normal(sigma=0.5), far, "mixture")
    got = two.decide(square, actions=[0.0, 1.0], draws=8192).expected[0]
    torch.testing.assert_close(got, 36.5 + torch.tensor([0.0, 1.0]).double().square(), rtol=0.01, atol=0)


def test_a_loss_of_several_labels_sees_how_they_vary_together() -> None:
    """The cost of missing any: two components, one with both labels, one with none."""
    f = torch.tensor([[[2.0, 1.0]], [[-3.0, -1.0]]], dtype=torch.float64)
    predictive = Predictive(Bernoulli(), f, "mixture")
    none = (1 - f.sigmoid()).prod(-1).mean()
    decision = predictive.decide(
        lambda a, y: torch.where(y.sum(-1) > 0, 3.0 - 3 * a, 1.0 * a), actions=[0, 1], draws=8192
    )
    torch.testing.assert_close(decision.expected[0], torch.stack([3 * (1 - none), none]), rtol=0.01, atol=0)


def test_many_draws_are_averaged_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    square = lambda a, y: (y - a).square().sum(-1)  # noqa: E731
    whole = mixture().decide(square, actions=[0.0, 0.5]).expected
    monkeypatch.setattr("novacula.prediction.decisions.decide._AT_ONCE", 12 * 100)
    torch.testing.assert_close(mixture().decide(square, actions=[0.0, 0.5]).expected, whole, rtol=1e-12, atol=0)


# ------------------------------------------------------------------ losses of measurements that have names


@pytest.mark.parametrize(
    ("name", "tau", "loss"),
    [
        ("squared", None, lambda y, a: (y - a) ** 2),
        ("absolute", None, lambda y, a: abs(y - a)),
        ("pinball", 0.9, lambda y, a: 0.9 * (y - a) if y > a else 0.1 * (a - y)),
        ("pinball", 0.2, lambda y, a: 0.2 * (y - a) if y > a else 0.8 * (a - y)),
    ],
)
def test_named_losses_of_a_mixture(name: Any, tau: float | None, loss: Any) -> None:
    predictive = mixture()
    decision = predictive.decide(name, tau=tau)
    assert isinstance(decision, PointDecision)
    want = {"squared": predictive.mean(), "absolute": predictive.quantile(0.5)}.get(
        name, predictive.quantile(tau or 0.5)
    )
    torch.testing.assert_close(decision.value, want)
    for n, d in ((0, 0), (2, 1)):
        a = float(decision.value[n, d])
        best = expectation(predictive, n, d, lambda y, b=a: loss(y, b), a)
        assert float(decision.expected[n, d]) == pytest.approx(best, rel=1e-7)
        for other in (a - 0.1, a + 0.1):
            assert expectation(predictive, n, d, lambda y, b=other: loss(y, b), other) > best


def test_values_are_withheld_where_they_cost_too_much() -> None:
    decision = mixture().decide("absolute", abstain=0.8)
    assert 0 < int(decision.abstained.sum()) < decision.abstained.numel()
    torch.testing.assert_close(decision.abstained, decision.expected > 0.8)
    torch.testing.assert_close(decision.value.isnan(), decision.abstained)


def test_named_losses_of_one_gaussian() -> None:
    one = Predictive(Normal(sigma=0.5), torch.tensor([[[1.0]]]).double(), "analytic", torch.tensor([[[2.0]]]).double())
    assert float(one.decide("squared").expected) == pytest.approx(2.25)
    assert float(one.decide("absolute").expected) == pytest.approx(1.5 * math.sqrt(2 / math.pi))
    assert float(one.decide("pinball", tau=0.9).value) == pytest.approx(norm.ppf(0.9, 1, 1.5))


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("loss", "options", "match"),
    [
        ([[0, 1], [1, 0]], {}, r"\(C, A\) = \(3, A\).*got shape \(2, 2\)"),
        (torch.zeros(4, 3), {}, "transpose"),
        ([0.0, 1.0, 2.0], {}, r"\(C, A\).*shape \(3,\)"),
        ([[0, 1], [1]], {}, "rows of equal length"),
        ([[0, math.nan], [1, 0], [1, 1]], {}, "nan in row 0, column 1"),
        ([[0, 1], [1, 0], [1, math.inf]], {}, "inf in row 2, column 1"),
        (COSTS, {"actions": ["a", "b"]}, "4 different names of actions"),
        (COSTS, {"actions": ["a", "b", "c", "a"]}, "different names"),
        (COSTS, {"abstain": -0.1}, "0 or more"),
        (COSTS, {"abstain": math.nan}, "0 or more"),
        (COSTS, {"tau": 0.5}, "pinball"),
        ("squared", {}, "regression"),
        ("hinge", {}, "check the name"),
        (lambda a, y: y, {}, "actions"),
        (lambda a, y: y, {"actions": []}, "actions"),
        (lambda a, y: y[:2].double(), {"actions": [1]}, r"shape \(3,\)"),
        (lambda a, y: y / 0, {"actions": ["x"]}, "NaN or infinity for the action 'x'"),
        (lambda a, y: 1.0, {"actions": [1]}, "a float"),
    ],
)
def test_losses_that_do_not_fit_classes_are_refused(loss: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        classes().decide(loss, **options)


@pytest.mark.parametrize(
    ("loss", "options", "match"),
    [
        (COSTS, {}, "squared"),
        ("zero_one", {}, "absolute"),
        ("pinball", {}, "tau"),
        ("pinball", {"tau": 1.0}, "tau"),
        ("absolute", {"actions": [1, 2]}, "actions"),
        (lambda a, y: (y - a).abs(), {"actions": [0.0]}, r"losses of shape \(1024, 3\)"),
        (lambda a, y: y.sum(-1), {"actions": [0.0], "draws": 0}, "draws as a whole number"),
    ],
)
def test_losses_that_do_not_fit_measurements_are_refused(loss: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        mixture().decide(loss, **options)


def test_likelihoods_without_labels_to_draw_are_refused() -> None:
    loss = Gibbs(lambda f, y: (f - y).square().sum(1), name="squares")
    with pytest.raises(InputError, match="drawn"):
        Predictive(loss, draw(1, 2, 1), "plug-in").decide(lambda a, y: y, actions=[0])


def test_decisions_under_a_function_cannot_be_scored_without_it() -> None:
    decision = mixture().decide(lambda a, y: (y - a).abs().sum(-1), actions=[0.0])
    assert isinstance(decision, Decision)
    with pytest.raises(InputError, match="function"):
        decision.incurred(torch.zeros(3))


def test_scores_that_are_no_densities_still_decide() -> None:
    decision = Predictive(ZeroOne(), torch.eye(3)[None], "plug-in").decide(COSTS)
    torch.testing.assert_close(decision.expected, torch.tensor(COSTS).double())


# ------------------------------------------------------------------ tables


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_costs(tmp_path: Path, separator: str) -> None:
    text = "\ufefftruth,treat,wait,refer\n\nill, 0,100,3\nhealthy,5,-1e-1,1\n".replace(",", separator)
    costs = load_costs(write(tmp_path / "costs.csv", text), ("healthy", "ill"))
    assert costs.matrix.tolist() == [[5.0, -0.1, 1.0], [0.0, 100.0, 3.0]]
    assert costs.classes == ("healthy", "ill")
    assert costs.actions == ("treat", "wait", "refer")
    sure = Predictive(Categorical(), torch.tensor([[[9.0, 0.0], [0.0, 9.0], [0.0, -2.0]]]), "plug-in")
    assert sure.decide(costs).chosen == ["wait", "treat", "refer"]


def test_classes_without_names_are_numbers(tmp_path: Path) -> None:
    costs = load_costs(write(tmp_path / "costs.csv", "x,a,b\n1,1,2\n0,3,4\n2,5,6\n"), 3)
    assert costs.matrix.tolist() == [[3.0, 4.0], [1.0, 2.0], [5.0, 6.0]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "header"),
        ("x,a,b\n", "header"),
        ("x\n0\n1\n", "header"),
        ("x,a,b\n0,1\n1,2,3\n", "2 in line 2"),
        ("x,a,b\n0,1,2\n1,2,three\n", "'three' in line 3, column 'b'"),
        ("x,a,b\n0,1,\n1,2,3\n", "'' in line 2, column 'b'"),
        ("x,a,b\n0,1,nan\n1,2,3\n", "'nan' in line 2"),
        ("x,a,b\n0,1,2\n0,2,3\n", "different names of classes"),
        ("x,a,a\n0,1,2\n1,2,3\n", "different names of actions"),
        ("x,a,b\n0,1,2\n", r"no row for \['1'\]"),
        ("x,a,b\n0,1,2\ncat,2,3\n", r"no row for \['1'\] and rows for \['cat'\]"),
    ],
)
def test_tables_that_are_wrong_are_refused_with_the_place(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        load_costs(write(tmp_path / "costs.csv", text), 2)
    assert "costs.csv" in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_costs(tmp_path / "none.csv", 2)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="UTF-8"):
        load_costs(tmp_path / "binary.csv", 2)
