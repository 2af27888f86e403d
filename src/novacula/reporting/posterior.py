"""The posterior as the page shows it: what predictions average over, how it came about, and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from novacula.reporting.provenance import setting
from novacula.reporting.words.diagnosis import Row, facts, judgement, rows
from novacula.reporting.words.methods import averaged, is_point, kind_of
from novacula.reporting.words.numbers import count, duration


@dataclass(frozen=True)
class View:
    """The posterior as the page shows it."""

    sentences: str  # what predictions average over, and how it came about
    judgement: str  # what the diagnostics say, in words; empty where there are none
    rows: list[Row]  # the table of diagnostics
    settings: list[tuple[str, str]]  # the method's settings, as pairs of name and value
    warnings: list[str]  # what the method warns of

    @property
    def bad(self) -> bool:
        """Whether a diagnostic is so far from what one wants that the draws cannot be relied on."""
        return any(row.bad for row in self.rows)


def view(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> View | None:
    """The posterior as the page shows it."""
    found = record.get("posterior")
    if not found:
        return None
    known = facts(found, arrays)
    return View(
        sentences=_sentences(record, found),
        judgement=judgement(found, known),
        rows=rows(found, known),
        settings=[(k.replace("_", " "), setting(v)) for k, v in (found.get("settings") or {}).items()],
        warnings=warnings(record),
    )


def warnings(record: Mapping[str, Any]) -> list[str]:
    """What the method that made the posterior warns of."""
    return list(dict.fromkeys(str(w) for w in (record.get("posterior") or {}).get("warnings") or []))


def doubt(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """The sentences for "how sure": whether the chains agree."""
    found = record.get("posterior")
    return judgement(found, facts(found, arrays)) if found else ""


def _sentences(record: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    kind = kind_of(found)
    if is_point(found):
        sentences = [f"Nothing is averaged: predictions are those of {kind.what}."]
    else:
        sentences = [
            f"Predictions average over {averaged(record) or 'weights'}{f': {kind.what}' if kind.what else ''}."
        ]
    done: list[str] = []
    if steps := found.get("steps"):
        several = int(found.get("chains") or 1) > 1 or (kind.noun == "network" and not is_point(found))
        each = f"each {kind.noun} took" if several else "the run took"
        done.append(f"{each} {count(steps, 'step')}")
    if draws := found.get("draws"):
        stored = found.get("stored") or draws
        some = f", of which predictions use {stored:,}" if stored < draws else ""
        done.append(f"{count(draws, 'draw')} {'was' if draws == 1 else 'were'} kept{some}")
    if seconds := found.get("seconds"):
        done.append(f"all of it took {duration(seconds)}")
    sentences += [f"{text[0].upper()}{text[1:]}." for text in done]
    return " ".join(sentences)
