"""`novacula learn --posterior` and `novacula predict`, from files to files."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erfc
from typer.testing import CliRunner, Result

import novacula as nv
from files import edited
from novacula.cli.app import app
from novacula.cli.options import Options, load_options, save_options
from novacula.cli.predict import delimited
from novacula.cli.progress import Progress
from novacula.core.storage.run import ARRAYS, CHECKPOINT, CHECKPOINT_POSTERIOR, COMMAND, POSTERIOR, WEIGHTS, Run
from novacula.prediction import predict
from novacula.runs.catalogue.methods import CHOICES, METHODS
from novacula.runs.flags import anchored
from novacula.runs.table import read_rows
from novacula.study import load_posterior, load_run

N = 90
DRAW = np.random.default_rng(0)
SIZE, AGE = DRAW.normal(5, 2, N), DRAW.integers(20, 80, N)
SITE = DRAW.choice(["north", "south", "west"], N)
KIND = np.where(SIZE + 2 * (SITE == "west") + DRAW.normal(0, 1, N) > 6, "big", np.where(AGE > 50, "old", "small"))
PRICE = 30 * SIZE + 20 * (SITE == "west") - AGE + DRAW.normal(0, 9, N)
NET = """
from torch import nn
def make(x_shape, outputs): return nn.Sequential(nn.Linear(x_shape[0], 6), nn.{}(), nn.Linear(6, outputs))
"""
COSTS = "class,call,wait,visit\nsmall,2,0,1\nold,0.5,8,1\nbig,0,9.5,1\n"
COLUMNS: dict[str, Any] = {"size": SIZE.round(3), "age": AGE, "site": SITE, "kind": KIND, "price": PRICE.round(2)}


def write(path: str, names: str, rows: range, **others: Any) -> str:
    columns = {**COLUMNS, **others}
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names.split())
        writer.writerows([columns[name][i] for name in names.split()] for i in rows)
    return path


def invoke(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def done(result: Result) -> Result:
    assert result.exit_code == 0, f"{result.stderr}\n{result.exception!r}"
    return result


def predicted(*args: str) -> Result:
    return done(invoke("predict", *args))


def table(path: str = "out.csv") -> dict[str, list[str]]:
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def numbers(columns: dict[str, list[str]], *names: str) -> np.ndarray:
    return np.array([[float(v) for v in columns[name]] for name in names]).T


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and three runs: classes by an ensemble, prices by SGLD, images by a point."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("net.py").write_text(NET.format("Tanh"))
        Path("costs.csv").write_text(COSTS)
        write("kinds.csv", "age site size kind", range(60))
        write("prices.csv", "size age site price", range(60))
        images = DRAW.random((30, 1, 8, 8))
        images[:, :, :4] *= np.linspace(0, 1, 30)[:, None, None, None]
        np.savez("images.npz", images=(255 * images).astype(np.uint8)[:, 0], labels=np.arange(30) // 15)
        common = ["--epochs", "3", "--no-report", "--quiet", "--net", "net.py:make"]
        done(
            invoke(
                "learn",
                "kinds.csv",
                "--target",
                "kind",
                *common,
                "--posterior",
                "ensemble:members=3",
                "--output",
                "kinds",
            )
        )
        sgld = ["--posterior", "sgld:keep=35", "--posterior-steps", "200", "--chains", "4"]
        done(invoke("learn", "prices.csv", "--target", "price", *common, *sgld, "--output", "prices"))
        linear = ["--net", "linear", "--invariance", "rotation", "--copies", "1,1,2", "--posterior", "point"]
        done(invoke("learn", "images.npz", "--epochs", "1", "--no-report", "--quiet", *linear, "--output", "images"))
    return folder


@pytest.fixture(autouse=True)
def _folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of it, so that no test sees what another writes. The runs go on naming the first folder's data."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")


def inputs_of_kinds(rows: range) -> np.ndarray:
    # The inputs as the run has them: by hand from the columns.
    sites = [(SITE[rows] == s).astype(float) for s in ("north", "south", "west", "(other)")]
    return np.stack([AGE[rows], *sites, SIZE[rows].round(3)], 1)


# ---------------------------------------------------------------------- tables of classes


def test_unlabelled_rows_get_classes_and_probabilities() -> None:
    write("new.csv", "age site size", range(60, 90))
    result = predicted("kinds", "new.csv", "--out", "out.csv")
    found = table()
    assert list(found) == ["row", "class", "p_big", "p_old", "p_small", "entropy", "entropy_epistemic"]
    assert found["row"] == [str(i) for i in range(30)]
    p = numbers(found, "p_big", "p_old", "p_small")
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    assert found["class"] == [("big", "old", "small")[i] for i in p.argmax(1)]
    assert "30 rows of new" in result.stdout
    assert "scores" not in result.stdout
    # Against the network by hand: standardised by the training rows, averaged over the three members.
    train = Run.read("kinds")
    assert train.record["data"]["n_train"] == 48
    saved = train.weights()
    x = (inputs_of_kinds(range(60, 90)) - saved["scaling/x_mean"]) / saved["scaling/x_sd"]
    draws = [
        {k.split("/")[2]: v for k, v in train.posterior().items() if k.startswith(f"{i}/point/")} for i in range(3)
    ]
    each = []
    for w in draws:
        f = np.tanh(x @ w["0.weight"].T + w["0.bias"]) @ w["2.weight"].T + w["2.bias"]
        each.append(np.exp(f) / np.exp(f).sum(1, keepdims=True))
    np.testing.assert_allclose(p, np.mean(each, 0), atol=2e-6)
    entropy = -(p * np.log(p)).sum(1)
    np.testing.assert_allclose(numbers(found, "entropy")[:, 0], entropy, atol=1e-5)
    aleatoric = np.mean([-(q * np.log(q)).sum(1) for q in each], 0)
    np.testing.assert_allclose(numbers(found, "entropy_epistemic")[:, 0], entropy - aleatoric, atol=1e-5)
    assert load_run("kinds").classes == ("big", "old", "small")


def test_columns_are_found_by_name() -> None:
    write("new.csv", "age site size", range(60, 90))
    write("other.csv", "note size site colour age", range(60, 90), note=["", "a", "b"] * 30, colour=AGE)
    predicted("kinds", "new.csv", "--out", "a.csv")
    predicted("kinds", "other.csv", "--out", "b.csv")
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


def test_words_that_are_new_and_missing_values_are_said() -> None:
    """They are predicted as the word and value that stand for them, and a note says so."""
    site = [*SITE[:60], "east", "east", *SITE[62:]]
    write("new.csv", "age site size", range(60, 90), age=[*AGE[:60], "?", *AGE[61:]], site=site)
    result = predicted("kinds", "new.csv", "--out", "a.csv", "--json")
    notes = json.loads(result.stdout)["notes"]
    assert [n for n in notes if "'site': 2 rows with other words" in n and "'east'" in n]
    (fill,) = [c["fill"] for c in Run.read("kinds").record["data"]["coding"] if c["name"] == "age"]
    assert [n for n in notes if "'age': missing in 1 row, filled by" in n]
    write("filled.csv", "age site size", range(60, 90), age=[*AGE[:60], fill, *AGE[61:]], site=site)
    predicted("kinds", "filled.csv", "--out", "b.csv")
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


def test_a_row_alone_is_predicted_as_among_others() -> None:
    write("new.csv", "age site size", range(60, 90))
    write("one.csv", "age site size", range(77, 78))
    predicted("kinds", "new.csv", "--out", "a.csv")
    predicted("kinds", "one.csv", "--out", "b.csv")
    a, b = table("a.csv"), table("b.csv")
    assert [a["class"][17]] == b["class"]
    np.testing.assert_allclose(numbers(b, "p_big", "entropy"), numbers(a, "p_big", "entropy")[17:18], atol=1e-6)


def test_labels_are_scored() -> None:
    write("new.csv", "kind age site size", range(60, 90))
    result = predicted("kinds", "new.csv", "--json")
    found = json.loads(result.stdout)
    rows = found["rows"]
    hits = np.mean([r["class"] == r["label"] for r in rows])
    assert [r["label"] for r in rows] == KIND[60:90].tolist()
    assert found["scores"]["accuracy"] == pytest.approx(hits)
    nll = -np.mean([math.log(r[f"p_{r['label']}"]) for r in rows])
    assert found["scores"]["nll"] == pytest.approx(nll, abs=1e-6)
    assert found["n"] == 30
    assert result.stdout.count("\n") == 1


def test_labels_that_are_missing_are_no_labels() -> None:
    kinds = KIND.astype(object)
    kinds[62] = ""
    write("new.csv", "kind age site size", range(60, 90), kind=kinds)
    result = predicted("kinds", "new.csv", "--out", "out.csv")
    assert "1 of 30 labels are missing" in result.stderr
    assert "label" not in table()
    kinds[:] = "?"
    write("new.csv", "kind age site size", range(60, 90), kind=kinds)
    assert predicted("kinds", "new.csv", "--out", "out.csv").stderr == "loading\n"


def test_the_runs_own_data_are_its_test_examples(made: Path) -> None:
    result = predicted("kinds", str(made / "kinds.csv"), "--out", "out.csv")
    found, run = table(), Run.read("kinds")
    assert "are the 12 examples that it set aside" in result.stderr
    p = numbers(found, "p_big", "p_old", "p_small")
    np.testing.assert_allclose(p, run.arrays["test/mean"], rtol=1e-7)
    rows = [int(i) for i in found["row"]]
    assert len(set(rows)) == 12
    assert found["label"] == KIND[rows].tolist()
    assert f"{run.record['test']['nll']:.3f}" in result.stdout
    # A copy of the file is data like any other.
    shutil.copy(made / "kinds.csv", "copy.csv")
    predicted("kinds", "copy.csv", "--out", "all.csv")
    whole = table("all.csv")
    assert len(whole["row"]) == 60
    np.testing.assert_allclose(numbers(whole, "p_big")[rows, 0], p[:, 0], atol=1e-6)


def test_embedded_digits_are_the_runs_own() -> None:
    plain = ["--net", "linear", "--invariance", "none", "--train", "1700", "--epochs", "1", "--no-report", "--quiet"]
    done(invoke("learn", "digits", *plain, "--posterior", "point", "--output", "digits"))
    result = predicted("digits", "digits", "--json")
    found = json.loads(result.stdout)
    assert found["n"] == 97
    assert found["scores"] == pytest.approx(Run.read("digits").record["test"])
    assert set(found["rows"][0]) == {"row", "class", "label", "entropy", *(f"p_{i}" for i in range(10))}


# ---------------------------------------------------------------------- measurements


def test_measurements_get_quantiles_in_their_units() -> None:
    write("new.csv", "site age size price", range(60, 90))
    result = predicted("prices", "new.csv", "--json")
    found = json.loads(result.stdout)
    columns = ["row", "mean", "sd", "q05", "q25", "q50", "q75", "q95", "label"]
    assert list(found["rows"][0]) == columns
    values = {c: np.array([r[c] for r in found["rows"]]) for c in columns}
    np.testing.assert_allclose(values["label"], PRICE[60:90].round(2), rtol=1e-5)
    assert found["scores"]["rmse"] == pytest.approx(np.sqrt(np.mean((values["mean"] - values["label"]) ** 2)), rel=1e-5)
    run = load_run("prices")
    assert run.scaling is not None
    saved = Run.read("prices").weights()
    sites = [(SITE[60:90] == s).astype(float) for s in ("north", "south", "west", "(other)")]
    x = (np.stack([SIZE[60:90].round(3), AGE[60:90], *sites], 1) - saved["scaling/x_mean"]) / saved["scaling/x_sd"]
    mu, sd = (t[..., 0].double().numpy() for t in predict(run.posterior, torch.tensor(x).float()).gaussians())
    s, m = saved["scaling/y_sd"], saved["scaling/y_mean"]
    np.testing.assert_allclose(values["mean"], mu.mean(0) * s + m, rtol=1e-4)
    np.testing.assert_allclose(values["sd"], np.sqrt((sd**2).mean(0) + mu.var(0)) * s, rtol=1e-4)
    for name, level in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
        below = 0.5 * erfc(-((values[name] - m) / s - mu) / sd / math.sqrt(2))
        np.testing.assert_allclose(below.mean(0), level, atol=1e-4)


def test_values_are_chosen_under_losses_that_have_names() -> None:
    write("new.csv", "site age size price", range(60, 90))
    for loss, column in (("squared", "mean"), ("absolute", "q50"), ("pinball=0.95", "q95")):
        found = json.loads(predicted("prices", "new.csv", "--decide", loss, "--json").stdout)
        action, label = (np.array([r[c] for r in found["rows"]]) for c in ("action", "label"))
        np.testing.assert_allclose(action, [r[column] for r in found["rows"]], rtol=1e-5)
        gap = label - action
        incurred = {"squared": gap**2, "absolute": abs(gap)}.get(loss, np.maximum(0.95 * gap, -0.05 * gap))
        assert found["decisions"]["incurred"] == pytest.approx(incurred.mean(), rel=1e-4)
        if loss == "squared":
            np.testing.assert_allclose(
                [r["expected_cost"] for r in found["rows"]], [r["sd"] ** 2 for r in found["rows"]], rtol=1e-3
            )
    costs = [r["expected_cost"] for r in found["rows"]]
    limit = float(np.median(costs))
    found = json.loads(
        predicted("prices", "new.csv", "--decide", "pinball=0.95", "--abstain", str(limit), "--json").stdout
    )
    assert [r["action"] is None for r in found["rows"]] == [c > limit for c in costs]


def test_intervals_hold_what_was_promised_by_the_calibration() -> None:
    """The band between the 10 % and 90 % quantiles, moved by the order statistic of the calibration scores, by hand."""
    write("cal.csv", "site age size price", range(60, 80))
    write("new.csv", "site age size", range(80, 90))
    args = ["--conformal", "0.2", "--calibration", "cal.csv", "--json"]
    found = json.loads(predicted("prices", "new.csv", *args).stdout)
    run = load_run("prices")
    assert run.scaling is not None

    def band(path: str) -> tuple[np.ndarray, np.ndarray]:
        low, high = predict(run.posterior, read_rows(run, path).x).interval(0.8)
        return tuple(run.scaling.restore_y(t)[:, 0].double().numpy() for t in (low, high))  # type: ignore[union-attr,return-value]

    low, high = band("cal.csv")
    y = PRICE[60:80].round(2)
    q = np.sort(np.maximum(low - y, y - high))[math.ceil(21 * 0.8) - 1]
    low, high = band("new.csv")
    np.testing.assert_allclose([r["low"] for r in found["rows"]], low - q, rtol=1e-4)
    np.testing.assert_allclose([r["high"] for r in found["rows"]], high + q, rtol=1e-4)
    assert found["conformal"]["level"] == pytest.approx(0.8)
    assert found["conformal"]["calibration"] == 20
    assert "exchangeable with 20 examples of cal" in found["conformal"]["promise"]
    own = json.loads(predicted("prices", "new.csv", "--conformal", "0.2", "--json").stdout)
    assert own["conformal"]["calibration"] == 12
    assert "the run's own 12 test examples" in own["conformal"]["promise"]


# ---------------------------------------------------------------------- decisions and sets


def test_decisions_cost_the_least() -> None:
    write("new.csv", "age site size kind", range(60, 90))
    predicted("kinds", "new.csv", "--decide", "costs.csv", "--out", "out.csv")
    found = table()
    p = numbers(found, "p_small", "p_old", "p_big")  # the order of the costs' rows
    costs = np.array([[2, 0, 1], [0.5, 8, 1], [0, 9.5, 1]])
    expected = p @ costs
    assert found["action"] == [("call", "wait", "visit")[i] for i in expected.argmin(1)]
    np.testing.assert_allclose(numbers(found, "expected_cost")[:, 0], expected.min(1), atol=1e-6)
    result = json.loads(predicted("kinds", "new.csv", "--decide", "costs.csv", "--abstain", "0.4", "--json").stdout)
    left = expected.min(1) > 0.4
    assert [r["action"] == "abstain" for r in result["rows"]] == left.tolist()
    truth = [("small", "old", "big").index(k) for k in KIND[60:90]]
    incurred = np.where(left, 0.4, costs[truth, expected.argmin(1)]).mean()
    assert result["decisions"]["incurred"] == pytest.approx(incurred)
    assert result["decisions"]["abstained"] == pytest.approx(left.mean())


def test_sets_hold_the_labels_that_fit() -> None:
    write("cal.csv", "age site size kind", range(60, 80))
    write("new.csv", "age site size kind", range(80, 90))
    result = predicted("kinds", "new.csv", "--conformal", "0.1", "--calibration", "cal.csv", "--out", "out.csv")
    found = table()
    predicted("kinds", "cal.csv", "--out", "cal-out.csv")
    cal = table("cal-out.csv")
    scores = np.sort([1 - float(cal[f"p_{k}"][i]) for i, k in enumerate(KIND[60:80])])
    q = scores[math.ceil(21 * 0.9) - 1]
    sets = [
        "|".join(c for c in ("big", "old", "small") if 1 - float(found[f"p_{c}"][i]) <= q + 1e-7) for i in range(10)
    ]
    assert found["set"] == sets
    assert found["set_size"] == [str(len(s.split("|")) if s else 0) for s in sets]
    coverage = np.mean([k in s.split("|") for k, s in zip(KIND[80:90], sets, strict=True)])
    assert f"{coverage:.3f} of the labels" in result.stdout


def test_groups_are_calibrated_apart() -> None:
    write("cal.csv", "age site size kind", range(60, 90))
    write("new.csv", "age site size", range(60))
    args = ["--conformal", "0.25", "--calibration", "cal.csv"]
    predicted("kinds", "new.csv", *args, "--groups", "site", "--out", "out.csv")
    predicted("kinds", "cal.csv", "--out", "cal-out.csv")
    found, cal = table(), table("cal-out.csv")
    assert found["group"] == SITE[:60].tolist()
    for site in ("north", "south", "west"):
        rows = np.flatnonzero(SITE[60:90] == site)
        scores = np.sort([1 - float(cal[f"p_{KIND[60 + i]}"][i]) for i in rows])
        q = scores[math.ceil((len(rows) + 1) * 0.75) - 1]
        for i in np.flatnonzero(SITE[:60] == site):
            held = [c for c in ("big", "old", "small") if 1 - float(found[f"p_{c}"][i]) <= q + 1e-7]
            assert found["set"][i] == "|".join(held)


def test_a_few_calibration_rows_that_are_training_rows_are_told() -> None:
    write("cal.csv", "age site size kind", range(45, 90))
    write("new.csv", "age site size", range(20))
    result = predicted("kinds", "new.csv", "--conformal", "0.2", "--calibration", "cal.csv")
    assert re.search(r"1[0-5] of 45 calibration rows of cal are training rows", result.stderr)


def test_own_test_examples_have_groups(made: Path) -> None:
    write("new.csv", "age site size", range(60, 90))
    result = invoke("predict", "kinds", "new.csv", "--conformal", "0.4", "--groups", "site")
    rows = json.loads(predicted("kinds", str(made / "kinds.csv"), "--json").stdout)["rows"]
    sites = SITE[[r["row"] for r in rows]]
    if min((sites == s).sum() for s in set(SITE)) >= 2:
        assert result.exit_code == 0
    else:
        assert "at least" in result.stderr


def test_several_labels_and_several_targets_have_columns_of_their_own() -> None:
    x = DRAW.normal(size=(40, 4))
    np.savez("labels.npz", x=x, y=(x[:, :3] > 0).astype(int))
    np.savez("new.npz", x=x[:9], y=(x[:9, :3] > 0).astype(int))
    Path("yes-no.csv").write_text("label,act,wait\n1,0,5\n0,1,0\n")
    plain = ["--net", "linear", "--epochs", "1", "--no-report", "--quiet"]
    done(invoke("learn", "labels.npz", *plain, "--posterior", "swag", "--posterior-steps", "20", "--output", "labels"))
    predicted("labels", "new.npz", "--decide", "yes-no.csv", "--conformal", "0.3", "--out", "out.csv")
    found = table()
    p = numbers(found, "p_0", "p_1", "p_2")
    for i in range(3):
        assert found[f"action_{i}"] == ["act" if 1 - q <= 5 * q else "wait" for q in p[:, i]]
        expected = np.minimum(1 - p[:, i], 5 * p[:, i])
        np.testing.assert_allclose(numbers(found, f"expected_cost_{i}")[:, 0], expected, atol=1e-6)
        assert set(found[f"set_{i}"]) <= {"", "0", "1", "0|1"}
        assert found[f"label_{i}"] == [str(int(v > 0)) for v in x[:9, i]]

    write("two.csv", "age size tall wide", range(40), tall=100 + SIZE, wide=SIZE / 50)
    write("new.csv", "size wide tall age", range(40, 60), tall=100 + SIZE, wide=SIZE / 50)
    mean_field = ["--posterior", "mean-field", "--posterior-steps", "20", "--output", "two"]
    done(invoke("learn", "two.csv", "--target", "tall", "--target", "wide", *plain, *mean_field))
    result = json.loads(predicted("two", "new.csv", "--decide", "absolute", "--conformal", "0.4", "--json").stdout)
    rows = {k: np.array([r[k] for r in result["rows"]]) for k in result["rows"][0]}
    for name, start, unit in (("tall", 100, 1.0), ("wide", 0, 1 / 50)):
        np.testing.assert_array_equal(rows[f"action_{name}"], rows[f"q50_{name}"])
        np.testing.assert_allclose(rows[f"label_{name}"], start + SIZE[40:60] * unit, rtol=1e-5)
        width = (rows[f"high_{name}"] - rows[f"low_{name}"]).clip(0).mean()
        assert result["conformal"][f"width_{name}"] == pytest.approx(width, rel=1e-4)
        gap = abs(rows[f"label_{name}"] - rows[f"action_{name}"]).mean()
        assert result["decisions"][f"incurred_{name}"] == pytest.approx(gap, rel=1e-4)
    text = " ".join(predicted("two", "new.csv", "--decide", "absolute", "--conformal", "0.4").stdout.split())
    assert "incurred cost tall" in text
    assert "mean width wide" in text


# ---------------------------------------------------------------------- forms of output


def test_all_forms_hold_the_same() -> None:
    write("new.csv", "age site size kind", range(60, 90))
    args = ("kinds", "new.csv", "--conformal", "0.2", "--decide", "costs.csv")
    for name in ("out.csv", "out.tsv", "out.json", "out.parquet"):
        predicted(*args, "--out", name)
    rows = json.loads(Path("out.json").read_text())["rows"]
    assert Path("out.tsv").read_text().replace("\t", ",") == Path("out.csv").read_text()
    found = table()
    assert [r["set"] for r in rows] == [s.split("|") if s else [] for s in found["set"]]
    for name in ("p_big", "entropy", "expected_cost"):
        np.testing.assert_allclose(numbers(found, name)[:, 0], [r[name] for r in rows], rtol=1e-8)
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table("out.parquet").to_pylist() == rows
    assert predicted(*args, "--out", "-").stdout == Path("out.csv").read_text()
    both = predicted(*args, "--out", "again.csv", "--json")
    assert "rows" not in json.loads(both.stdout)
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes()


def test_a_terminal_sees_the_first_rows() -> None:
    write("new.csv", "age site size", range(60, 90))
    text = predicted("kinds", "new.csv").stdout
    assert "… and 20 more; --out FILE.csv for all of them" in text
    assert len([line for line in text.splitlines() if line.split()[:1] and line.split()[0].isdigit()]) == 10
    assert not Path("predictions.csv").exists()


def test_names_with_the_separator_are_written_as_json() -> None:
    text = delimited({"row": [0], "set": [["a|b", "c"]], "gone": [float("nan")]}, ("a|b", "c"), ",")
    (row,) = csv.DictReader(text.splitlines())
    assert json.loads(row["set"]) == ["a|b", "c"]
    assert row["gone"] == ""


# ---------------------------------------------------------------------- images


def test_images_come_in_many_forms() -> None:
    pillow = pytest.importorskip("PIL.Image")
    images = np.load("images.npz")["images"]
    np.savez("new.npz", x=images[:5])
    np.savez("float.npz", images=images[:5] / 255)
    np.save("new.npy", images[:5])
    Path("folder").mkdir()
    Path("sorted", "1").mkdir(parents=True)
    Path("sorted", "0").mkdir(parents=True)
    for i in range(5):
        pillow.fromarray(images[i]).save(f"folder/{i}.png")
        pillow.fromarray(images[i]).convert("RGB").save(f"sorted/{int(i > 2)}/{i}.png")
    wanted = None
    for source in ("new.npz", "float.npz", "new.npy", "folder", "sorted"):
        predicted("images", source, "--out", "out.csv")
        found = table()
        p = numbers(found, "p_0", "p_1")
        wanted = p if wanted is None else wanted
        np.testing.assert_allclose(p, wanted, atol=1e-6)
    assert found["file"] == ["0/0.png", "0/1.png", "0/2.png", "1/3.png", "1/4.png"]
    predicted("images", "folder/3.png", "--out", "out.csv")
    assert table()["file"] == ["3.png"]
    np.testing.assert_allclose(numbers(table(), "p_1")[0], wanted[3, 1], atol=1e-6)  # type: ignore[index]


def test_the_test_part_of_a_file_is_predicted() -> None:
    images = np.load("images.npz")["images"]
    np.savez(
        "parts.npz",
        train_images=images,
        train_labels=np.arange(30) % 2,
        test_images=images[:4],
        test_labels=[0, 1, 0, 1],
    )
    result = predicted("images", "parts.npz", "--json")
    assert "its 4 rows are read" in result.stderr
    found = json.loads(result.stdout)
    assert [r["label"] for r in found["rows"]] == ["0", "1", "0", "1"]
    assert any("test part" in note for note in found["notes"])


# ---------------------------------------------------------------------- what is refused


def bad(names: str = "age site size", rows: range = range(60, 90), **others: Any) -> str:
    return write("bad.csv", names, rows, **others)


def costs(text: str) -> str:
    Path("bad-costs.csv").write_text(text)
    return "bad-costs.csv"


def arrays(**values: Any) -> str:
    np.savez("bad.npz", **values)
    return "bad.npz"


def changed_network() -> list[str]:
    # The runs name the first folder's file.
    path = Path(Run.read("kinds").record["setup"]["net"].rsplit(":", 1)[0])
    path.write_text(NET.format("ReLU"))
    return ["kinds", bad()]


def whole() -> list[str]:
    # A run that set nothing aside.
    record = Run.read("kinds").record
    edited(Path("kinds"), data={**record["data"], "n_test": 0})
    return ["kinds", bad(), "--conformal", "0.2"]


BAD: dict[str, tuple[Callable[[], list[str]], list[str]]] = {
    "no run": (lambda: ["nowhere", bad()], ["nowhere, which does not exist"]),
    "no data": (lambda: ["kinds", "bat.csv"], ["bat.csv"]),
    "a missing column": (lambda: ["kinds", bad("age size")], ["a column 'site'", "age, site, size"]),
    "a renamed column": (lambda: ["kinds", bad("age sites size", sites=SITE)], ["'site'", "rename 'sites'"]),
    "text in a number": (lambda: ["kinds", bad(age=["x"] * N)], ["'x'", "'age'"]),
    "no rows": (lambda: ["kinds", bad(rows=range(0))], ["no rows"]),
    "an unknown class": (
        lambda: ["kinds", bad("age site size kind", kind=np.where(AGE[61] == AGE, "huge", KIND))],
        ["'huge' in row 1", "big"],
    ),
    "numbers of columns": (lambda: ["kinds", arrays(x=np.zeros((4, 7)))], ["6 columns", "7 columns"]),
    "images for a table": (lambda: ["kinds", "images.npz"], ["(6,)", "(1, 8, 8)"]),
    "a table for images": (lambda: ["images", bad()], ["(1, 8, 8)"]),
    "images of another size": (
        lambda: ["images", arrays(images=np.zeros((4, 9, 9), np.uint8))],
        ["(1, 8, 8)", "(1, 9, 9)"],
    ),
    "labels of words for numbers": (
        lambda: ["images", arrays(images=np.zeros((2, 8, 8), np.uint8), labels=["a", "b"])],
        ["labels as numbers", "'a'"],
    ),
    "classes beyond": (lambda: ["images", arrays(images=np.zeros((2, 8, 8), np.uint8), labels=[0, 5])], ["5", "row 1"]),
    "no suffix": (lambda: ["kinds", bad(), "--out", "out"], [".csv", ".parquet"]),
    "no such folder": (lambda: ["kinds", bad(), "--out", "no/out.csv"], ["no, which does not exist"]),
    "several targets for one": (
        lambda: ["prices", arrays(x=np.ones((4, 6)), y=np.ones((4, 2)))],
        ["1 targets, as in the run", "2 in bad", "leave out the labels"],
    ),
    "no test examples to calibrate on": (whole, ["that the run set aside, to calibrate on", "--calibration FILE"]),
    "two results on stdout": (lambda: ["kinds", bad(), "--out", "-", "--json"], ["both"]),
    "costs of another shape": (
        lambda: ["kinds", bad(), "--decide", costs("class,call\nbig,1\nold,2\n")],
        ["no row for ['small']"],
    ),
    "costs of other classes": (
        lambda: ["kinds", bad(), "--decide", costs("class,call\nbig,1\nold,2\ntiny,3\n")],
        ["tiny"],
    ),
    "costs that are no numbers": (
        lambda: ["kinds", bad(), "--decide", costs("class,call\nbig,1\nold,much\nsmall,3\n")],
        ["'much'", "line 3"],
    ),
    "no costs": (lambda: ["kinds", bad(), "--decide", "cost.csv"], ["cost.csv"]),
    "costs for measurements": (lambda: ["prices", bad(), "--decide", "costs.csv"], ["--decide absolute"]),
    "a level that is none": (lambda: ["prices", bad(), "--decide", "pinball=high"], ["TAU between 0 and 1"]),
    "nothing to abstain from": (lambda: ["kinds", bad(), "--abstain", "1"], ["--decide"]),
    "an abstention that pays": (lambda: ["kinds", bad(), "--decide", "costs.csv", "--abstain", "-1"], ["0 or more"]),
    "alpha of one": (lambda: ["kinds", bad(), "--conformal", "1"], ["between 0 and 1"]),
    "calibration without a level": (lambda: ["kinds", bad(), "--calibration", "x.csv"], ["--conformal"]),
    "too few to calibrate": (
        lambda: ["kinds", bad(), "--conformal", "0.05"],
        ["at least 19 calibration examples", "12"],
    ),
    "calibration without labels": (
        lambda: ["kinds", "kinds.csv", "--conformal", "0.2", "--calibration", bad()],
        ["labels of the calibration data"],
    ),
    "calibration on what is predicted": (
        lambda: ["kinds", bad("age site size kind"), "--conformal", "0.2", "--calibration", "bad.csv"],
        ["other than what is predicted"],
    ),
    "calibration on training rows": (
        lambda: [
            *("kinds", bad(), "--conformal", "0.2", "--calibration"),
            write("cal.csv", "kind size site age", range(60)),
        ],
        ["did not learn from", "48 of 60 rows of cal that it did"],
    ),
    "groups that are no column": (
        lambda: ["kinds", bad(), "--conformal", "0.2", "--groups", "cite"],
        ["a column 'cite'", "rename 'site'"],
    ),
    "a group that was not calibrated": (
        lambda: [
            *("kinds", bad("age site size", rows=range(60, 90))),
            *("--conformal", "0.4", "--groups", "site", "--calibration"),
            write("cal.csv", "age site size kind", range(40), site=np.full(N, "north")),
        ],
        ["groups among ['north']"],
    ),
    "groups of images": (
        lambda: ["images", "images.npz", "--conformal", "0.2", "--groups", "ward"],
        ["an array 'ward'"],
    ),
    "another network": (changed_network, ["another function of the same weights"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_explained_and_leaves_nothing(case: str, made: Path) -> None:
    make, said = BAD[case]
    args = make()
    before = sorted(Path().rglob("*"))
    defaults = [] if "--out" in args else ["--out", "out.csv"]
    try:
        result = invoke("predict", *args, *defaults)
    finally:
        (made / "net.py").write_text(NET.format("Tanh"))
    assert result.exit_code == 2, f"{result.stderr}\n{result.exception!r}"
    words = " ".join(result.stderr.split())
    for word in said:
        assert word in words, words
    assert "error: expected" in words
    assert " try " in words
    assert result.stdout == ""
    assert sorted(p for p in Path().rglob("*") if "__pycache__" not in p.parts) == before


def test_data_that_changed_are_refused() -> None:
    common = ["--epochs", "1", "--no-report", "--quiet", "--net", "net.py:make", "--output", "own"]
    write("own.csv", "age site size kind", range(60))
    done(invoke("learn", "own.csv", "--target", "kind", *common, "--posterior", "laplace"))
    write("new.csv", "age site size", range(60, 90))
    predicted("own", "new.csv", "--out", "out.csv")
    chosen = Run.read("own").record["predictive"]
    assert chosen["structure"] != "point"
    np.testing.assert_allclose(
        numbers((predicted("own", "own.csv", "--out", "test.csv"), table("test.csv"))[1], "p_big", "p_old", "p_small"),
        Run.read("own").arrays["test/mean"],
        rtol=1e-6,
    )
    write("own.csv", "age site size kind", range(1, 61))
    for source in ("new.csv", "own.csv"):
        result = invoke("predict", "own", source)
        assert result.exit_code == 2
        assert f"fingerprint {Run.read('own').record['data']['fingerprint']}" in result.stderr
    Path("own.csv").unlink()
    assert invoke("predict", "own", "new.csv").exit_code == 2  # Laplace needs them, draws do not
    shutil.copytree("kinds", "moved")
    assert predicted("moved", "new.csv").exit_code == 0


def test_runs_from_python_name_the_way() -> None:
    data = nv.Data(inputs_of_kinds(range(20)), np.arange(20) % 2)
    nv.learn(nv.Target(torch.nn.Linear(6, 2)), data, epochs=1, structures=("last_layer",)).save("python")
    write("new.csv", "age site size", range(60, 90))
    result = invoke("predict", "python", "new.csv")
    assert result.exit_code == 2
    assert "load_posterior(folder, target=" in result.stderr


# ---------------------------------------------------------------------- learning with a posterior


def learn(*args: str, output: str = "run", epochs: int = 2) -> Result:
    common = ["--target", "kind", "--net", "net.py:make", "--epochs", str(epochs), "--no-report", "--output", output]
    return invoke("learn", "kinds.csv", *common, *args)


def test_the_record_of_a_posterior_is_whole(made: Path) -> None:
    found = Run.read("prices").record
    posterior = found["posterior"]
    assert (posterior["method"], posterior["name"]) == ("SGLD", "sgld:keep=35")
    assert posterior["settings"]["keep"] == 35
    assert (posterior["chains"], posterior["draws"], posterior["stored"], posterior["steps"]) == (4, 140, 128, 200)
    assert found["settings"]["posterior"] == "sgld:keep=35"
    assert found["settings"]["chains"] == 4
    assert "--posterior sgld:keep=35 --posterior-steps 200 --chains 4" in found["command"]
    assert found["setup"]["data"] == str(made / "prices.csv")
    assert found["data"]["targets"] == ["price"]
    assert found["data"]["columns"] == ["size", "age", "site=north", "site=south", "site=west", "site=(other)"]
    assert Run.read("images").record["posterior"] is None
    text = " ".join(done(invoke("show", "prices")).stdout.split())
    assert "4 chains of 200 steps; 140 draws, 128 of them kept" in text
    assert "average over weights" in text


def test_strange_inputs_are_told_from_the_test_data() -> None:
    write("odd.csv", "site size age", range(60, 90), size=1000 + SIZE)
    result = done(learn("--ood", "odd.csv", "--posterior", "ensemble:members=2", "--json"))
    found = json.loads(result.stdout)["ood"]
    assert (found["name"], found["n"], found["score"]) == ("odd", 30, "entropy")
    held = Run.read("run").arrays
    usual, strange = held["test/strangeness"], held["ood/strangeness"]
    above = np.mean(strange[:, None] > usual) + 0.5 * np.mean(strange[:, None] == usual)
    assert found["auroc"] == pytest.approx(above)
    assert "out of distribution" in done(invoke("show", "run")).stdout


def test_an_interrupted_posterior_resumes_bit_identical(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("--posterior", "sghmc", "--posterior-steps", "9", "--chains", "2")
    done(learn(*args, output="whole"))
    calls = []

    def call(self: Progress, now: int, total: int, values: object) -> None:
        calls.append(self._what)
        if self._what != "epoch" and now == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "__call__", call)
        result = learn(*args)
    assert result.exit_code == 130
    assert "resume with: novacula learn --resume --output run" in result.stderr
    assert {p.name for p in Path("run").iterdir()} == {CHECKPOINT, CHECKPOINT_POSTERIOR, COMMAND}
    assert calls == ["epoch", "epoch", "sghmc, round", "sghmc, round"]
    done(invoke("learn", "--resume", "--no-report", "--output", "run"))
    for name in (WEIGHTS, POSTERIOR, ARRAYS):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()
    assert {p.name for p in Path("run").iterdir()} == {p.name for p in Path("whole").iterdir()}


def test_a_posterior_that_diverges_does_not_take_the_run_with_it() -> None:
    result = learn("--posterior", "sgld:lr=1e9", "--posterior-steps", "50")
    assert result.exit_code == 2
    assert "run holds the run without it" in result.stderr
    assert "--posterior sgld:lr=… with a smaller rate" in " ".join(result.stderr.split())
    found = Run.read("run").record
    assert found["posterior"] is None
    assert any("no posterior by sgld:lr=1e9" in w for w in found["warnings"])
    assert not Path("run", CHECKPOINT).exists()
    load_posterior("run")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--posterior", "sgdl"], ["'sgdl'", "sgld"]),
        (["--posterior", "sgld:rate=1"], ["settings of sgld"]),
        (["--posterior-steps", "5"], ["no --posterior-steps with --posterior auto"]),
        (["--posterior", "point", "--chains", "2"], ["no --chains with --posterior point"]),
        (["--posterior", "sgld", "--posterior-steps", "0"], ["--posterior-steps of 1 or more"]),
        (["--posterior", "sgld", "--chains", "0"], ["--chains of 1 or more"]),
        (["--posterior", "dropout"], ["dropout layers"]),
        (["--posterior", "ivon", "--prior", "laplace"], ["a Gaussian prior"]),
        (["--posterior", "swag", "--posterior-steps", "2"], ["steps for two points"]),
        (["--ood", "images.npz"], ["(6,)"]),
        (["--ood", "costs.csv"], ["a column 'age'"]),
        (["--ood", "kinds.csv", "--test-fraction", "0"], ["test data"]),
    ],
)
def test_what_cannot_be_inferred_is_known_before_anything_is_learned(
    args: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("novacula.study.learning.learn", lambda *a, **k: pytest.fail("it was learned"))
    before = sorted(Path().rglob("*"))
    result = learn(*args)
    assert result.exit_code == 2, f"{result.stderr}\n{result.exception!r}"
    words = " ".join(result.stderr.split())
    for word in said:
        assert word in words, words
    assert sorted(p for p in Path().rglob("*") if "__pycache__" not in p.parts) == before


def test_overwriting_leaves_no_draws_of_the_older_run() -> None:
    done(learn("--overwrite", output="kinds"))
    assert not Path("kinds", POSTERIOR).exists()
    write("new.csv", "age site size", range(60, 90))
    predicted("kinds", "new.csv")


def test_the_help_names_every_posterior() -> None:
    import typer.main

    parameters = {p.name: p for p in typer.main.get_command(app).commands["learn"].params}  # type: ignore[attr-defined]
    text = parameters["posterior"].help
    listed = text.split(": ", 1)[1].split(";")[0].replace(" or ", ", ").split(", ")
    assert sorted(listed) == sorted([*CHOICES, *METHODS])


def test_options_of_a_posterior_survive_their_file() -> None:
    options = Options.of(data="kinds.csv", posterior="sgld:lr=1e-3", posterior_steps=7, chains=3, ood="prices.csv")
    save_options(options, Path("options.json"))
    assert load_options(Options, Path("options.json")) == anchored(options)
    assert anchored(options).ood == str(Path("prices.csv").resolve())
    assert "--ood prices.csv" in options.command()


@pytest.mark.parametrize(("run", "column"), [("kinds", "p_{}"), ("prices", "mean")])
def test_many_rows_are_predicted_in_parts_and_progress_is_told(run: str, column: str) -> None:
    rows = [i % N for i in range(2_500)]
    with Path("many.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "site", "size"])
        writer.writerows([AGE[i], SITE[i], SIZE[i].round(3)] for i in rows)
    told = predicted(run, "many.csv", "--out", "out.csv", "--threads", str(torch.get_num_threads()))
    parts = [line.split("  ")[0] for line in told.stderr.splitlines() if line.startswith("part")]
    assert parts == ["part 1/3", "part 2/3", "part 3/3"]
    saved = load_run(run)
    whole = saved.predict_standard(read_rows(saved, "many.csv").x).mean().numpy()
    names = [column.format(name) for name in saved.classes] if "{}" in column else [column]
    np.testing.assert_allclose(numbers(table(), *names), whole, rtol=1e-5)
    assert "part" not in predicted(run, "many.csv", "--out", "out.csv", "--quiet").stderr.split()
    refused = invoke("predict", run, "many.csv", "--threads", "0")
    assert refused.exit_code == 2
    assert "--threads of 1 or more" in refused.stderr
