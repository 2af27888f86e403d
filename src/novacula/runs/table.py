"""Predictions of a saved run as a table that people and programs read, with decisions and conformal sets.

| column | holds |
| --- | --- |
| ``row``, ``file``, ``group`` | the row's number in its source, an image's file, the group that was asked for |
| ``class``, ``p_<class>`` | the most probable class, and all probabilities (of several labels ``p_<label>`` alone) |
| ``entropy``, ``entropy_epistemic`` | how unsure in nats, and how much of that is due to the weights |
| ``mean``, ``sd``, ``q05`` … ``q95`` | of measurements, in their units; several targets have ``mean_<target>`` … |
| ``action``, ``expected_cost`` | the decision |
| ``set``, ``set_size``, or ``low``, ``high`` | the conformal set or interval |
| ``label`` | the truth, where it is known |
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.device import on_device
from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.meaning.soft import is_soft
from novacula.data.new import NewData, load_new, read_groups
from novacula.data.overlap import shared_rows
from novacula.data.standardise import Standardiser
from novacula.inference.loop import Progress
from novacula.prediction.conformal.calibrate import Conformal, calibrate
from novacula.prediction.conformal.sets import Intervals, Sets
from novacula.prediction.decisions.costs import load_costs
from novacula.prediction.decisions.decide import Decision
from novacula.prediction.predictive import Predictive
from novacula.prediction.scores.metrics import evaluate
from novacula.runs.loading import SavedRun, training_data
from novacula.runs.saving import LEVELS, own_units
from novacula.runs.settings import anchored_data

_TOO_MANY = 0.5  # the share of training rows among those that calibrate
_PART, _PARTS = 1_000, 20
"""Rows of a part at least, and parts at most."""
_POINT_LOSSES = ("squared", "absolute", "pinball")


@dataclass(frozen=True, eq=False)
class Rows:
    """What is to be predicted: inputs in the units of training, labels in their own; x ``(N, …)``."""

    x: Tensor  # inputs, shape ``(N, …)``
    y: Tensor | None  # labels, or None
    name: str  # where they are from
    numbers: Tensor  # the number of each row there
    names: tuple[str, ...] = ()  # A name for each row, where the source has them
    groups: tuple[str, ...] | None = None  # the group of each row, where groups were asked for
    notes: tuple[str, ...] = ()  # what a reader must know about which rows these are
    own: bool = False  # whether they are the run's own test examples

    @property
    def n(self) -> int:
        """The number of rows N."""
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions, column by column."""

    columns: dict[str, list[Any]]  # one list of N entries a column; conformal sets are lists of labels
    scores: dict[str, float] | None  # metrics against the labels, where these are known
    decisions: dict[str, float] | None
    conformal: dict[str, float] | None
    notes: tuple[str, ...]  # which rows these are, where that is not plain
    warnings: tuple[str, ...]  # reservations a reader must know

    __repr__ = brief

    @property
    def n(self) -> int:
        """The number of rows N."""
        return len(self.columns["row"])


def read_rows(saved: SavedRun, path: str, *, groups: str | None = None) -> Rows:
    """Read inputs to predict; of the data that the run learned from, its test examples."""
    if saved.setup is not None and anchored_data(path) == saved.setup.data:
        return own_rows(saved, groups=groups)
    return _rows(load_new(path, saved.like, groups=groups), saved.scaling)


def own_rows(saved: SavedRun, *, groups: str | None = None) -> Rows:
    """The test examples that a run set aside, or, where it set none aside, what it learned from."""
    found = training_data(saved)
    assert saved.setup is not None
    data, numbers = found.test, found.rows
    note = f"{saved.setup.data} is what the run learned from: these are the {0 if data is None else data.n:,} examples"
    note += " that it set aside for testing"
    if data is None or numbers is None:
        data, numbers = found.train, torch.arange(found.train.n)
        note = (
            f"{saved.setup.data} is what the run learned from, and none of it was set aside: "
            "scores say nothing about new data"
        )
    group = None
    if groups is not None:
        whole = read_groups(saved.setup.data, groups, saved.like)
        if saved.setup.split is not None or len(whole) <= int(numbers.max()):
            raise InputError(
                "rows that can be told apart", f"published splits in {data.name}", "pass files of their own"
            )
        group = tuple(str(whole[i]) for i in numbers.tolist())
    return Rows(
        data.x, own_units(data.y, data.scaling), data.name, numbers, (), group, (note,), own=found.test is not None
    )


def calibrated(saved: SavedRun, alpha: float, rows: Rows, predicted: Rows) -> tuple[Conformal, int, tuple[str, ...]]:
    """Calibrate conformal sets or intervals on rows with labels."""
    if rows.y is None:
        raise InputError("labels of the calibration data", f"none in {rows.name}", "--calibration FILE with labels")
    if rows.x.shape == predicted.x.shape and torch.equal(rows.x, predicted.x):
        raise InputError(
            "calibration data other than what is predicted",
            f"the same {rows.n:,} rows of {rows.name}",
            "--calibration FILE with other rows, which the run did not learn from",
        )
    _refuse_known(saved, rows)
    rule = calibrate(saved.predict_standard(rows.x), rows.y, alpha=alpha, groups=rows.groups)
    level = f"{1 - alpha:.0%}".replace("%", "\u00a0%")
    which = f"the run's own {rows.n:,} test examples" if rows.own else f"{rows.n:,} examples of {rows.name}"
    promise = f"conformal sets hold the truth in {level} of cases if the data are exchangeable with {which}"
    return rule, rows.n, (promise,)


