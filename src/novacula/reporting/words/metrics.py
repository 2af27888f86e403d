"""The metrics that a run may hold, in the order in which people read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from novacula.diagnostics.scores import wilson
from novacula.reporting.words.numbers import number, significant


@dataclass(frozen=True)
class Metric:
    """One metric."""

    key: str  # its key in ``run.json``
    label: str  # its heading
    words: str  # how a sentence names it
    higher: bool | None  # whether more is better; None where neither is
    explains: str  # what it measures
    absolute: bool = False  # whether its size depends on the target's unit, so that significant digits are shown
    headline: bool = True  # whether the verdict names it

    def text(self, value: float | None) -> str:
        """The value as people read it."""
        return significant(value, 4) if self.absolute else number(value)


METRICS = (
    Metric("accuracy", "Accuracy", "an accuracy of", True, "share of right answers"),
    Metric("rmse", "RMSE", "a root mean square error of", False, "root mean square error, in the target’s unit", True),
    Metric("nll", "Log loss", "a log loss of", False, "negative log-likelihood per example, in nats"),
    Metric(
        "ece",
        "Calibration error",
        "a calibration error of",
        False,
        "mean gap between confidence and accuracy, in 15 bins",
    ),
    Metric(
        "ece_adaptive",
        "Calibration error, equal counts",
        "",
        False,
        "the same over bins of equal counts",
        headline=False,
    ),
    Metric(
        "crps",
        "CRPS",
        "a CRPS of",
        False,
        "mean distance of the predictive distribution from the truth, in the target’s unit",
        True,
    ),
    Metric("brier", "Brier score", "a Brier score of", False, "mean squared error of the probabilities"),
    Metric(
        "aurc",
        "Area under risk–coverage",
        "",
        False,
        "share of errors among the surest predictions, averaged over how many are kept",
        headline=False,
    ),
    Metric(
        "coverage_90", "Coverage at 90\u00a0%", "", None, "share of values in the 90\u00a0% interval", headline=False
    ),
    Metric("loss", "Loss", "a loss of", False, "the loss that was learned with", True),
)
_KNOWN = {m.key: m for m in METRICS}


@dataclass(frozen=True)
class Row:
    """A row of the metrics table."""

    label: str  # the metric
    explains: str  # what it measures and which way is better
    chosen: str  # the value of the predictive that was chosen
    point: str  # the point estimate's value
    winner: str  # ``"chosen"``, ``"point"``, or empty for a tie or where one is missing


def rows(test: Mapping[str, Any] | None, point: Mapping[str, Any] | None, *, n: int = 0) -> list[Row]:
    """The metrics table."""
    test, point = test or {}, point or {}
    keys = [m.key for m in METRICS if m.key in test or m.key in point]
    keys += sorted(k for k in {*test, *point} if k not in _KNOWN)
    found: list[Row] = []
    for key in keys:
        metric = _KNOWN.get(key) or Metric(key, key.replace("_", " "), key, False, "", True)
        a, b = test.get(key), point.get(key)
        if not all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in (a, b)):
            continue
        sign = better(key, a, b) if key in _KNOWN and a is not None and b is not None else 0
        direction = {True: "; higher is better", False: "; lower is better", None: ""}[metric.higher]
        direction = f"{metric.explains}{direction}" if metric.explains else ""
        if key == "accuracy" and a is not None and n > 0:
            low, high = wilson(a * n, n)
            direction += f"; 95\u00a0% interval {number(float(low))} to {number(float(high))}"
        winner = {1: "chosen", -1: "point", 0: ""}[sign]
        found.append(Row(metric.label, direction, metric.text(a), metric.text(b), winner))
    return found


def better(key: str, a: float, b: float) -> int:
    """Compare two values of a metric as far as they are shown."""
    metric = _KNOWN[key]
    if metric.higher is None or metric.text(a) == metric.text(b):
        return 0
    return 1 if (a > b) == metric.higher else -1
