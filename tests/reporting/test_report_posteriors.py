"""Reports of runs with a posterior: their statistics against loops, their figures and words against what was saved."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.random import Generator

from novacula.core.storage.run import Run
from novacula.diagnostics import scores as statistics
from novacula.posteriors import draws as inference_draws
from novacula.prediction.scores.ood import detection
from novacula.reporting import report
from novacula.reporting.figures import bands, chains, convergence, ood, risk_coverage, uncertainty
from novacula.reporting.figures.base import log_ticks
from novacula.reporting.figures.histograms import edges_of
from novacula.reporting.page import render
from novacula.reporting.pictures import predictions, sampler
from novacula.reporting.posterior import view
from novacula.reporting.verdict import verdict
from novacula.reporting.words import diagnosis, methods
from pages import check_page, check_pictures

Content = tuple[dict[str, Any], list[dict[str, Any]], dict[str, np.ndarray]]


def rng(seed: int = 0) -> Generator:
    return np.random.default_rng(seed)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)


def record(task: str, n_test: int, posterior: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "kind": "learn",
        "data": {
            "name": f"synthetic {task}",
            "n_train": 1437,
            "n_test": n_test,
            "fingerprint": "b3f1c09a77d2e841",
            "input_shape": [64],
            "classes": None,
            "task": task,
        },
        "weights": 3760,
        "evidence": {"value": -812.47, "kind": "estimate"},
        "prior": {"precision": {"0.weight": 3.1, "2.weight": 55.0}},
        "noise": None,
        "invariance": None,
        "test": None,
        "map_test": None,
        "predictive": None,
        "posterior": posterior,
        "seconds": {"total": 212.4},
        "versions": {"novacula": "0.1.0"},
        "warnings": [],
        "seed": 0,
    }
    return {**base, **changes}


SGLD = {
    "method": "SGLD",
    "settings": {"lr": 0.001, "warmup": None, "keep": 300, "cycles": 0},
    "chains": 4,
    "draws": 1200,
    "stored": 128,
    "steps": 20_000,
    "seconds": 198.2,
    "diagnostics": {"max_rhat": 1.0093, "median_rhat": 1.002, "min_ess": 512.4, "examined": 321},
    "examined": "predictions and log-density",
    "warnings": [],
}
DISAGREE = {
    "method": "NUTS",
    "settings": {"target_accept": 0.8, "mass": "diagonal"},
    "chains": 3,
    "draws": 900,
    "steps": 600,
    "seconds": 61.0,
    "diagnostics": {
        "max_rhat": 1.43,
        "median_rhat": 1.03,
        "min_ess": 14.2,
        "examined": 40,
        "divergences": 17.0,
        "accept": 0.71,
        "step_size": 0.0123,
    },
    "examined": "parameters",
    "warnings": ["the chains disagree: R-hat is up to 1.43 (w[3]). Take more steps"],
}


def sampler_arrays(m: int, k: int, q: int, *, bad: bool = False) -> dict[str, np.ndarray]:
    draw = rng(5)
    logs = np.empty((m, k))
    noise = draw.normal(0, 12, (m, k))
    logs[:, 0] = noise[:, 0]
    for t in range(1, k):
        logs[:, t] = 0.8 * logs[:, t - 1] + 0.6 * noise[:, t]
    if bad:
        logs[1] += np.linspace(-60, 25, k)
        logs[2] -= 35
    rhat = 1 + (draw.lognormal(math.log(0.03), 1.2, q) if bad else draw.gamma(2, 0.0012, q) - 0.0004)
    rhat[3] = np.nan
    ess = draw.lognormal(math.log(90 if bad else 900), 0.4, q)
    return {
        "sampler/log_density": logs - 1843.2,
        "sampler/rhat": rhat,
        "sampler/ess_bulk": ess,
        "sampler/ess_tail": ess * draw.uniform(0.5, 1.1, q),
    }


def classification(n: int = 797, c: int = 10, draws: int = 30) -> Content:
    draw = rng(0)
    y = draw.integers(0, c, n)
    centre = draw.normal(0, 1, (n, c))
    centre[np.arange(n), y] += draw.gamma(3, 1.9, n)
    samples = softmax(centre + draw.normal(0, 0.9, (draws, n, c)))
    foreign = softmax(draw.normal(0, 1.9, (n // 2, c)) + draw.normal(0, 1.4, (draws, n // 2, c)))
    mean, point = samples.mean(0), softmax(1.5 * centre)
    total, strange = entropy(mean), entropy(foreign.mean(0))
    found = detection(torch.from_numpy(total), torch.from_numpy(strange))
    arrays = {
        "test/mean": mean.astype(np.float32),
        "test/y": y,
        "map_test/mean": point.astype(np.float32),
        "test/entropy_total": total,
        "test/entropy_epistemic": total - entropy(samples).mean(0),
        "test/strangeness": total,
        "ood/strangeness": strange,
        **sampler_arrays(4, 300, 321),
    }
    accuracy = {name: float((p.argmax(1) == y).mean()) for name, p in (("test", mean), ("map_test", point))}
    nll = {name: float(-np.log(p[np.arange(n), y]).mean()) for name, p in (("test", mean), ("map_test", point))}
    content = record(
        "classification",
        n,
        SGLD,
        test={"accuracy": accuracy["test"], "nll": nll["test"], "aurc": 0.004},
        map_test={"accuracy": accuracy["map_test"], "nll": nll["map_test"], "aurc": 0.005},
        ood={
            "name": "letters",
            "n": n // 2,
            "score": "entropy",
            "auroc": found.auroc,
            "aupr_out": 0.8,
            "aupr_in": 0.9,
            "fpr95": found.fpr95,
        },
    )
    history = [{"epoch": float(e), "loss": 3000.0 / e + 900} for e in range(1, 9)]
    return content, history, arrays


def one_input(n: int = 160) -> Content:
    draw = rng(1)
    x = draw.uniform(-3, 3, n)
    x = np.where(np.abs(x - 1) < 0.6, x - 1.5, x)
    truth, sd = np.sin(2 * x) + 0.3 * x, 0.18 + 0.12 * np.abs(x) + 0.5 * np.exp(-4 * (x - 1) ** 2)
    y = truth + sd * draw.standard_t(5, n)
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    centre = truth + 0.05 * np.cos(5 * x)
    quantiles = centre + sd * scipy.stats.norm.ppf(levels)[:, None]
    arrays = {
        "test/mean": centre[:, None].astype(np.float32),
        "test/sd": sd[:, None].astype(np.float32),
        "test/y": y[:, None],
        "test/x": x[:, None],
        "test/quantiles": quantiles[:, :, None],
        "test/quantile_levels": levels,
        **sampler_arrays(3, 300, 40, bad=True),
    }
    content = record("regression", n, DISAGREE, test={"rmse": 0.41, "nll": 0.52, "coverage_90": 0.88})
    return content, [], arrays


def many_inputs(n: int = 343) -> Content:
    draw = rng(2)
    truth = draw.gamma(4, 9, (n, 2)) * [1.0, 0.01]
    sd = truth * draw.uniform(0.08, 0.25, (n, 2))
    mean, y = truth + 0.5 * sd * draw.normal(size=(n, 2)), truth + sd * draw.normal(size=(n, 2))
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    quantiles = mean + sd * scipy.stats.norm.ppf(levels)[:, None, None]
    total = np.log(sd).sum(1) + 2 * 0.5 * math.log(2 * math.pi * math.e)
    arrays = {
        "test/mean": mean,
        "test/sd": sd,
        "test/y": y,
        "test/quantiles": quantiles.astype(np.float32),
        "test/quantile_levels": levels.astype(np.float32),
        "test/entropy_total": total,
        "test/entropy_epistemic": draw.gamma(2, 0.05, n),
        "test/strangeness": total,
        "ood/strangeness": total[: n // 3] + 0.4,
    }
    posterior = {
        "method": "Ensemble",
        "settings": {"members": 5, "method": {"name": "SWAG", "lr": 0.01}},
        "chains": 1,
        "draws": 128,
        "stored": 128,
        "steps": 2000,
        "seconds": 30.0,
        "diagnostics": None,
        "examined": None,
        "warnings": [],
    }
    content = record(
        "regression",
        n,
        posterior,
        test={"rmse": 4.6, "nll": 2.95, "crps": 1.4},
        map_test={"rmse": 4.7, "nll": 3.1, "crps": 1.5},
        ood={"name": "another plant", "score": "entropy", "auroc": 0.7},
    )
    content["data"]["targets"] = ["strength", "slump"]
    return content, [], arrays


def without_posterior() -> Content:
    content, history, arrays = classification(60, 3)
    content = {k: v for k, v in content.items() if k not in {"posterior", "ood"}} | {"kind": "learn"}
    return content, history, {k: v for k, v in arrays.items() if k in {"test/mean", "test/y", "map_test/mean"}}


CASES: dict[str, Callable[[], Content]] = {
    "classification": classification,
    "one input": one_input,
    "many inputs": many_inputs,
    "without posterior": without_posterior,
}


def write(folder: Path, content: Content) -> Path:
    found, history, arrays = content
    Run.write(folder, found, history=history, arrays=arrays)
    return folder


def run_of(content: Content) -> Run:
    found, history, arrays = content
    return Run(Path(), found, tuple(history), arrays)


def plain(text: str) -> str:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text.split("</style>")[1])).replace("\u00a0", " ")
    return text.replace("&#39;", "'")


# ---------------------------------------------------------------------- statistics


def test_risk_coverage_is_the_average_over_the_orders_of_ties() -> None:
    """Against every order of the rows that confidence allows."""
    confidence = np.array([0.9, 0.5, 0.7, 0.5, 0.9, 0.5])
    loss = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.25])
    curves = [
        np.cumsum(loss[list(order)]) / np.arange(1, 7)
        for order in itertools.permutations(range(6))
        if (np.diff(confidence[list(order)]) <= 0).all()
    ]
    assert len(curves) == 2 * 6
    found = statistics.risk_coverage(confidence, loss)
    np.testing.assert_allclose(found.risk, np.mean(curves, 0), atol=1e-15)
    assert found.area == pytest.approx(np.mean(curves))
    np.testing.assert_allclose(found.ideal, np.cumsum(sorted(loss)) / np.arange(1, 7))
    for order in (rng(3).permutation(6), np.arange(6)[::-1]):
        other = statistics.risk_coverage(confidence[order], loss[order])
        np.testing.assert_allclose(other.risk, found.risk, atol=1e-15)


def test_the_risk_at_a_coverage() -> None:
    draw = rng(1)
    confidence, loss = draw.integers(0, 12, 70) / 11, (draw.random(70) < 0.3).astype(float)
    found = statistics.risk_coverage(confidence, loss)
    assert found.at(0.8) == found.risk[55]  # 56 of 70
    assert found.at(0.0) == found.risk[0]
    assert found.at(1.0) == pytest.approx(loss.mean())


def test_ranks_and_their_counts_against_loops() -> None:
    draws = rng(2).integers(0, 9, (3, 11)).astype(float)
    ranks = statistics.ranks(draws)
    np.testing.assert_allclose(ranks.ravel(), scipy.stats.rankdata(draws.ravel()))
    counts = statistics.rank_counts(draws, 4)
    naive = np.zeros((3, 4), dtype=int)
    for chain in range(3):
        for rank in ranks[chain]:
            naive[chain, min(int((rank - 0.5) / 33 * 4), 3)] += 1
    np.testing.assert_array_equal(counts, naive)
    apart = statistics.rank_counts(np.array([[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]]), 2)
    assert apart.tolist() == [[3, 0], [0, 3]]


def test_bins_against_a_loop() -> None:
    draw = rng(4)
    edges = np.linspace(-1, 2, 8)
    values = np.concatenate([draw.normal(0.5, 1.5, 60), edges])
    for value, found in zip(values, statistics.binned(values, edges), strict=True):
        inside = [b for b in range(7) if edges[b] <= value < edges[b + 1]]
        assert found == (inside[0] if inside else (0 if value < -1 else 6))


@pytest.mark.parametrize(("n", "most"), [(1, 5), (5, 5), (6, 5), (1000, 7)])
def test_thinning_is_even_and_keeps_the_ends(n: int, most: int) -> None:
    found = statistics.evenly(n, most)
    assert (found[0], found[-1]) == (0, n - 1)
    assert len(found) == min(n, most)
    steps = np.diff(found)
    assert steps.size == 0 or steps.max() - steps.min() <= 1


def test_edges_hold_every_value() -> None:
    for values in (np.array([0.3]), np.array([-2.0, 5.0]), np.zeros(3), np.full(2, -7.0)):
        for low in (None, min(0.0, float(values.min()))):
            edges = edges_of([values], 6, low)
            assert len(edges) == 7
            assert (np.diff(edges) > 0).all()
            assert edges[0] <= values.min()
            assert values.max() <= edges[-1]


def test_few_ticks_on_a_logarithmic_axis() -> None:
    for low, high in ((1.9, 2.7), (-3.0, 9.0), (0.1, 0.2), (2.0, 4.0)):
        ticks = log_ticks(low, high)
        assert len(ticks) <= 6
        assert all(low - 1e-9 <= math.log10(t) <= high + 1e-9 for t in ticks)


# ---------------------------------------------------------------------- figures


def test_figures_of_classes() -> None:
    content = classification(200, 4)
    run = run_of(content)
    drawn = {p.name: p for p in predictions(run)}
    assert list(drawn) == ["reliability", "confusion", "risk-coverage", "uncertainty", "ood"]
    check_pictures(list(drawn.values()))
    mean, y, point = (run.arrays[k] for k in ("test/mean", "test/y", "map_test/mean"))
    curve = statistics.risk_coverage(mean.max(1), mean.argmax(1) != y)
    other = statistics.risk_coverage(point.max(1), point.argmax(1) != y)
    assert (
        f"Area under the curve: {curve.area:.4f}, the point estimate’s {other.area:.4f}."
        in drawn["risk-coverage"].caption
    )
    assert "average over weights" in drawn["risk-coverage"].svg
    total, part = run.arrays["test/entropy_total"], run.arrays["test/entropy_epistemic"]
    right = mean.argmax(1) == y
    assert f"right predictions ({right.sum()})" in drawn["uncertainty"].svg
    assert (
        f"{np.median(total[right]):.3f} nats for right and {np.median(total[~right]):.3f} nats"
        in drawn["uncertainty"].alt
    )
    assert f"{100 * part.sum() / total.sum():.0f}\u00a0% of all entropy is epistemic" in drawn["uncertainty"].caption
    found = content[0]["ood"]
    assert f"AUROC {found['auroc']:.3f}" in drawn["ood"].caption
    assert f"FPR95 {found['fpr95']:.3f}" in drawn["ood"].caption
    # The share left of the line that is drawn is the FPR95 of the metrics.
    assert f"{100 * found['fpr95']:.0f}\u00a0% left of the line" in drawn["ood"].svg


def test_rows_in_any_order_give_the_same_curve() -> None:
    """Confidences in steps of an eighth, so that most are tied."""
    draw = rng(6)
    p = draw.integers(5, 9, 90) / 8
    mean, y = np.stack([p, 1 - p], 1), (draw.random(90) > p).astype(int)
    order = draw.permutation(90)
    one, two = risk_coverage.risk_coverage(mean, y), risk_coverage.risk_coverage(mean[order], y[order])
    assert one is not None
    assert two is not None
    assert (one.svg, one.caption) == (two.svg, two.caption)


def test_labels_are_kept_by_the_likelier_answer() -> None:
    mean, y = np.array([[0.9, 0.4], [0.2, 0.55]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    drawn = risk_coverage.risk_coverage(mean, y)
    assert drawn is not None
    # In order .9 right, .8 right, .6 wrong, .55 wrong.
    assert "50 percent kept, 0\u00a0%; 80 percent kept, 50\u00a0%" in drawn.alt
    assert f"{(0 + 0 + 1 / 3 + 2 / 4) / 4:.4f}" in drawn.caption


@pytest.mark.parametrize("wrong", [0, 50])
def test_all_right_and_all_wrong_can_be_drawn(wrong: int) -> None:
    mean = np.tile([0.8, 0.2], (50, 1))
    y = np.where(np.arange(50) < wrong, 1, 0)
    drawn = risk_coverage.risk_coverage(mean, y)
    assert drawn is not None
    check_pictures([drawn])
    doubt = uncertainty.uncertainty(np.zeros(50), np.zeros(50), y == 0, 2)
    assert doubt is not None
    check_pictures([doubt])
    assert ("wrong predictions" in doubt.svg) == (wrong > 0)


@pytest.mark.parametrize("n", [1, 37, 250])
def test_bands_hold_what_is_said(n: int) -> None:
    draw = rng(7)
    median, y = draw.normal(size=(n, 2)), draw.normal(size=(n, 2))
    levels = np.array([0.5, 0.05, 0.95, 0.25, 0.75, 0.01])  # in any order, others beside them
    offsets = np.array([0.0, -1.2, 0.9, -0.4, 0.5, -3.0])
    quantiles = median + offsets[:, None, None]
    for x in (None, draw.normal(size=(n, 1))):
        drawn = bands.bands(quantiles, levels, y, median, x, ["a", "b"])
        check_pictures(drawn)
        assert [p.name for p in drawn] == ["bands-1", "bands-2"]
        for d, picture in enumerate(drawn):
            gap = (y - median)[:, d]
            wide, narrow = ((gap >= -1.2) & (gap <= 0.9)).mean(), ((gap >= -0.4) & (gap <= 0.5)).mean()
            assert f"holds {100 * wide:.0f}\u00a0% of the {n} test values" in picture.caption
            assert f"band {100 * narrow:.0f}\u00a0%" in picture.caption
            assert ("120 of the 250 test examples" in picture.caption) == (x is None and n == 250)


def test_bands_need_all_they_are_made_of() -> None:
    levels, y = np.array([0.05, 0.25, 0.5, 0.75, 0.95]), np.zeros((6, 1))
    quantiles = np.zeros((5, 6, 1))
    assert len(bands.bands(quantiles, levels, y, y)) == 1
    assert len(bands.bands(quantiles, levels.astype(np.float32), y[:, 0], y[:, 0])) == 1
    assert bands.bands(quantiles[:4], levels[:4], y, y) == []
    assert bands.bands(quantiles[:, :5], levels, y, y) == []
    assert bands.bands(np.full_like(quantiles, np.nan), levels, y, y) == []
    assert bands.bands(quantiles[:, :0], levels, y[:0], y[:0]) == []


def test_many_points_over_an_input_become_a_raster() -> None:
    n = 1500
    quantiles, levels = np.tile(np.arange(5.0)[:, None, None], (1, n, 1)), np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    y = np.full((n, 1), 2.0)
    (drawn,) = bands.bands(quantiles, levels, y, y, np.linspace(0, 1, n)[:, None])
    check_pictures([drawn])
    assert "<image" in drawn.svg
    assert len(drawn.svg) < 60_000


def test_scores_of_every_kind_have_a_name_and_a_sentence() -> None:
    draw = rng(8)
    for score, words in (("entropy", "entropy"), ("energy", "energy"), ("", "strangeness"), ("my_own", "my own")):
        drawn = ood.ood(draw.normal(size=40), draw.normal(1, 1, size=7), {"score": score})
        assert drawn is not None
        check_pictures([drawn])
        assert f">{words}" in drawn.svg
        assert "AUROC" not in drawn.caption
    same = ood.ood(np.ones(5), np.ones(3))
    assert same is not None
    assert "100\u00a0% left of the line" in same.svg  # all tied: whatever passes, passes with them
    assert ood.ood(np.ones(5), np.zeros(0)) is None
    assert ood.ood(np.array([1.0, np.inf]), np.ones(2)) is None


def test_doubt_of_measurements_is_not_about_right_and_wrong() -> None:
    drawn = uncertainty.uncertainty(np.array([-1.0, 0.5, 2.0]), np.array([0.1, 0.2, 0.3]), None)
    assert drawn is not None
    check_pictures([drawn])
    assert "it is 0.200 nats on average" in drawn.caption
    assert "right" not in drawn.caption
    alone = uncertainty.uncertainty(np.array([0.1, 0.5]), None, np.array([True, False]), 3)
    assert alone is not None
    assert "pistemic" not in alone.svg + alone.caption
    assert uncertainty.uncertainty(np.array([np.nan]), None, None) is None


def test_figures_of_samplers() -> None:
    run = run_of(one_input(40))
    drawn = {p.name: p for p in sampler(run)}
    assert list(drawn) == ["trace", "ranks", "rhat", "ess"]
    check_pictures(list(drawn.values()))
    rhat = run.arrays["sampler/rhat"]
    known = rhat[np.isfinite(rhat)]
    assert f"{100 * (known > 1.05).mean():.0f}\u00a0% above 1.05" in drawn["rhat"].caption
    assert "1 quantity that does not vary is left out" in drawn["rhat"].caption
    logs, bulk = run.arrays["sampler/log_density"], run.arrays["sampler/ess_bulk"]
    assert f"{logs[0, 150:].mean():,.1f}".replace("-", "−") in drawn["trace"].alt
    counts = statistics.rank_counts(logs, 20)
    far = np.abs(counts / 300 - 1 / 20).sum(1) / 2
    assert f"{100 * far[0]:.0f} percent, {100 * far[1]:.0f} percent" in drawn["ranks"].alt
    assert f"smallest {bulk.min():.1f}" in drawn["ess"].alt


def test_chains_that_agree_and_chains_that_do_not() -> None:
    """Each bin's count has a standard deviation of 3.8 around 20: five are passed once in 20,000 such tests."""
    draws = rng(9).normal(size=(4, 400))
    assert np.abs(statistics.rank_counts(draws, 20) - 20).max() < 5 * 3.8
    apart = draws + 3 * np.arange(4)[:, None]
    assert np.abs(statistics.rank_counts(apart, 20) - 20).max() == 60  # a bin of one chain alone


