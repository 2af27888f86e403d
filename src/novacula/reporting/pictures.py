"""Which figures the saved arrays of a run allow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from novacula.core.errors import NovaculaWarning
from novacula.core.storage.run import Run
from novacula.reporting.figures import (
    bands,
    chains,
    confusion,
    convergence,
    coverage,
    ood,
    reliability,
    residuals,
    risk_coverage,
    uncertainty,
)
from novacula.reporting.figures.base import Picture
from novacula.reporting.words.methods import chose_point, is_point
from novacula.runs.catalogue.models import FIGURES


def one_answer(record: Mapping[str, Any]) -> bool:
    """Whether the predictions are those of the point estimate."""
    if found := record.get("posterior"):
        return is_point(found)
    return chose_point(record)


def chosen(record: Mapping[str, Any]) -> bool:
    """Whether the predictive was chosen among candidates."""
    return not record.get("posterior")


def predictions(run: Run) -> list[Picture]:
    """The figures of the test predictions that the saved arrays allow."""
    mean, y, point = (run.arrays.get(k) for k in ("test/mean", "test/y", "map_test/mean"))
    if mean is None or y is None or not len(mean):
        return []
    task = run.record["data"].get("task")
    if task == "regression":
        return [*_regression(run, mean, y), *_doubt(run, None)]
    if task not in {"multilabel", "classification"}:
        return []
    point = None if one_answer(run.record) else point
    if task == "classification" and y.ndim == 2:  # soft labels: no prediction is right or wrong for certain
        return _doubt(run, None, mean.shape[1])
    if task == "multilabel":
        y = y.reshape(len(y), -1)
        mean = mean.reshape(y.shape)
        point = None if point is None else point.reshape(y.shape)
        hit = ((mean > 0.5) == (y > 0.5)).all(1)
    else:
        hit = mean.argmax(1) == y
    name = "chosen predictive" if chosen(run.record) else "average over weights"
    return present(
        reliability.reliability(mean, y, point, chosen=name),
        None if task == "multilabel" else confusion.confusion(mean, y, run.record["data"].get("classes")),
        risk_coverage.risk_coverage(mean, y, point, chosen=name),
        *_doubt(run, hit, mean.shape[1] if task == "classification" else None),
    )


def sampler(run: Run) -> list[Picture]:
    """The figures of a sampler's own diagnostics."""
    logs, rhat, bulk, tail = (run.arrays.get(f"sampler/{k}") for k in ("log_density", "rhat", "ess_bulk", "ess_tail"))
    return present(
        None if logs is None else chains.trace(logs),
        None if logs is None else chains.rank_plot(logs),
        None if rhat is None else convergence.rhats(rhat),
        None if bulk is None else convergence.sizes(bulk, tail),
    )


def added(run: Run, section: str) -> list[Picture]:
    """The figures of other packages; one that fails is a warning, and the page goes without it."""
    found: list[Picture] = []
    for row in FIGURES.rows():
        try:
            found += present(row.make(run)) if row.section == section else []
        except Exception as error:
            text = f"the page has no figure {row.name!r}, of another package: {type(error).__name__}: {error}"
            warnings.warn(text, NovaculaWarning, stacklevel=2)
    return found


def present(*pictures: Picture | None) -> list[Picture]:
    """The figures that there are."""
    return [p for p in pictures if p is not None]


def _regression(run: Run, mean: np.ndarray, y: np.ndarray) -> list[Picture]:
    sd, names = run.arrays.get("test/sd"), run.record["data"].get("targets") or ()
    quantiles, levels = run.arrays.get("test/quantiles"), run.arrays.get("test/quantile_levels")
    found: list[Picture] = []
    if quantiles is not None and levels is not None:
        found = bands.bands(quantiles, levels, y, mean, run.arrays.get("test/x"), names)
    drawn = residuals.residuals(mean, y, sd, names)
    return [*found, *drawn, *present(coverage.coverage(mean, sd, y) if sd is not None and drawn else None)]


def _doubt(run: Run, hit: np.ndarray | None, classes: int | None = None) -> list[Picture]:
    total, epistemic = run.arrays.get("test/entropy_total"), run.arrays.get("test/entropy_epistemic")
    usual, foreign = run.arrays.get("test/strangeness"), run.arrays.get("ood/strangeness")
    return present(
        None if total is None else uncertainty.uncertainty(total, epistemic, hit, classes),
        None if usual is None or foreign is None else ood.ood(usual, foreign, run.record.get("ood")),
    )
