"""The report: its statistics against naive references, its words against the record, its page against the rules."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.random import Generator
from rich.console import Console

from novacula.cli.summary import summary
from novacula.core.errors import InputError
from novacula.core.storage.run import Run
from novacula.diagnostics import scores as statistics
from novacula.reporting import glyphs, report
from novacula.reporting.figures import confusion, montage, precision, reliability, residuals, training
from novacula.reporting.figures.base import spread
from novacula.reporting.page import extent_views, render
from novacula.reporting.pictures import predictions
from novacula.reporting.verdict import verdict
from novacula.reporting.words import numbers
from novacula.reporting.words.extents import between, in_words, meaning
from novacula.reporting.words.metrics import better, rows
from novacula.runs.catalogue.models import Extent
from pages import check_page, check_pictures

NAMES = ("rotation", "translation_x", "translation_y", "scale", "stretch", "shear")


def rng(seed: int = 0) -> Generator:
    return np.random.default_rng(seed)


def record(**changes: Any) -> dict[str, Any]:
    eta = dict(zip(NAMES, (0.99, 0.02, 0.01, 0.03, 0.02, 0.01), strict=True))
    base: dict[str, Any] = {
        "schema": 1,
        "kind": "learn",
        "data": {
            "name": "digits <&>",
            "n_train": 1437,
            "n_test": 60,
            "fingerprint": "b3f1c09a77d2e841",
            "input_shape": [1, 8, 8],
            "classes": ["a", "b", "c"],
            "task": "classification",
        },
        "weights": 22634,
        "evidence": {
            "value": -812.47,
            "stderr": 3.1,
            "kind": "estimate",
            "estimator": "Laplace(kron)",
            "per_example": -0.5654,
            "assumptions": ["the posterior is Gaussian"],
            "warnings": ["curvature of a subset"],
            "parts": {"log_likelihood": -402.1, "occam": -410.37},
        },
        "prior": {"precision": {"0.weight": 3.1, "0.bias": 14.2, "2.weight": 55.0}},
        "noise": None,
        "invariance": {"rotation_degrees": 178.2, "eta": eta},
        "test": {"accuracy": 0.95, "nll": 0.1214, "ece": 0.0132, "brier": 0.0561},
        "map_test": {"accuracy": 0.95, "nll": 0.1402, "ece": 0.0102, "brier": 0.0561},
        "predictive": {
            "kind": "glm",
            "structure": "kron",
            "temperature": 0.3,
            "reason": "lowest log loss of 2 candidates",
            "scores": [
                {"structure": "kron", "temperature": 0.3, "nll": 0.13, "stderr": 0.004},
                {"structure": "diag", "temperature": 1.0, "nll": 0.15, "stderr": 0.004},
            ],
        },
        "seconds": {"total": 84.3, "hyper": 16.2},
        "output_dir": "runs/digits",
        "settings": {"epochs": 24, "copies": {"train": 4, "evidence": 8, "predict": 32}},
        "versions": {"novacula": "0.1.0", "torch": "2.13.0"},
        "command": "novacula learn digits --seed 0",
        "seed": 0,
        "warnings": ["a reservation", "curvature of a subset"],
    }
    return {**base, **changes}


def history(epochs: int = 6, names: tuple[str, ...] = NAMES) -> list[dict[str, Any]]:
    return [
        {"epoch": float(e), "loss": 2.0 / e, "evidence": None if e == 1 else -1.0 / e}
        | {f"extent/{n}": 0.1 * e for n in names}
        for e in range(1, epochs + 1)
    ]


def probabilities(n: int, c: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = rng(seed)
    logits = draw.normal(size=(n, c))
    y = draw.integers(0, c, n)
    logits[np.arange(n), y] += 2.0
    e = np.exp(logits)
    return e / e.sum(1, keepdims=True), y


def classification_arrays() -> dict[str, np.ndarray]:
    mean, y = probabilities(60, 3)
    other, _ = probabilities(60, 3, seed=1)
    draw = rng(2)
    return {
        "test/mean": mean.astype(np.float32),
        "test/y": y,
        "map_test/mean": other.astype(np.float32),
        "montage/original": draw.random((2, 1, 8, 6), dtype=np.float32),
        "montage/transformed": draw.random((2, 3, 1, 8, 6), dtype=np.float32),
    }


def regression(n: int = 40) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    draw = rng(3)
    y = draw.normal(30, 10, (n, 2))
    mean = y + draw.normal(0, 2, (n, 2))
    found = record(
        data={"name": "concrete", "n_train": 900, "n_test": n, "task": "regression", "targets": ["strength", "a/b"]},
        noise={"sigma": [4.31, 0.5]},
        invariance=None,
        test={"rmse": 4.612, "nll": 2.95},
        map_test={"rmse": 4.612, "nll": 2.9},
        predictive=None,
    )
    return found, {"test/mean": mean, "test/sd": np.full_like(mean, 2.0), "test/y": y}


def write(folder: Path, content: dict[str, Any], epochs: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> Path:
    Run.write(folder, content, history=epochs, arrays=arrays)
    return folder


# ---------------------------------------------------------------------- statistics


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (3, 11), (480, 500)])
def test_wilson_inverts_the_score_test(k: int, n: int) -> None:
    low, high = statistics.wilson(float(k), float(n))
    for end in (float(low), float(high)):
        if 1e-12 < end < 1 - 1e-12:
            z = (k / n - end) / math.sqrt(end * (1 - end) / n)
            assert abs(z) == pytest.approx(scipy.stats.norm.ppf(0.975), rel=1e-9)
    assert low <= k / n <= high


def test_wilson_of_nothing_is_everything() -> None:
    low, high = statistics.wilson(np.array([0.0]), np.array([0.0]))
    assert (float(low[0]), float(high[0])) == (0.0, 1.0)


def test_calibration_against_a_loop() -> None:
    draw = rng()
    # Bins of eighths, whose edges are exact: one belongs to the bin below it, and 0 to the first.
    p, hit = np.append(draw.random(200), np.arange(9) / 8), np.append(draw.random(200) < 0.4, np.arange(9) % 3 == 1)
    bins = statistics.calibration(p, hit, bins=8)
    for b in range(8):
        inside = [i for i in range(len(p)) if b / 8 < p[i] <= (b + 1) / 8 or (b == 0 and p[i] == 0)]
        assert bins.counts[b] == len(inside)
        assert bins.predicted[b] == pytest.approx(np.mean(p[inside]))
        assert bins.observed[b] == pytest.approx(np.mean(hit[inside]))


def test_empty_bins_are_missing_not_zero() -> None:
    bins = statistics.calibration(np.array([0.95]), np.array([True]))
    assert bins.counts.tolist() == [0] * 9 + [1]
    assert np.isnan(bins.predicted[:9]).all()
    assert np.isnan(bins.observed[:9]).all()


def test_confusion_against_a_loop() -> None:
    mean, y = probabilities(50, 4)
    naive = np.zeros((4, 4), dtype=int)
    for p, label in zip(mean, y, strict=True):
        naive[label, int(np.argmax(p))] += 1
    np.testing.assert_array_equal(statistics.confusion(mean, y), naive)


def test_central_levels_are_those_of_the_normal_distribution() -> None:
    draw = rng()
    mean, sd, y = draw.normal(size=(5, 2)), draw.random((5, 2)) + 0.5, draw.normal(size=(5, 2))
    cdf = scipy.stats.norm.cdf(y, mean, sd)
    np.testing.assert_allclose(statistics.central_levels(mean, sd, y), np.abs(2 * cdf - 1), atol=1e-12)
    inside = (np.abs(2 * cdf - 1) <= 0.95).mean()
    assert statistics.coverage(mean, sd, y) == pytest.approx(inside)


def test_confidence_of_labels_is_every_probability() -> None:
    mean, y = np.array([[0.9, 0.2]]), np.array([[1.0, 0.0]])
    p, hit = statistics.confidence(mean, y)
    assert (p.tolist(), hit.tolist()) == ([0.9, 0.2], [1.0, 0.0])


# ---------------------------------------------------------------------- numbers and words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.number(1234.5678, 2), "1,234.57"),
        (numbers.number(-0.0004), "0.000"),
        (numbers.number(math.nan), "—"),
        (numbers.significant(0.00001234), "1.23 × 10⁻⁵"),
        (numbers.significant(-1500.0), "−1,500"),
        (numbers.significant(0.0), "0"),
        (numbers.with_error(-1234.5, 12.0).replace("\u00a0", " "), "−1,234 ± 12"),
        (numbers.with_error(2.0, None), "2.0"),
        (numbers.with_error(-708.0438, 0.00048).replace("\u00a0", " "), "−708.04 ± less than 0.01"),
        (numbers.listing(["a"]), "a"),
        (numbers.listing(["a", "b", "c"]), "a, b and c"),
        (numbers.listing([]), ""),
        (numbers.duration(200), "3 min 20 s"),
        (numbers.duration(59.7), "1 min 0 s"),
        (numbers.duration(None), "—"),
        (numbers.count(1, "row"), "1 row"),
        (numbers.count(1200, "row"), "1,200 rows"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(
    ("name", "eta", "text"),
    [
        ("rotation", -0.5, "±90°"),
        ("translation_x", 0.6, "±30 % of the width"),
        ("affine1_translation_y", 0.06, "±3.0 % of the height"),
        ("scale", math.log(2), "×0.50 to ×2.00"),
        ("flip", 0.5, "50 % of copies"),
        ("flip_vertical", 0.25, "25 % of copies"),
        ("erasing", 0.4, "40 % of the side"),
        ("hue", -0.1, "±18°"),
        ("time_shift", 0.5, "±25 % of the length"),
        ("my_own", 0.25, "±0.25"),
    ],
)
def test_extents_read_in_the_units_of_their_field(name: str, eta: float, text: str) -> None:
    assert in_words(meaning(name), eta).replace("\u00a0", " ") == text


def test_what_counts_as_none_and_as_everything() -> None:
    assert meaning("rotation").negligible(0.08)
    assert not meaning("rotation").negligible(0.09)
    assert not meaning("amplitude").negligible(0.02)  # 2 % of the width is a deformation that shows
    for name, eta, said in (
        ("rotation", -0.93, "any rotation (±167°)"),
        ("rotation", 0.9, "rotations of up to ±162°"),
        ("hue", -0.95, "any hue (±171°)"),
        ("flip_vertical", 0.3, "vertical mirror images (30 % of copies)"),
        ("erasing", 0.2, "erased squares (20 % of the side)"),
        ("flip", 0.48, "mirror images as often as originals (48 % of copies)"),
        ("scale", 5.0, "changes of scale by ×0.01 to ×148.41"),
    ):
        learned = verdict(record(invariance={"eta": {name: eta}})).learned.replace("\u00a0", " ")
        assert learned == f"The 1,437 training examples support {said}."


def test_extents_that_would_still_move_are_not_called_supported() -> None:
    content = record(invariance={"eta": {"rotation": 0.1}}, converged=False)
    content["hyper"] = {"rotation": {"converged": False}}
    learned = verdict(content).learned.replace("\u00a0", " ")
    assert "Training stopped at rotations of up to ±18°, which is not yet what the 1,437 training" in learned
    assert "support rotations" not in learned
    assert "support rotations" in verdict({**content, "hyper": {}}).learned.replace("\u00a0", " ")


def test_a_stranger_s_extent_reads_as_its_run_says() -> None:
    said = asdict(
        Extent("gain", "changes of loudness", "percent", 40.0, of="of the level", whole=0.9, everything="all")
    )
    content = record(invariance={"eta": {"gain": 0.5}, "words": {"gain": said}})
    content |= {"hyper": {"gain": {"interval": [0.25, 0.75]}}}
    learned, sure = verdict(content).learned, verdict(content).sure.replace("\u00a0", " ")
    assert learned.replace("\u00a0", " ").endswith("support changes of loudness (±20 % of the level).")
    assert "gain ±10 to ±30 % of the level" in sure
    (drawn,) = training.extents([{"epoch": e, "extent/gain": 0.1 * e} for e in (1, 2)], content)
    assert (drawn.title, drawn.alt) == ("Gain", "Extent along training, in % of the level (±): gain ends at 8.00")


def test_the_verdict_says_what_was_learned() -> None:
    said = verdict(record())
    assert said.learned.startswith("The 1,437 training examples support any rotation (±178°).")
    assert "shears are not asked for (extents up to 0.03)" in said.learned
    assert "averaging outputs over 32 transformed copies" in said.result
    assert "an accuracy of 0.950" in said.result
    assert "better than the plain point estimate" in said.result
    assert "−812.5 ± 3.1 nats" in said.sure.replace("\u00a0", " ")
    assert "an estimate, not a bound" in said.sure
    assert said.assumes[0] == "The posterior is Gaussian"


def test_the_verdict_is_not_better_than_the_numbers() -> None:
    worse = record(map_test={"nll": 0.1})
    assert "worse than the plain point estimate" in verdict(worse).result
    same = record(map_test={"nll": 0.12138})
    assert "as good as the plain point estimate" in verdict(same).result
    half = record(invariance={"eta": {"rotation": 0.5}})
    assert "rotations of up to ±90°" in verdict(half).learned
    point = record(predictive={"structure": "point"})
    assert "No average over weights promised better" in verdict(point).result
    none = record(invariance={"eta": dict.fromkeys(NAMES, 0.01)})
    assert "asks for none of" in verdict(none).learned


def test_what_was_still_moving_is_said_first() -> None:
    hyper = {"noise": {"value": 1.0, "converged": False}, "rotation": {"value": 0.5, "converged": True}}
    said = verdict(record(converged=False, hyper=hyper)).advice
    assert said.startswith("The run ended before it had converged: noise would still move;")
    assert "converged" not in verdict(record(converged=True, hyper=hyper)).advice


def test_intervals_are_in_the_units_of_the_extents() -> None:
    known = record(hyper={"rotation": {"value": 0.5, "interval": [0.4, 0.6], "converged": True}})
    assert "would find rotation ±72° to ±108°," in verdict(known).sure
    assert extent_views(known)[0].spread == "±72° to ±108°"
    assert extent_views(record())[0].spread == ""


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("needed", "Needed, by what training with it lowers the loss of unseen examples: rotation (0.04"),
        ("harmful", "Harmful: rotation (0.04"),
        ("no effect", "Without effect: rotation (0.04"),
        ("undecided", "Undecided: rotation (0.04"),
    ],
)
def test_the_folds_speak_of_unseen_examples_and_of_transformations(word: str, said: str) -> None:
    verdicts = {"rotation": {"verdict": word, "gain": 0.04, "stderr": 0.01}, "shear": {"gain": None}}
    content = record(out_of_fold={"nll": 0.21, "stderr": 0.02, "accuracy": 0.93}, verdicts=verdicts)
    text = verdict(content).learned.replace("\u00a0", " ")
    assert "predict the training examples with a log loss of 0.21 ± 0.02 and an accuracy of 0.930." in text
    assert said in text


def advice(**changed: Any) -> str:
    return verdict(record(**changed)).advice.replace("\u00a0", " ")


def test_the_first_sentence_says_what_to_do() -> None:
    unseen = {"nll": 0.21, "stderr": 0.02, "accuracy": 0.93, "expected": 0.18, "expected_stderr": 0.03}
    turned = {"invariance": {"eta": {"rotation": 0.5, "flip": 0.0}}, "out_of_fold": unseen}
    verdicts = {"rotation": {"verdict": "needed", "gain": 0.4, "stderr": 0.04}, "flip": {"verdict": "harmful"}}
    assert advice(**turned, verdicts=verdicts) == (
        "Train with rotations of up to ±90°: without them the loss on unseen examples rises by 0.40 ± 0.04 nats. Leave "
        "out mirror images: they do harm. On new examples expect an accuracy of 0.930 and a log loss of 0.18 ± 0.03."
    )
    both = {k: {"verdict": "needed", "gain": 0.4, "stderr": 0.04} for k in ("rotation", "shear")}
    said = advice(invariance={"eta": {"rotation": 0.5, "shear": 0.3}}, verdicts=both)
    assert said == "Train with rotations of up to ±90° and shears by ×0.74 to ×1.35."
    nothing = {"rotation": {"verdict": "undecided", "gain": 0.0, "stderr": 0.1}}
    none = advice(invariance={"eta": {"rotation": 0.01}}, verdicts=nothing)
    assert none.startswith("Train on the examples as they are: no transformation")
    assert advice(invariance={"eta": {"rotation": 0.5}}).startswith(
        "The evidence proposes rotations of up to ±90°, which"
    )
    rows = {"nll": 2.9, "stderr": 0.05, "rmse": 4.71}
    trees = {"nll": 2.8, "gain": 0.1, "gain_stderr": 0.02}
    said = advice(invariance=None, out_of_fold=rows, against={"trees": trees, "gp": trees | {"gain": 0.01}})
    assert said == (
        "Prefer boosted trees: better on unseen rows here. On new examples expect a root mean square error of 4.71 and "
        "a log loss of 2.90 ± 0.05."
    )
    assert advice(invariance=None) == ""


def test_an_interval_says_its_unit_once() -> None:
    scale, shift = meaning("scale"), meaning("translation_x")
    assert between(scale, 0.0, 0.1) == "×1.00 to ×1.11"
    assert between(shift, 0.0, 0.1).replace("\u00a0", " ") == "±0.0 to ±5.0 % of the width"
    assert between(meaning("rotation"), 0.4, 0.6) == "±72° to ±108°"


@pytest.mark.parametrize(
    ("kind", "words"), [("exact", "exact"), ("lower bound", "a lower bound"), ("upper bound", "an upper bound")]
)
def test_the_verdict_names_the_kind_of_number(kind: str, words: str) -> None:
    said = verdict(record(evidence={"value": -3.0, "stderr": 0.0, "kind": kind}))
    assert said.sure.startswith(f"The log evidence is −3.0 nats: {words}.")


def test_the_verdict_of_little_says_little() -> None:
    said = verdict(
        record(invariance=None, test=None, map_test=None, evidence={"value": None}, prior={"precision": {"all": 2.0}})
    )
    assert said.learned == "One prior precision of 2 was learned for all weights."
    assert "No test data" in said.result
    assert said.sure == "No log evidence was computed."


def test_the_unit_of_the_evidence_is_said() -> None:
    assert not any("standard units" in a for a in verdict(record(noise={"sigma": 2.0})).assumes)
    assert any("standard units" in a for a in verdict(record(noise={"sigma": 2.0, "sigma_standardised": 0.2})).assumes)


def test_the_better_value_is_marked_as_far_as_it_shows() -> None:
    found = {
        row.label: row
        for row in rows({"accuracy": 0.9, "nll": 0.3, "ece": 0.02}, {"accuracy": 0.8, "nll": 0.2, "ece": 0.0201}, n=50)
    }
    assert found["Accuracy"].winner == "chosen"
    assert found["Log loss"].winner == "point"
    assert found["Calibration error"].winner == ""  # both read 0.020
    assert "95\u00a0% interval" in found["Accuracy"].explains
    assert better("rmse", 1.0, 2.0) == 1
    assert rows(None, None) == []
    assert rows({"nll": None, "strange": 1.0}, None)[1].chosen == "1"


# ---------------------------------------------------------------------- figures


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    heights = [0.0, 0.05, 0.9, 1.0, 0.02]
    placed = spread(heights, 0.2)
    order = np.argsort(heights)
    gaps = np.diff(np.array(placed)[order])
    assert (gaps >= 0.2 - 1e-12).all()
    assert placed[2] == pytest.approx(0.85)
    assert placed[3] == pytest.approx(1.05)


def test_figures_of_classes() -> None:
    mean, y = probabilities(60, 3)
    diagram = reliability.reliability(mean, y, mean)
    matrix = confusion.confusion(mean, y, ["a", "b", "<c>"])
    assert diagram is not None
    assert matrix is not None
    check_pictures([diagram, matrix])
    counts = statistics.confusion(mean, y)
    assert f"{np.trace(counts)} of 60 right" in matrix.alt
    written = re.findall(r">(\d+)</text>", matrix.svg)
    assert sorted(map(int, written)) == sorted(int(n) for n in counts.ravel() if n)
    bins = statistics.calibration(*statistics.confidence(mean, y))
    for n in bins.counts[bins.counts > 0]:
        assert f">{n}</text>" in diagram.svg


def test_many_classes_become_a_raster() -> None:
    mean, y = probabilities(300, 40)
    matrix = confusion.confusion(mean, y)
    assert matrix is not None
    assert matrix.svg.count("<image") == 1
    assert confusion.confusion(*probabilities(10, 400)) is None


def test_figures_of_measurements() -> None:
    found, arrays = regression()
    run = Run(Path(), found, (), arrays)
    drawn = predictions(run)
    check_pictures(drawn)
    assert [p.title for p in drawn] == ["Residuals: strength", "Residuals: a/b", "Coverage of intervals"]
    share = statistics.coverage(arrays["test/mean"][:, 0], arrays["test/sd"][:, 0], arrays["test/y"][:, 0])
    assert f"contain {100 * share:.1f}\u00a0% of" in drawn[0].caption


def test_many_points_become_a_raster() -> None:
    few = residuals.residuals(np.zeros((900, 1)), np.ones((900, 1)), np.ones((900, 1)))[0]
    many = residuals.residuals(np.zeros((1500, 1)), np.ones((1500, 1)), np.ones((1500, 1)))[0]
    assert "<image" not in few.svg
    assert "<image" in many.svg
    assert len(many.svg) < len(few.svg)


def test_figures_of_labels() -> None:
    draw = rng()
    y = (draw.random((30, 4)) < 0.5).astype(np.float32)
    mean = np.clip(0.6 * y + 0.2, 0, 1)
    run = Run(Path(), record(data={"task": "multilabel"}), (), {"test/mean": mean, "test/y": y})
    drawn, curve = predictions(run)
    check_pictures([drawn, curve])
    assert "label predictions" in drawn.caption
    assert "of the labels" in curve.caption
    binary = Run(Path(), record(data={"task": "multilabel"}), (), {"test/mean": mean[:, :1], "test/y": y[:, 0]})
    assert len(predictions(binary)) == 2


def test_no_predictions_no_figures() -> None:
    assert predictions(Run(Path(), record(), (), {})) == []
    empty = {"test/mean": np.zeros((0, 3)), "test/y": np.zeros(0, dtype=int)}
    assert predictions(Run(Path(), record(), (), empty)) == []


@pytest.mark.parametrize("shape", [(1, 8, 6), (3, 6, 6), (2, 5, 5), (5, 4, 4), (2, 30)])
def test_montages(shape: tuple[int, ...]) -> None:
    original = rng().random((2, *shape))
    drawn = montage.montage(original, np.repeat(original[:, None], 3, 1))
    assert drawn is not None
    check_pictures([drawn])
    images = len(re.findall("<image", drawn.svg))
    assert images == (8 if len(shape) == 3 else 0)


def test_no_montage_of_tables() -> None:
    assert montage.montage(np.zeros((2, 3)), np.zeros((2, 4, 3))) is None


def test_training_figures_share_units() -> None:
    names = (*NAMES, "flip", "my_gain", "log_smoothness")
    drawn = training.extents(history(names=names))
    check_pictures(drawn)
    assert [p.title for p in drawn] == [
        "Rotation",
        "Shifts",
        "Scale, stretch and shear",
        "Mirror images",
        "Other extents",
    ]
    assert "rotation ends at 108.00" in drawn[0].alt
    curve = training.evidence(history())
    assert curve is not None
    check_pictures([curve])
    assert "from −0.500 to −0.167" in curve.alt  # the first epoch has none
    assert training.loss(history(1)) is None
    assert training.extents(history(1)) == []


@pytest.mark.parametrize("last", [2, 5, 7, 24, 37, 100, 1000])
def test_few_epochs_are_labelled(last: int) -> None:
    marks = training.ticks(1.0, float(last))
    assert 1 <= len(marks) <= 7
    assert marks == sorted(set(marks))
    assert marks[0] == 1.0
    assert marks[-1] <= last


@pytest.mark.parametrize("n", [2, 40, 90])
def test_precisions_of_small_and_large_networks(n: int) -> None:
    values = {f"a.very.long.block.name.{i}.{'bias' if i % 2 else 'weight'}": 10.0 ** (i % 5) for i in range(n)}
    drawn = precision.precision(values)
    assert drawn is not None
    check_pictures([drawn])
    assert f"{n} tensors" in drawn.alt
    assert precision.precision({"all": 1.0}) is None
    assert precision.precision({"a": None, "b": 0.0}) is None


def test_glyphs_of_any_extent() -> None:
    for name in (*NAMES, "flip", "flip_vertical", "erasing", "hue", "amplitude", "brightness", "time_scale", "my_own"):
        for eta in (0.0, 40.0):
            assert glyphs.glyph(name, eta, meaning(name)).startswith("<svg")
    half, less, back = (glyphs.glyph("rotation", eta, meaning("rotation")) for eta in (0.5, 0.4, -0.5))
    assert half != less
    assert half == back


def test_extent_views_leave_out_what_is_no_extent() -> None:
    content = record(invariance={"eta": {"amplitude": 0.03, "log_smoothness": -1.9, "odd": None}})
    (view,) = extent_views(content)
    assert (view.label, view.needed, view.spread) == ("deformation", True, "")


# ---------------------------------------------------------------------- the page


CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, np.ndarray]]] = {
    "classification": (record(), history(), classification_arrays()),
    "regression": (regression()[0], history(names=()), regression()[1]),
    "nothing more than needed": (
        {k: record()[k] for k in ("kind", "weights", "versions")} | {"data": {}, "evidence": {}, "seconds": {}},
        [],
        {},
    ),
    "nulls": (
        record(
            invariance=None,
            test=None,
            map_test=None,
            predictive=None,
            prior={"precision": {"all": None}},
            settings=None,
        ),
        [{"epoch": 1.0, "loss": None}],
        {},
    ),
    "an augmentation policy": (record(invariance={"name": "Trivial", "eta": {}}), history(2, ()), {}),
    "elsewhere": (record(invariance={"eta": {"flip": 0.5, "affine1_scale": 0.4}}), history(2, ()), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_pages_are_well_formed_and_self_contained(tmp_path: Path, case: str) -> None:
    path = report(write(tmp_path, *CASES[case]))
    text = path.read_text(encoding="utf-8")
    check_page(text)
    assert path == tmp_path / "report.html"


def test_the_page_holds_what_it_should(tmp_path: Path) -> None:
    text = report(write(tmp_path, *CASES["classification"])).read_text(encoding="utf-8")
    assert "<title>digits &lt;&amp;&gt; – Novacula report</title>" in text
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text.split("</style>")[1])).replace("&#39;", "'")
    order = [
        "The 1,437 training examples support any rotation",
        "How sure",
        "Learned invariance",
        "Along training",
        "Learned prior",
        "Predictions on test data",
        "Reliability",
        "Confusion",
        "How predictions are made",
        "Warnings",
        "What it assumes",
        "Provenance",
        "novacula learn digits --seed 0",
    ]
    places = [plain.index(words) for words in order]
    assert places == sorted(places)
    assert plain.count("curvature of a subset") == 1  # said by the run and by its evidence
    assert "b3f1c09a77d2e841" in plain
    assert "torch 2.13.0" in plain
    assert '<td class="best">0.121</td><td>0.140</td>' in text


def test_the_page_depends_on_the_results_alone_and_needs_no_torch(tmp_path: Path) -> None:
    first = report(write(tmp_path / "a", *CASES["classification"])).read_bytes()
    code = (
        "import sys, matplotlib; matplotlib.rcParams['font.size'] = 31; matplotlib.rcParams['lines.linewidth'] = 9\n"
        "import novacula.reporting.page; assert 'torch' not in sys.modules\n"
        "import novacula as nv; nv.report(sys.argv[1]); assert 'torch' not in sys.modules"
    )
    write(tmp_path / "b", *CASES["classification"])
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path / "b")], check=True)
    assert first == (tmp_path / "b" / "report.html").read_bytes()
    assert len(first) < 400_000


def test_a_chosen_point_estimate_has_one_column() -> None:
    text = render(Run(Path(), record(predictive={"structure": "point", "scores": []}), (), classification_arrays()))
    assert '<th scope="col">Chosen</th>' not in text
    assert "○ point estimate" not in text
    assert "the predictive that was chosen," in text


def test_a_point_estimate_at_a_temperature_is_held_against_the_plain_one() -> None:
    scores = [{"structure": "point", "temperature": 0.0, "nll": 0.2, "calibration": t} for t in (1.0, 2.5)]
    predictive = {"structure": "point", "temperature": 0.0, "calibration": 2.5, "scores": scores}
    text = render(Run(Path(), record(predictive=predictive), (), classification_arrays()))
    assert '<th scope="col">Chosen</th>' in text
    assert '<th scope="row">point, labels at temperature 2.5</th><td>—</td><td class="best">' in text
    assert text.count('<td class="best">0.2000') == 1
    assert "better than the plain point estimate’s (0.140)" in text
    assert "No average over weights promised better" not in text
    console = Console(width=100, record=True, file=StringIO())
    console.print(summary(record(predictive=predictive)))
    said = console.export_text()
    assert "point estimate, labels at temperature 2.5" in said
    assert "chosen predictive" in said


def test_a_user_s_style_is_left_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    render(Run(Path(), record(), tuple(history(3)), {}))
    assert dict(matplotlib.rcParams) == before


def test_no_run_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json"):
        report(tmp_path)
    assert not any(tmp_path.iterdir())