def test_sampler_figures_of_odd_shapes() -> None:
    draw = rng(10)
    many = draw.normal(size=(11, 60))
    for picture in (chains.trace(many), chains.rank_plot(many)):
        assert picture is not None
        check_pictures([picture])
        assert "of 11" in picture.caption
    assert chains.trace(draw.normal(size=(1, 30))) is not None
    assert chains.trace(np.full((2, 9), -1e6)) is not None
    assert chains.rank_plot(draw.normal(size=(1, 30))) is None
    assert chains.rank_plot(draw.normal(size=(3, 5))) is None
    assert chains.trace(draw.normal(size=(2, 3))) is None
    assert chains.trace(np.full((2, 8), np.nan)) is None
    assert convergence.rhats(np.array([1.0, np.nan])) is None
    assert convergence.sizes(np.array([np.nan, np.nan])) is None
    extreme = convergence.rhats(np.array([0.9995, 1.01, 1.05, 3.0, np.inf]))
    assert extreme is not None
    check_pictures([extreme])
    assert "40\u00a0% at most 1.01, 40\u00a0% above 1.05, the largest infinite" in extreme.alt
    alone = convergence.sizes(np.array([3.0, 40_000.0]))
    assert alone is not None
    assert "tail</text>" not in alone.svg


def test_what_is_not_there_is_not_drawn() -> None:
    run = run_of(classification(30, 3))
    for missing, names in (
        ({"test/entropy_epistemic"}, ["reliability", "confusion", "risk-coverage", "uncertainty", "ood"]),
        ({"test/entropy_total"}, ["reliability", "confusion", "risk-coverage", "ood"]),
        ({"ood/strangeness"}, ["reliability", "confusion", "risk-coverage", "uncertainty"]),
    ):
        arrays = {k: v for k, v in run.arrays.items() if k not in missing}
        assert [p.name for p in predictions(Run(Path(), run.record, (), arrays))] == names
    arrays = {k: v for k, v in run.arrays.items() if k != "sampler/log_density"}
    assert [p.name for p in sampler(Run(Path(), run.record, (), arrays))] == ["rhat", "ess"]
    assert sampler(Run(Path(), run.record, (), {})) == []