def _refuse_known(saved: SavedRun, rows: Rows) -> None:
    # Rows that a network was trained on fit it better than others, and sets would hold less than they promise.
    assert rows.y is not None
    if rows.own:
        return
    try:
        known = training_data(saved).train
    except InputError:
        return  # the data are not where they were, so that nothing can be compared
    y = rows.y if known.scaling is None else known.scaling.targets(rows.y)
    shared = int(shared_rows(known, known.with_values(rows.x, y)).sum())
    if shared > _TOO_MANY * rows.n:
        raise InputError(
            "calibration data that the run did not learn from",
            f"{shared:,} of {rows.n:,} rows of {rows.name} that it did",
            "--calibration FILE with other rows, or leave it out for the run's own test examples",
        )
    if shared:
        text = (
            f"{shared:,} of {rows.n:,} calibration rows of {rows.name} are training rows: sets hold less than promised"
        )
        warnings.warn(text, NovaculaWarning, stacklevel=2)


def tabulate(
    saved: SavedRun,
    rows: Rows,
    *,
    costs: str | Path | None = None,
    abstain: float | None = None,
    rule: Conformal | None = None,
    calibration: int = 0,
    progress: Progress | None = None,
) -> Predictions:
    """Predict rows; ``progress`` is told of every part of many."""
    predictive = in_parts(saved, rows.x, progress)
    task = predictive.likelihood.task
    columns: dict[str, list[Any]] = {"row": rows.numbers.tolist()}
    if rows.names:
        columns["file"] = list(rows.names)
    if rows.groups is not None:
        columns["group"] = list(rows.groups)
    columns |= _measured(predictive, saved) if task == "regression" else _classified(predictive, saved)
    y = None if rows.y is None else predictive.labels(rows.y)
    decisions = conformal = None
    if costs is not None:
        found, decisions = _decided(predictive, saved, str(costs), abstain, y)
        columns |= found
    if rule is not None:
        found, conformal = _held(predictive, saved, rule, rows, y)
        columns |= found
        conformal["calibration"] = calibration
    if y is not None:
        columns |= _truth(y, saved)
    scores = None if y is None else evaluate(predictive, y)
    warnings = tuple(dict.fromkeys(predictive.warnings))
    return Predictions(columns, scores, decisions, conformal, rows.notes, warnings)


