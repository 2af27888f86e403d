"""How far runs are apart, and the loss on the lines between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from novacula.reporting.figures import base
from novacula.reporting.words.numbers import count, listing, number, significant

_COLOURS = {"as trained": base.SECOND, "matched": base.ACCENT, "repaired": base.INK}


def pairs_apart(record: Mapping[str, Any]) -> base.Picture:
    """How far each pair of runs is apart, on the examples and outside; of the record of `PathDependence`."""
    measured, shares = record["measured"], record["task"] != "regression"
    key = "disagreement" if shares else "difference"
    rows = {"examples": key, **{k.split("/")[1]: k for k in measured if k.startswith("outside/")}}
    scale, unit = (100, "% of labels") if shares else (1, "standard deviations")
    values = {name: scale * _upper(record["pairs"][where]) for name, where in rows.items()}
    told = [f"{significant(scale * measured[where]['value'], 2)} {unit} of {name}" for name, where in rows.items()]
    alt = f"Differences of {count(len(record['runs']), 'run')} in pairs: {listing(told)}."
    with base.drawing(78 + 46 * len(rows), left=86, right=20, top=26) as (figure, axes):
        error, rng = scale * measured["error"]["value"], np.random.default_rng(0)
        axes.axvline(error, color=base.MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
        for at, (name, where) in enumerate(rows.items()):
            own = values[name]
            axes.plot(
                own,
                at + rng.uniform(-0.28, -0.08, len(own)),
                "o",
                color=base.RULE,
                markeredgecolor=base.MUTED,
                markersize=3.5,
            )
            value, interval = measured[where]["value"], measured[where]["interval"]
            if interval is not None:
                axes.plot([scale * v for v in interval], [at + 0.12] * 2, color=base.ACCENT, linewidth=3, alpha=0.5)
            axes.plot([scale * value], [at + 0.12], "o", color=base.ACCENT, markersize=6)
        highest = max([error, *(v.max() for v in values.values() if v.size)])
        axes.set(ylim=(len(rows) - 0.5, -0.55), xlim=(-0.02 * highest, 1.12 * highest or 1.0), xlabel=unit)
        axes.set_yticks(range(len(rows)), list(rows), color=base.INK)
        base.quiet(axes, grid=False)
        axes.annotate("a run’s error", (error, 1), (4, 4), ("data", "axes fraction"), "offset points", color=base.MUTED)
        caption = (
            "Small points are pairs of runs; the large one is the mean of those that share no cause of their "
            "difference, with its 90 % interval over runs. Corrupted inputs have noise of half their standard "
            "deviation; of shuffled ones each feature comes from an example of its own."
        )
        return base.Picture("pairs", "How far two runs are apart", base.svg(figure, "pairs", alt), alt, caption)


def between_runs(record: Mapping[str, Any]) -> base.Picture | None:
    """The loss on the lines between runs; None where no barriers were measured."""
    curves = {name: np.array(rows) for name, rows in record["curves"].items()}
    if not curves:
        return None
    heights = [f"{number(record['measured'][f'barrier/{n}']['value'], 2)} {n}" for n in curves]
    alt = f"Loss on the line between two runs, barriers in nats an example: {listing(heights)}."
    with base.drawing(250, left=54, right=92, top=26) as (figure, axes):
        axes.set(xlabel="from one run to the other", xlim=(0, 1), xticks=[0, 0.5, 1])
        for name, rows in curves.items():
            at = np.linspace(0, 1, rows.shape[1])
            for row in rows:
                axes.plot(at, row, color=_COLOURS[name], linewidth=0.7, alpha=0.25)
            axes.plot(at, rows.mean(0), color=_COLOURS[name])
        top = max(float(rows.max()) for rows in curves.values())
        axes.set_ylim(0, 1.06 * top)
        base.quiet(axes, "loss, nats an example")
        middle = [(float(rows.mean(0).max()), name, _COLOURS[name]) for name, rows in curves.items()]
        base.direct_labels(axes, middle, x=1.0, gap=0.08 * top)
        caption = (
            f"Thin lines are {count(len(next(iter(curves.values()))), 'pair')} of runs, thick ones their mean; names "
            "stand at the height of its top. Matched: the second run was moved by symmetries that leave its function "
            "as it is. Repaired: statistics of normalisation were taken anew on the line."
        )
        return base.Picture("lines", "The loss between two runs", base.svg(figure, "lines", alt), alt, caption)


def _upper(table: Any) -> np.ndarray:
    values = np.array([[np.nan if v is None else v for v in row] for row in table], dtype=float)
    found = values[np.triu_indices(len(values), 1)]
    return found[np.isfinite(found)]
