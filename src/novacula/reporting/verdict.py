"""The verdict in words: what was learned, how sure that is, and what it assumes.

Every sentence follows from the saved record alone, and says no more than it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from novacula.reporting.posterior import doubt
from novacula.reporting.words import against
from novacula.reporting.words.extents import between, meaning
from novacula.reporting.words.methods import averaged, chose_point, is_point
from novacula.reporting.words.metrics import METRICS, better
from novacula.reporting.words.next_step import extents, next_step, phrase
from novacula.reporting.words.numbers import count, listing, number, significant, with_error
from novacula.runs.catalogue.models import NEGLIGIBLE

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """The report's opening."""

    advice: str  # what to do next, and what to expect, in a sentence or two
    learned: str  # what was learned
    result: str  # how well the model predicts, where a test set was given, and whether a control predicts better
    sure: str  # how sure that is
    assumes: tuple[str, ...]  # what it assumes, one entry each


def verdict(
    record: Record, history: Sequence[Mapping[str, Any]] = (), arrays: Mapping[str, np.ndarray] | None = None
) -> Verdict:
    """Put a run's results in words."""
    learned = [*_invariance(record), *_folds(record), *_noise(record)]
    if not record.get("invariance"):
        learned += _precisions(record)
    return Verdict(
        advice=next_step(record),
        learned=" ".join(learned),
        result=" ".join([*_result(record), *against.sentences(record)]),
        sure=" ".join([*_evidence(record), *_intervals(record), *_draws(record, arrays or {})]),
        assumes=_assumptions(record),
    )


def _invariance(record: Record) -> list[str]:
    values = extents(record)
    if not values:
        return []
    n = count(record["data"].get("n_train") or 0, "training example")
    found = {k: meaning(k, record) for k in values}
    needed = [k for k, v in values.items() if not found[k].negligible(v)]
    absent = [k for k in values if k not in needed]
    if not needed:
        return [
            f"The evidence of the {n} asks for none of {listing([found[k].plural for k in absent])} (extents up to "
            f"{number(_largest(values, absent), 2)}), which does not say that training with them would do harm."
        ]
    hyper, said = record.get("hyper") or {}, listing([phrase(found[k], values[k]) for k in needed])
    moving = [k for k in needed if not (hyper.get(k) or {}).get("converged", True)]
    sentences = [f"The {n} support {said}."]
    if moving and not record.get("converged", True):
        sentences = [f"Training stopped at {said}, which is not yet what the {n} support."]
    if absent:
        words = listing([found[k].plural for k in absent])
        verb = "are" if len(absent) > 1 or found[absent[0]].plural.endswith("s") else "is"
        sentences.append(
            f"{words[0].upper()}{words[1:]} {verb} not asked for (extents up to {number(_largest(values, absent), 2)})."
        )
    return sentences


def _largest(values: Mapping[str, float], names: list[str]) -> float:
    return max(abs(values[k]) for k in names)


def _noise(record: Record) -> list[str]:
    sigma = (record.get("noise") or {}).get("sigma")
    values = [v for v in (sigma if isinstance(sigma, list) else [sigma]) if v is not None]
    if not values:
        return []
    shown = listing([significant(float(v)) for v in values[:4]]) + (" …" if len(values) > 4 else "")
    return [f"The target scatters about the network by {shown} (standard deviation): noise, and what it does not know."]


def _precisions(record: Record) -> list[str]:
    found = {k: float(v) for k, v in ((record.get("prior") or {}).get("precision") or {}).items() if v}
    if not found:
        return []
    low, high = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    if len(found) == 1 or found[low] == found[high]:
        return [f"One prior precision of {significant(found[low])} was learned for all weights."]
    return [
        f"Prior precisions were learned for {len(found)} tensors, from {significant(found[low])} ({low}) to "
        f"{significant(found[high])} ({high})."
    ]


