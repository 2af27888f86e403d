"""The verdict in words, from the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

TOLERABLE = 0.05
"""Nats an example below which a barrier is none."""


def told(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences; the first is the verdict."""
    found = record["measured"]
    said = [_first(record)]
    outside = {k.split("/")[1]: k for k in found if k.startswith("outside/")}
    if outside:
        parts = [f"{_amount(record, found[key])} of {name} inputs" for name, key in outside.items()]
        more = any((found[f"excess/{name}"]["interval"] or (0.0,))[0] > 0 for name in outside)
        end = ": further apart than where they were trained" if more else ""
        said.append(f"They differ {', '.join(parts)}{end}.")
    if "attack/own" in found:
        own, others, noise = (_amount(record, found[f"attack/{k}"]) for k in ("own", "others", "noise"))
        said.append(
            f"Made to mislead one run, inputs mislead it {own} and others {others}, random ones of that size {noise}: "
            f"of what an attack does, {_number(found['attack/share'])} carries over."
        )
    if "similarity" in found:
        about = record["similarity"]
        alike, chance = _number(found["similarity"], 3), abs(about["chance"])
        said.append(
            f"Inside (layer {about['layer']!r}, {about['measure']}) two are alike by {alike}, by chance {chance:.2f}."
        )
    if "barrier/as trained" in found:
        said.append(_barriers(found))
    if record["components"]:
        parts = [f"{name} {_number(part)}" for name, part in record["components"].items()]
        said.append(f"The variance of what they predict, by cause: {'; '.join(parts)}.")
    return (*said, *_settings(record))


def _first(record: Mapping[str, Any]) -> str:
    found = record["measured"]
    pair = found.get("disagreement") or found["difference"]
    where = "" if record["task"] == "regression" else " of the examples"
    verdict = record["matters"]
    head = "How much the path matters is undecided" if verdict == "undecided" else f"The path matters {verdict}"
    return (
        f"{head}: two runs differ {_amount(record, pair)}{where}, a run errs "
        f"{_amount(record, found['error'])}; the one is {_number(found['share'])} of the other."
    )


def _barriers(found: Mapping[str, Any]) -> str:
    parts = []
    for key in (k for k in found if k.startswith("barrier/")):
        low, high = found[key]["interval"] or [found[key]["value"]] * 2
        word = ", none to speak of" if high <= TOLERABLE else ", one that stands" if low > TOLERABLE else ""
        parts.append(f"{key.split('/')[1]} {_number(found[key])}{word}")
    return f"The loss rises on the line between two, in nats an example: {'; '.join(parts)}."


def _settings(record: Mapping[str, Any]) -> list[str]:
    said = []
    if record["gap"] is not None:
        gap = record["gap"]
        end = "that is real" if gap["real"] else f"these runs could show {gap['smallest']:.2g}"
        said.append(f"The other setting’s loss is lower by {_number(gap)} nats an example, of paired runs: {end}.")
    if record["between"] is not None:
        low = (record["between"]["interval"] or (0.0,))[0]
        end = "the setting changes the function" if low > 0 else "which may be nothing"
        said.append(f"Runs of two settings differ {_amount(record, record['between'])} more than runs of one: {end}.")
    return said


def _amount(record: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    # A share of labels in per cent, or a number of standard deviations.
    if record["task"] == "regression":
        return f"by {_number(part)} standard deviations"
    return f"in {_spread(part, 2, 100)} %"


def _number(part: Mapping[str, Any], digits: int = 2) -> str:
    return _spread(part, digits, 1)


def _spread(part: Mapping[str, Any], digits: int, scale: float) -> str:
    def show(value: float) -> str:
        return np.format_float_positional(float(f"{scale * value:.{digits}g}"), trim="-")

    if part["value"] is None:
        return "unknown"
    beside = "" if part["interval"] is None else f" ({' to '.join(map(show, part['interval']))})"
    return (show(part["value"]) + beside).replace("-", "−")