# ---------------------------------------------------------------------- words


def test_the_limits_are_those_that_methods_warn_by() -> None:
    assert diagnosis.MOST_RHAT == inference_draws.MOST_RHAT
    assert diagnosis.LEAST_ESS == inference_draws.LEAST_ESS


@pytest.mark.parametrize(
    ("posterior", "words"),
    [
        (None, ""),
        ({"method": "MAP", "chains": 1}, ""),
        ({"method": "MAP", "chains": 5}, "an ensemble of 5 networks"),
        ({"method": "SGLD", "chains": 4, "settings": {"cycles": 0}}, "4 chains of SGLD"),
        ({"method": "SGLD", "chains": 4, "settings": {"cycles": 5}}, "4 chains of cyclical SGLD"),
        ({"method": "NUTS", "chains": 1}, "one chain of NUTS"),
        ({"method": "SMC", "chains": 4}, "4 populations of SMC"),
        ({"method": "SWAG", "chains": 1}, "the posterior of SWAG"),
        ({"method": "SWAG", "chains": 3}, "3 runs of SWAG"),
        (
            {"method": "Ensemble", "chains": 1, "settings": {"members": 5, "method": {"name": "MAP"}}},
            "an ensemble of 5 networks",
        ),
        ({"method": "Ensemble(SWAG)", "chains": 1, "settings": {"members": 5}}, "an ensemble of 5 posteriors of SWAG"),
        (
            {"method": "Subnetwork", "chains": 2, "settings": {"method": {"name": "HMC"}}},
            "2 chains of HMC on some of the weights",
        ),
        ({"method": "MyOwn"}, "the posterior of MyOwn"),
    ],
)
def test_what_is_averaged(posterior: dict[str, Any] | None, words: str) -> None:
    assert methods.averaged({"posterior": posterior}) == words