def _result(record: Record) -> list[str]:
    test, point = record.get("test"), record.get("map_test")
    if not test:
        return ["No test data were given, so nothing is known here about new examples beyond the evidence."]
    shown = [m for m in METRICS if m.headline and test.get(m.key) is not None]
    said = listing([f"{m.words} {m.text(test[m.key])}" for m in shown])
    copies = (record.get("settings") or {}).get("copies") or {}
    over = [f"{copies['predict']} transformed copies"] if extents(record) and copies.get("predict") else []
    over += [what] if (what := averaged(record)) else []
    how = f", averaging outputs over {listing(over)}," if over else ""
    sentences = [f"On {count(record['data'].get('n_test') or 0, 'test example')} the model{how} reaches {said}."]
    asked = record.get("posterior")
    if asked and is_point(asked):
        sentences.append("These are one network’s predictions; nothing is averaged.")
    elif not asked and chose_point(record):
        sentences.append("No average over weights promised better, so these are the point estimate’s predictions.")
    elif point and test.get("nll") is not None and point.get("nll") is not None:
        which = {1: "better than", -1: "worse than", 0: "as good as"}[better("nll", test["nll"], point["nll"])]
        sentences.append(f"Its log loss is {which} the plain point estimate’s ({number(point['nll'])}).")
    return sentences


def _draws(record: Record, arrays: Mapping[str, np.ndarray]) -> list[str]:
    return [text] if (text := doubt(record, arrays)) else []


def _evidence(record: Record) -> list[str]:
    found = record.get("evidence") or {}
    value, kind = found.get("value"), found.get("kind") or "estimate"
    if value is None:
        return ["No log evidence was computed."]
    name = f" by {found['estimator']}" if found.get("estimator") else ""
    what = {
        "exact": "exact",
        "estimate": "an estimate, not a bound",
        "lower bound": "a lower bound",
        "upper bound": "an upper bound",
    }.get(kind, kind)
    each = f", {number(found.get('per_example'))} an example" if found.get("per_example") is not None else ""
    spread = " (the ± is the scatter of the estimate, not its bias)" if (found.get("stderr") or 0) > 0 else ""
    return [f"The log evidence is {with_error(value, found.get('stderr'))} nats{each}{name}: {what}{spread}."]


def intervals(record: Record) -> dict[str, str]:
    """The intervals of the learned extents, in words, where they are known."""
    found, said = record.get("hyper") or {}, {}
    for name in extents(record):
        interval = (found.get(name) or {}).get("interval")
        if interval and None not in interval:
            said[name] = between(meaning(name, record), *interval)
    return said


def _folds(record: Record) -> list[str]:
    # What networks say of examples that they have not seen.
    found = record.get("out_of_fold")
    if not found or found.get("nll") is None:
        return []
    shown = [m for m in METRICS if m.headline and m.key != "nll" and found.get(m.key) is not None]
    loss = f"a log loss of {with_error(found['nll'], found.get('stderr'))}"
    said = listing([loss, *(f"{m.words} {m.text(found[m.key])}" for m in shown)])
    sentences = [f"Networks that have not seen them predict the training examples with {said}."]
    if found.get("expected") is not None:
        after = with_error(found["expected"], found.get("expected_stderr"))
        sentences.append(f"Of the network that has seen them all, {after} is expected on new ones: it has more data.")
    for word, sentence in _SPOKEN.items():
        named = {k: v for k, v in (record.get("verdicts") or {}).items() if v.get("verdict") == word}
        known = [k for k, v in named.items() if v.get("gain") is not None]
        if known:
            sizes = [f"{meaning(k, record).label} ({with_error(named[k]['gain'], named[k]['stderr'])})" for k in known]
            sentences.append(sentence.format(listing(sizes)))
    return sentences


_SPOKEN = {
    "needed": "Needed, by what training with it lowers the loss of unseen examples: {}.",
    "harmful": "Harmful: {}.",
    "no effect": "Without effect: {}.",
    "undecided": "Undecided: {}.",
}


def _intervals(record: Record) -> list[str]:
    # How far the extents are known.
    said = [f"{meaning(name, record).label} {text}" for name, text in intervals(record).items()]
    if not said:
        return []
    return [
        f"Nine independent repetitions in ten would find {listing(said[:4])}, as far as these weights tell; another "
        "training may differ by more."
    ]


def _assumptions(record: Record) -> tuple[str, ...]:
    listed = [str(a) for a in (record.get("evidence") or {}).get("assumptions") or []]
    if extents(record):
        listed.append(
            f"extents up to {NEGLIGIBLE} (of a full range of 1) are within the jitter of learning and count as none"
        )
    if (record.get("noise") or {}).get("sigma_standardised") is not None:
        listed.append("the evidence is that of the target in standard units; noise and test metrics are in its own")
    return tuple(dict.fromkeys(a[0].upper() + a[1:].rstrip(".") for a in listed if a))
