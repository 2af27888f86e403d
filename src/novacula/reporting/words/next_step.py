"""What to do next, in a sentence or two: the first that a reader of a run is told.

It rests on what networks say of examples that they have not seen, where folds were trained; without them the evidence
proposes, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from novacula.reporting.words.against import apart
from novacula.reporting.words.extents import in_words, meaning
from novacula.reporting.words.metrics import METRICS
from novacula.reporting.words.numbers import listing, with_error
from novacula.runs.catalogue.controls import CONTROLS
from novacula.runs.catalogue.models import Extent

Record = Mapping[str, Any]


def next_step(record: Record) -> str:
    """What to do with what was learned, and what to expect of it."""
    return " ".join([*_moving(record), *_control(record), *_transformations(record), *_expected(record)])


def phrase(entry: Extent, value: float) -> str:
    """An extent as an object: ``"rotations of up to ±15°"``."""
    if entry.whole is not None and abs(value) >= entry.whole:
        return f"{entry.everything} ({in_words(entry, value)})"
    if entry.unit == "factor":
        return f"{entry.plural} by {in_words(entry, value)}"
    if entry.unit == "degrees":
        return f"{entry.plural} of up to {in_words(entry, value)}"
    return f"{entry.plural} ({in_words(entry, value)})"


def extents(record: Record) -> dict[str, float]:
    """The learned extents that are extents, by name."""
    values = (record.get("invariance") or {}).get("eta") or {}
    return {k: float(v) for k, v in values.items() if v is not None and meaning(k, record).shown}


def _moving(record: Record) -> list[str]:
    # What a reader must know before all else.
    if record.get("converged", True):
        return []
    found = record.get("hyper") or {}
    moving = [k for k, entry in found.items() if not entry.get("converged", True)]
    rest = f": {listing(moving[:4])} would still move" if moving else ""
    return [f"The run ended before it had converged{rest}; more time (--time, --epochs) may change what follows."]


def _control(record: Record) -> list[str]:
    # A control that is better beyond doubt is the first advice.
    better = {k: said["gain"] for k, said in (record.get("against") or {}).items() if apart(said) and said["gain"] > 0}
    if not better:
        return []
    best = CONTROLS[max(better, key=better.__getitem__)]
    return [f"Prefer {best.words.rstrip(',')}: better on unseen rows here."]


def _transformations(record: Record) -> list[str]:
    values, verdicts = extents(record), record.get("verdicts") or {}
    if not values and not verdicts:
        return []
    kept = [phrase(meaning(k, record), v) for k, v in values.items() if not meaning(k, record).negligible(v)]
    if not verdicts:
        proposed = listing(kept) if kept else "no transformation"
        return [f"The evidence proposes {proposed}, which no network has checked on unseen examples (--folds 3 does)."]
    named = {
        word: [k for k, said in verdicts.items() if said.get("verdict") == word]
        for word in ("needed", "harmful", "undecided")
    }
    found = []
    if kept:
        gains = [with_error(verdicts[k].get("gain"), verdicts[k].get("stderr")) for k in named["needed"]]
        why = (
            f": without them the loss on unseen examples rises by {gains[0]} nats"
            if len(gains) == len(kept) == 1
            else ""
        )
        found.append(f"Train with {listing(kept)}{why}.")
    else:
        found.append("Train on the examples as they are: no transformation that was tried is shown to be needed.")
    if named["harmful"]:
        found.append(f"Leave out {listing([meaning(k, record).plural for k in named['harmful']])}: they do harm.")
    return found


def _expected(record: Record) -> list[str]:
    # What new examples will show, by examples that were not seen.
    found = record.get("out_of_fold") or {}
    shown = [m for m in METRICS if m.key in {"accuracy", "rmse"} and found.get(m.key) is not None]
    if not shown or found.get("nll") is None:
        return []
    known = found.get("expected") is not None
    loss = with_error(*(found.get(k) for k in (("expected", "expected_stderr") if known else ("nll", "stderr"))))
    said = listing([f"{m.words} {m.text(found[m.key])}" for m in shown])
    return [f"On new examples expect {said} and a log loss of {loss}."]