def judged(**diagnostics: Any) -> str:
    found = {"method": "NUTS", "chains": 4, "diagnostics": diagnostics}
    return diagnosis.judgement(found, diagnosis.facts(found, {}))


def test_the_diagnostics_in_words() -> None:
    assert judged(max_rhat=1.004, min_ess=812.0) == (
        "The chains agree: R-hat is at most 1.004. The least certain is worth 812 independent draws."
    )
    assert "nearly agree: R-hat is at most 1.032" in judged(max_rhat=1.032)
    assert "disagree: R-hat reaches 1.43" in judged(max_rhat=1.43)
    assert "400 or more is what one wants" in judged(min_ess=399.0)
    assert "only worth 1 independent draw:" in judged(min_ess=1.2)
    assert "1 transition diverged" in judged(max_rhat=1.0, divergences=1.0)
    assert judged(max_rhat=None, min_ess=None, accept=0.8) == "Whether the chains agree could not be judged."
    found = {"method": "SWAG", "chains": 1, "diagnostics": None}
    assert diagnosis.judgement(found, diagnosis.facts(found, {})) == ""


def test_an_infinite_rhat_is_not_lost_with_the_record() -> None:
    """JSON has no infinity: the record holds null, the array the value."""
    arrays = {"sampler/rhat": np.array([1.0, np.inf, np.nan]), "sampler/ess_bulk": np.array([7.0, np.nan])}
    found = {**DISAGREE, "diagnostics": {"max_rhat": None, "min_ess": None}}
    shown = view({"posterior": found}, arrays)
    assert shown is not None
    assert "R-hat is infinite over parameters" in shown.judgement
    assert shown.bad
    assert {row.label: row.value for row in shown.rows}["Effective draws, fewest"] == "7"
    assert {row.label: row.value for row in shown.rows}["R-hat, largest"] == "infinite"


