"""The controls in words: whether something simpler predicts unseen examples as well as the network does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from novacula.reporting.words.metrics import METRICS
from novacula.reporting.words.numbers import MISSING, NO_BREAK, duration, number
from novacula.runs.catalogue.controls import CONTROLS

COLUMNS = ("unseen training examples", "log loss", "gain over the network", "", "time")
"""Headings of `table`."""


def sentences(record: Mapping[str, Any]) -> list[str]:
    """One sentence for each control, and what must be known of it."""
    found: list[str] = []
    for name, said in (record.get("against") or {}).items():
        found += [_sentence(name, said), *(f"{note[0].upper()}{note[1:]}." for note in said.get("notes") or [])]
    return found


def table(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The rows of a table of controls, the network first."""
    against, rows = record.get("against") or {}, list[tuple[str, ...]]()
    for name, said in against.items():
        nll, gain = said.get("nll"), said.get("gain")
        if not rows:
            own = None if nll is None or gain is None else nll + gain
            rows.append(("the network", number(own), "", "", ""))
        scores = [f"{m.label} {m.text(v)}" for m in METRICS if m.headline and m.key != "nll" and (v := said.get(m.key))]
        losses = precise(nll, said.get("stderr")), precise(gain, said.get("gain_stderr"))
        rows.append((name, *losses, ", ".join(scores) or MISSING, duration(said.get("seconds"))))
    return rows


def apart(said: Mapping[str, Any]) -> bool:
    """Whether a control and the network differ by more than their error on unseen rows."""
    gain, error = said.get("gain"), said.get("gain_stderr")
    return gain is not None and error is not None and abs(gain) > error * (said.get("gain_margin") or 2.0)


def precise(value: float | None, error: float | None) -> str:
    """A number with its standard error, to two digits of the error and two to five decimals: ``"0.0123 ± 0.0051"``."""
    if error is None or not math.isfinite(error) or error <= 0:
        return number(value)
    digits = min(5, max(2, 1 - math.floor(math.log10(error))))
    return f"{number(value, digits)}{NO_BREAK}±{NO_BREAK}{number(error, digits)}"


def _sentence(name: str, said: Mapping[str, Any]) -> str:
    row, gain, error = CONTROLS[name], said.get("gain"), said.get("gain_stderr")
    subject = f"{row.words[0].upper()}{row.words[1:]}"
    if gain is None or error is None:
        return f"{subject} and the network could not be compared."
    if not apart(said):
        but = ", but few folds that differ" if abs(gain) > 2 * error else ""
        size = f"a gain of {precise(gain, error)} nats an example{but}"
        return f"{subject} and the network cannot be told apart on unseen rows ({size})."
    size = f"by {precise(abs(gain), error)} nats an example"
    if gain > 0:
        return f"{subject} predict{'' if row.plural else 's'} unseen rows better here, {size}."
    return f"The network predicts unseen rows better than {row.words.rstrip(',')}, {size}."