def in_parts(saved: SavedRun, x: Tensor, progress: Progress | None = None) -> Predictive:
    """Predict inputs ``(N, …)`` in the units of training, a part at a time; no prediction depends on another."""
    size = max(_PART, -(-len(x) // _PARTS))
    pieces = x.split(size)
    found: list[Predictive] = []
    for piece in pieces:
        part = saved.predict_standard(piece)
        found.append(on_device(part, "cpu", now=part.outputs.device))
        if progress is not None and len(pieces) > 1:
            progress(len(found), len(pieces), {})
    if len(found) == 1:
        return found[0]
    covariances = [p.covariance for p in found if p.covariance is not None]
    return replace(
        found[0],
        outputs=torch.cat([p.outputs for p in found], 1),
        covariance=torch.cat(covariances) if covariances else None,
        warnings=tuple(dict.fromkeys(w for p in found for w in p.warnings)),
    )


# ---------------------------------------------------------------------- columns


def _classified(predictive: Predictive, saved: SavedRun) -> dict[str, list[Any]]:
    p, names = predictive.mean().detach(), saved.classes
    columns: dict[str, list[Any]] = {}
    if predictive.likelihood.task == "classification":
        columns["class"] = [names[i] for i in p.argmax(-1).tolist()]
    columns |= {f"p_{name}": p[:, i].tolist() for i, name in enumerate(names)}
    if predictive.likelihood.normalised:
        total, _, epistemic = predictive.entropy()
        columns["entropy"] = total.tolist()
        if epistemic is not None:
            columns["entropy_epistemic"] = epistemic.tolist()
    return columns


def _measured(predictive: Predictive, saved: SavedRun) -> dict[str, list[Any]]:
    tables = {"mean": predictive.mean(), "sd": predictive.variance().sqrt()}
    tables |= {f"q{round(100 * p):02}": q for p, q in zip(LEVELS, predictive.quantile(LEVELS), strict=True)}
    return _by_target({k: t.detach() for k, t in tables.items()}, saved)


def _by_target(tables: dict[str, Tensor], saved: SavedRun) -> dict[str, list[Any]]:
    # Target by target; with one target the columns need no name of it.
    width = next(iter(tables.values())).shape[1]
    if width == 1:
        return {key: t[:, 0].tolist() for key, t in tables.items()}
    names = saved.targets(width)
    return {f"{key}_{name}": t[:, i].tolist() for i, name in enumerate(names) for key, t in tables.items()}


def _truth(y: Tensor, saved: SavedRun) -> dict[str, list[Any]]:
    task = saved.run.record["data"]["task"]
    if task == "classification":
        if is_soft(y):
            return {f"label_{name}": y[:, i].tolist() for i, name in enumerate(saved.classes)}
        return {"label": [saved.classes[i] for i in y.tolist()]}
    if task == "multilabel":
        return {f"label_{name}": y[:, i].long().tolist() for i, name in enumerate(saved.classes)}
    return _by_target({"label": y}, saved)


def _decided(
    predictive: Predictive, saved: SavedRun, costs: str, abstain: float | None, y: Tensor | None
) -> tuple[dict[str, list[Any]], dict[str, float]]:
    task = predictive.likelihood.task
    if task == "regression":
        return _values(predictive, saved, costs, abstain, y)
    matrix = load_costs(costs, saved.classes if task == "classification" else 2)
    found = predictive.decide(matrix, abstain=abstain)
    assert isinstance(found, Decision)
    columns: dict[str, list[Any]] = {"action": found.chosen, "expected_cost": found.loss.tolist()}
    if found.action.ndim == 2:
        pairs = {"action": list(zip(*found.chosen, strict=True)), "expected_cost": found.loss.T.tolist()}
        columns = {f"{k}_{n}": list(v[i]) for i, n in enumerate(saved.classes) for k, v in pairs.items()}
    summary = {"mean_expected": float(found.loss.mean()), "abstained": float(found.abstained.double().mean())}
    if y is not None:
        summary["incurred"] = float(found.incurred(y).mean())
    return columns, summary


def _values(
    predictive: Predictive, saved: SavedRun, loss: str, abstain: float | None, y: Tensor | None
) -> tuple[dict[str, list[Any]], dict[str, float]]:
    name, _, level = loss.partition("=")
    if name not in _POINT_LOSSES:
        raise InputError(
            "squared, absolute or pinball=TAU for measurements (costs are for classes)", loss, "--decide absolute"
        )
    try:
        tau = float(level) if level else None
    except ValueError:
        raise InputError("pinball=TAU with TAU between 0 and 1", loss, "--decide pinball=0.9") from None
    found = predictive.decide(name, tau=tau, abstain=abstain)  # type: ignore[arg-type]
    if abstain is not None and found.value.shape[1] > 1:
        raise InputError(
            "one target where --abstain is given", f"{found.value.shape[1]} targets", "leave out --abstain"
        )
    columns = _by_target({"action": found.value, "expected_cost": found.expected}, saved)
    summary = _means({"mean_expected": found.expected}, saved) | {"abstained": float(found.abstained.double().mean())}
    if y is not None:
        gap = (y - found.value).double()
        gap = (
            gap.square()
            if name == "squared"
            else gap.abs()
            if tau is None
            else torch.maximum(tau * gap, (tau - 1) * gap)
        )
        if abstain is not None:
            gap = gap.masked_fill(found.abstained, abstain)
        summary |= _means({"incurred": gap}, saved)
    return columns, summary


def _means(tables: dict[str, Tensor], saved: SavedRun) -> dict[str, float]:
    # Averages over the rows; of several targets one each, as their units differ.
    return {k: sum(v) / len(v) for k, v in _by_target(tables, saved).items()}


def _held(
    predictive: Predictive, saved: SavedRun, rule: Conformal, rows: Rows, y: Tensor | None
) -> tuple[dict[str, list[Any]], dict[str, float]]:
    found = rule(predictive, rows.groups)
    summary: dict[str, float] = {"level": found.level}
    if y is not None:
        summary["coverage"] = found.coverage(y)
    if isinstance(found, Intervals):
        summary |= _means({"width": (found.high - found.low).clamp(min=0)}, saved)
        return _by_target({"low": found.low, "high": found.high}, saved), summary
    summary["size"] = float(found.size.double().mean())
    if found.member.ndim == 2:
        return {"set": found.to_list(saved.classes), "set_size": found.size.tolist()}, summary
    columns = {f"set_{n}": Sets(found.member[:, i], found.level).to_list("01") for i, n in enumerate(saved.classes)}
    return columns, summary


def _rows(data: NewData, scaling: Standardiser | None) -> Rows:
    x = data.x if scaling is None else scaling.inputs(data.x)
    y = data.y
    if y is not None and scaling is not None and scaling.y_sd.numel():
        if y.shape[1] != scaling.y_sd.numel():
            raise InputError(
                f"{scaling.y_sd.numel()} targets, as in the run", f"{y.shape[1]} in {data.name}", "leave out the labels"
            )
        y = y.double()
    groups = None if data.groups is None else tuple(map(str, data.groups))
    return Rows(x, y, data.name, data.rows, data.names, groups, data.notes)


def listed(labels: Sequence[str], classes: Sequence[str]) -> str:
    """A conformal set as text: labels joined by ``|``; as JSON where a class's name holds that character."""
    import json

    return json.dumps(list(labels)) if any("|" in name for name in classes) else "|".join(labels)