def test_bad_values_are_marked_and_good_ones_are_not() -> None:
    good, bad = view({"posterior": SGLD}, {}), view({"posterior": DISAGREE}, {})
    assert good is not None
    assert bad is not None
    assert not good.bad
    assert [row.label for row in bad.rows if row.bad] == ["R-hat, largest", "Effective draws, fewest", "Divergences"]
    assert [(row.label, row.value) for row in bad.rows][-2:] == [("Acceptance", "0.71"), ("Step size", "0.0123")]
    assert "1,200 draws were kept, of which predictions use 128." in good.sentences
    assert ("warmup", "default") in good.settings


def test_the_verdict_names_what_is_averaged() -> None:
    content, _, arrays = classification(100, 3)
    said = verdict(content, (), arrays)
    assert "the model, averaging outputs over 4 chains of SGLD, reaches an accuracy of" in said.result
    assert "The chains agree: R-hat is at most 1.009 over predictions and log-density." in said.sure
    moved = content | {"invariance": {"eta": {"rotation": 0.5}}, "settings": {"copies": {"predict": 32}}}
    assert "over 32 transformed copies and 4 chains of SGLD, reaches" in verdict(moved).result
    point = content | {"posterior": {"method": "MAP", "chains": 1}}
    assert "nothing is averaged" in verdict(point).result
    assert "disagree" in verdict(content | {"posterior": DISAGREE}).sure


