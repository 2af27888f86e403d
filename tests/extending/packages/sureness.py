"""A figure of the report: how sure the predictions are, by the arrays that a run has saved."""

from __future__ import annotations

import numpy as np

from novacula.core.storage.run import Run
from novacula.reporting.figures.base import ACCENT, Picture, canvas, panel, quiet, style, svg
from novacula.runs.catalogue import FigureRow


def sureness(run: Run) -> Picture | None:
    """A histogram of the greatest probability; None where the test data have no classes."""
    mean = run.arrays.get("test/mean")
    if mean is None or run.record["data"].get("task") != "classification":
        return None
    greatest = mean.max(1)
    alt = f"How many of {len(greatest)} predictions are how sure: on average {greatest.mean():.2f}."
    with style():
        figure = canvas(232)
        axes = panel(figure)
        axes.hist(greatest, bins=list(np.linspace(0, 1, 11)), color=ACCENT)
        axes.set(xlim=(0, 1), xlabel="greatest probability")
        quiet(axes, "test examples")
        return Picture("sureness", "Sureness", svg(figure, "sureness", alt), alt, "How sure each prediction is.")


ROW = FigureRow("sureness", sureness, help="how sure predictions are")
