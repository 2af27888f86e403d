"""Metrics and calibration against scikit-learn and hand computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, root_mean_squared_error
from torch import Tensor

from novacula.core.errors import InputError
from novacula.likelihoods import Bernoulli, Categorical, Gibbs, HeteroscedasticNormal, Normal, ZeroOne
from novacula.prediction import Predictive, crps, evaluate, gaussians, reliability, reliability_of, risk_coverage_of


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_classification_metrics_are_those_of_scikit_learn() -> None:
    f, y = 2 * draw(3, 57, 4), torch.randint(4, (57,), generator=torch.Generator().manual_seed(5))
    predictive = Predictive(Categorical(), f, "mixture")
    scores, p = evaluate(predictive, y), predictive.mean().numpy()
    onehot = np.eye(4)[y.numpy()]
    assert scores["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(1)))
    assert scores["nll"] == pytest.approx(log_loss(y, p, labels=[0, 1, 2, 3]), rel=1e-10)
    assert scores["brier"] == pytest.approx(np.mean(np.sum((p - onehot) ** 2, 1)), rel=1e-12)


def test_binary_metrics_are_those_of_scikit_learn() -> None:
    f, y = draw(1, 41, 1), (draw(41, 1, seed=3) > 0.4).double()
    predictive = Predictive(Bernoulli(), f, "plug-in")
    scores, p = evaluate(predictive, y), predictive.mean()[:, 0].numpy()
    truth = y[:, 0].long().numpy()
    assert scores["brier"] == pytest.approx(brier_score_loss(truth, p), rel=1e-12)
    assert scores["nll"] == pytest.approx(log_loss(truth, p), rel=1e-10)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, p > 0.5))


def test_multilabel_scores_labels_one_by_one_and_the_nll_jointly() -> None:
    f, y = draw(1, 23, 3), (draw(23, 3, seed=1) > 0).double()
    scores, p = evaluate(Predictive(Bernoulli(), f, "plug-in"), y), f[0].sigmoid().numpy()
    assert scores["accuracy"] == pytest.approx(np.mean((p > 0.5) == y.numpy()))
    assert scores["nll"] == pytest.approx(sum(log_loss(y[:, c], p[:, c], labels=[0, 1]) for c in range(3)), rel=1e-10)
    assert scores["brier"] == pytest.approx(np.mean([brier_score_loss(y[:, c], p[:, c]) for c in range(3)]), rel=1e-12)


def test_regression_metrics() -> None:
    f, y = draw(1, 400, 2), draw(400, 2, seed=7)
    scores = evaluate(Predictive(Normal(sigma=0.5), f, "plug-in"), y)
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(y.flatten(), f[0].flatten()), rel=1e-12)
    assert scores["nll"] == pytest.approx(-norm.logpdf(y, f[0], 0.5).sum(1).mean(), rel=1e-12)
    z = ((y - f[0]) / 0.5).numpy()  # Gneiting and Raftery's closed form for one Gaussian
    closed = 0.5 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi))
    assert scores["crps"] == pytest.approx(float(closed.mean()), rel=1e-10)
    inside = (y - f[0]).abs() <= 0.5 * norm.ppf(0.95)
    assert scores["coverage_90"] == pytest.approx(float(inside.double().mean()))


def test_calibration_error_by_hand() -> None:
    # (0, .5] holds .2 (wrong) and .4 (right); (.5, 1] holds .6, .9 and 1 (right, wrong, right).
    confidence = torch.tensor([0.9, 0.2, 0.6, 1.0, 0.4], dtype=torch.float64)
    correct = torch.tensor([False, False, True, True, True])
    table = reliability(confidence, correct, bins=2)
    assert table.count.tolist() == [2, 3]
    assert table.confidence.tolist() == pytest.approx([0.3, 2.5 / 3])
    assert table.accuracy.tolist() == pytest.approx([0.5, 2 / 3])
    assert table.error == pytest.approx(2 / 5 * 0.2 + 3 / 5 * (2.5 / 3 - 2 / 3))


def test_an_edge_belongs_to_the_bin_below_it_and_empty_bins_are_named() -> None:
    table = reliability(torch.tensor([0.0, 0.25, 0.5, 1.0]), torch.tensor([True] * 4), bins=4)
    assert table.count.tolist() == [2, 1, 0, 1]
    assert table.to_dict()["confidence"][2] is None
    assert table.to_dict()["accuracy"] == [1.0, 1.0, None, 1.0]


def test_bins_of_equal_mass_hold_equally_many_and_do_not_depend_on_the_order_of_ties() -> None:
    confidence = torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9, 0.95], dtype=torch.float64)
    correct = torch.tensor([True, False, True, True, False, True])
    table = reliability(confidence, correct, bins=3, spacing="mass")
    assert table.count.tolist() == [2, 2, 2]
    assert table.error == pytest.approx((abs(0.5 - 0.55) + abs(1 - 0.75) + abs(0.5 - 0.925)) / 3)
    # Ten equal confidences, four of them right: any order gives the same.
    tied, hits = torch.full((10,), 0.8), torch.arange(10) < 4
    errors = {reliability(tied, h, bins=3, spacing="mass").error for h in (hits, hits.flip(0), hits.roll(5))}
    assert max(errors) == pytest.approx(min(errors), abs=1e-12)
    assert max(errors) == pytest.approx(0.4, abs=1e-7)


def test_the_two_calibration_errors_of_a_calibrated_prediction_are_small() -> None:
    """False alarms: the bound is 5 standard deviations of the binned error at N = 20,000."""
    p = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hits = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) < p
    for spacing in ("width", "mass"):
        assert reliability(p, hits, spacing=spacing).error < 5 * 0.5 * math.sqrt(15 / 20_000)


def test_reliability_of_takes_the_most_probable_label() -> None:
    f = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 0.0, 3.0]]], dtype=torch.float64)
    table = reliability_of(Predictive(Categorical(), f, "plug-in"), torch.tensor([0, 1]))
    assert int(table.count.sum()) == 2
    assert table.accuracy.nan_to_num(0).sum() == 1
    with pytest.raises(InputError, match="regression"):
        reliability_of(Predictive(Normal(), f, "plug-in"), torch.zeros(2, 3))


def test_losses_without_a_density_are_scored_as_losses() -> None:
    f = torch.tensor([[[1.0], [3.0]], [[2.0], [5.0]]], dtype=torch.float64)
    loss = Gibbs(lambda f, y: (f - y).abs().square().sum(1), name="squares")
    y = torch.tensor([[1.0], [4.0]], dtype=torch.float64)
    scores = evaluate(Predictive(loss, f, "mixture"), y)
    assert scores == {"loss": pytest.approx((0 + 1 + 1 + 1) / 4)}
    with pytest.raises(InputError, match="normalised"):
        Predictive(loss, f, "mixture").log_prob(y)
    right = evaluate(Predictive(ZeroOne(), torch.eye(2)[None], "plug-in"), torch.tensor([0, 0]))
    assert right == {"loss": 0.5, "accuracy": 0.5}


@pytest.mark.parametrize(
    ("confidence", "correct", "bins"),
    [
        (torch.tensor([1.2]), torch.tensor([True]), 3),
        (torch.tensor([]), torch.tensor([]), 3),
        (torch.tensor([0.2, 0.3]), torch.tensor([True]), 3),
        (torch.tensor([0.2]), torch.tensor([True]), 0),
    ],
)
def test_bad_calibration_inputs_are_refused(confidence: Tensor, correct: Tensor, bins: int) -> None:
    with pytest.raises(InputError):
        reliability(confidence, correct, bins=bins)


def test_labels_that_do_not_fit_are_refused() -> None:
    predictive = Predictive(Categorical(), draw(1, 3, 2), "plug-in")
    with pytest.raises(InputError, match="row 2"):
        evaluate(predictive, torch.tensor([0, 1, 2]))
    with pytest.raises(InputError, match="3 inputs"):
        evaluate(predictive, torch.tensor([0, 1]))


# ------------------------------------------------------------------ the continuous ranked probability score


def quadrature(y: float, mu: np.ndarray, sd: np.ndarray) -> float:
    def cdf(t: float) -> float:
        return float(norm.cdf(t, mu, sd).mean())

    below = quad(lambda t: cdf(t) ** 2, y - 80, y, limit=800, points=[y - 1])[0]
    return below + quad(lambda t: (1 - cdf(t)) ** 2, y, y + 80, limit=800, points=[y + 1])[0]


@pytest.mark.parametrize("s", [1, 2, 5])
def test_the_score_of_a_mixture_is_the_integral(s: int) -> None:
    predictive, y = Predictive(HeteroscedasticNormal(), draw(s, 3, 4), "mixture"), 2 * draw(3, 2, seed=8)
    mu, sd = (t.numpy() for t in predictive.gaussians())
    want = [[quadrature(float(y[n, d]), mu[:, n, d], sd[:, n, d]) for d in range(2)] for n in range(3)]
    np.testing.assert_allclose(crps(predictive, y), want, rtol=1e-7)
    assert evaluate(predictive, y)["crps"] == pytest.approx(np.mean(want), rel=1e-7)


def test_the_score_of_an_analytic_predictive_has_its_whole_variance() -> None:
    v = torch.tensor([[[2.0, 0.3], [0.3, 1.0]]], dtype=torch.float64)
    predictive = Predictive(Normal(sigma=0.5), torch.tensor([[[1.0, 0.0]]]).double(), "analytic", covariance=v)
    y = torch.tensor([[0.0, 3.0]]).double()
    for d, sd in enumerate((1.5, math.sqrt(1.25))):
        want = quadrature(float(y[0, d]), np.array([1.0 - d]), np.array([sd]))
        assert float(crps(predictive, y)[0, d]) == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
def test_the_two_ways_to_the_spread_agree(spread: float) -> None:
    """Pairs of components, and the trapezoidal rule, which 200 of about one width allow."""
    mu, sd = spread * draw(200, 3, 2), torch.exp(0.1 * draw(200, 3, 2, seed=1))
    low, high = (mu - 7.5 * sd).amin(0), (mu + 7.5 * sd).amax(0)
    assert float(((high - low) / (0.6 * sd.amin(0))).max()) + 2 < 100  # so that points are what is taken
    i, j = torch.cartesian_prod(torch.arange(200), torch.arange(200)).unbind(1)
    both = (sd[i].square() + sd[j].square()).sqrt()
    z = ((mu[i] - mu[j]) / both).numpy()
    pairs = 0.5 * ((mu[i] - mu[j]) * (2 * torch.tensor(norm.cdf(z)) - 1) + 2 * both * torch.tensor(norm.pdf(z))).mean(0)
    torch.testing.assert_close(gaussians.half_spread(mu, sd), pairs, rtol=1e-11, atol=0)


def test_a_sharp_prediction_scores_its_distance() -> None:
    f, y = draw(1, 5, 2), draw(5, 2, seed=1)
    torch.testing.assert_close(
        crps(Predictive(Normal(sigma=1e-6), f, "plug-in"), y), (y - f[0]).abs(), atol=1e-6, rtol=0
    )
    # Single precision in, double precision out.
    single = crps(Predictive(Normal(sigma=0.3), f.float(), "plug-in"), y.float())
    torch.testing.assert_close(single, crps(Predictive(Normal(sigma=0.3), f, "plug-in"), y), rtol=1e-5, atol=1e-6)


def test_the_truth_scores_best_on_average() -> None:
    """A proper score: 4,000 labels; the truth's advantage is some 30 standard errors, so no false alarm to speak of."""
    f = draw(3, 4_000, 1)
    truth = Predictive(Normal(sigma=0.6), f, "mixture")
    which = torch.randint(3, (4_000,), generator=torch.Generator().manual_seed(1))
    y = f[which, torch.arange(4_000)] + 0.6 * draw(4_000, 1, seed=2)
    best = crps(truth, y).mean()
    for other in (
        Predictive(Normal(sigma=0.6), f.mean(0, keepdim=True), "plug-in"),
        Predictive(Normal(sigma=0.2), f, "mixture"),
        Predictive(Normal(sigma=1.5), f, "mixture"),
    ):
        assert best < crps(other, y).mean()


def test_scores_that_need_a_density_are_refused_without_one() -> None:
    with pytest.raises(InputError, match="Gaussian noise"):
        crps(Predictive(Categorical(), draw(1, 3, 2), "plug-in"), torch.zeros(3))
    with pytest.raises(InputError, match="3 inputs"):
        crps(Predictive(Normal(), draw(1, 3, 2), "plug-in"), torch.zeros(4, 2))


def test_the_area_under_risk_and_coverage_is_among_the_scores() -> None:
    for likelihood, y in ((Categorical(), torch.arange(30) % 3), (Bernoulli(), (draw(30, 3, seed=4) > 0).double())):
        predictive = Predictive(likelihood, draw(2, 30, 3), "mixture")
        assert evaluate(predictive, y)["aurc"] == risk_coverage_of(predictive, y).aurc