# ---------------------------------------------------------------------- the page


@pytest.mark.parametrize("case", CASES)
def test_pages_are_well_formed_and_the_same_every_time(tmp_path: Path, case: str) -> None:
    first = report(write(tmp_path / "a", CASES[case]())).read_bytes()
    assert first == report(write(tmp_path / "b", CASES[case]())).read_bytes()
    check_page(first.decode())
    assert len(first) < 300_000
    text = plain(first.decode())
    assert ("R-hat" in text) == (case in {"classification", "one input"})
    assert ("Posterior" in text) == (case != "without posterior")


def test_the_posterior_stands_before_the_predictions() -> None:
    text = plain(render(run_of(classification(120, 3))))
    text = text[text.index("Learned prior") :]
    order = [
        "Learned prior",
        "Posterior",
        "Predictions average over 4 chains of SGLD: gradient steps on minibatches, with noise added.",
        "Each chain took 20,000 steps.",
        "The chains agree",
        "R-hat, largest",
        "Log-density along the chains",
        "Ranks of the log-density",
        "Effective sample size",
        "Settings of the method",
        "Predictions on test data The average over 4 chains of SGLD, beside the plain point estimate",
        "MetricAveragePoint estimate",
        "Risk–coverage",
        "Total and epistemic uncertainty",
        "Inputs of another kind",
        "Provenance",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "chosen" not in text.split("Predictions on test data")[1]


def test_each_warning_is_said_once() -> None:
    content, history, _ = one_input(40)
    (warning,) = DISAGREE["warnings"]
    content = content | {"warnings": [warning, "another reservation"]}
    text = plain(render(run_of((content, history, {}))))
    assert text.count(warning) == 1
    assert text.count("another reservation") == 1
    assert "2 reservations are listed under posterior and warnings." in text
    alone = plain(render(run_of((content | {"warnings": []}, history, {}))))
    assert "One reservation is listed under posterior." in alone
    assert "Point estimate" not in text  # the run saved none


def test_a_point_has_one_column() -> None:
    content, history, arrays = classification(60, 3)
    arrays = {k: v for k, v in arrays.items() if k in {"test/mean", "test/y", "map_test/mean"}}
    text = render(run_of((content | {"posterior": {"method": "MAP", "chains": 1}}, history, arrays)))
    assert "○ point estimate" not in text
    assert "Nothing is averaged: predictions are those of the most probable weights." in plain(text)
    assert '<th scope="col">Average</th>' not in text


def test_why_the_posterior_was_not_chosen_is_told() -> None:
    content, history, _ = classification(60, 3)
    scores = [{"structure": "kron", "temperature": 0.3, "nll": 0.13, "stderr": 0.004}]
    reason = "SGLD was asked for; otherwise the choice would have been kron"
    predictive = {"structure": None, "temperature": None, "reason": reason, "scores": scores}
    text = plain(render(run_of((content | {"predictive": predictive}, history, {}))))
    assert f"{reason}." in text
    assert "what was asked for was not among them" in text
