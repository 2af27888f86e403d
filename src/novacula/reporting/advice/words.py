"""What `novacula augment` has found, in words: a sentence that says what to do, and one for each transformation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from novacula.reporting.words.extents import in_words, meaning
from novacula.reporting.words.numbers import count, listing, number

POLICY = "TrivialAugment"
_SURE = 2.0


@dataclass(frozen=True)
class Row:
    """A transformation as a table shows it."""

    name: str  # its name
    label: str  # its name in words, with the extent
    verdict: str
    sentence: str  # what training with it does
    gain: str  # the gain with its error
    interval: str
    others: str  # what was found at its other extents


def spoken(name: str, extent: float) -> str:
    """A transformation with its extent: ``"rotation ±15°"``."""
    entry = meaning("amplitude" if name == "deformation" else name)
    return f"{entry.label} {in_words(entry, extent)}"


def rows(record: Mapping[str, Any]) -> list[Row]:
    """A row a transformation: needed first, by gain, then harmful, undecided, without effect."""
    order = ("needed", "harmful", "undecided", "no effect")
    found = sorted(
        record["verdicts"].items(), key=lambda item: (order.index(item[1]["verdict"]), -abs(item[1]["gain"]))
    )
    return [_row(name, line, record) for name, line in found]


def headline(record: Mapping[str, Any]) -> str:
    """What to do next, in a sentence."""
    chosen, none = record["recommended"], record["comparison"]["none"]
    policy, more = record["against"].get("trivial"), ""
    if policy and policy["stderr"] is not None and policy["value"] < -_SURE * policy["stderr"]:
        more = f" The policy {POLICY} does better{' still' if chosen else ''}, by {number(-policy['value'])}: try it."
    if not chosen:
        if "undecided" not in [line["verdict"] for line in record["verdicts"].values()]:
            return f"Train on the images as they are: no transformation that was tried is needed.{more}"
        why = "more time or more images would tell" if not record["converged"] else "more images would tell"
        return f"Train on the images as they are: nothing is shown to be needed, and {why} what is undecided.{more}"
    gain = record["against"]["none"]
    listed = listing([spoken(name, extent) for name, extent in chosen.items()])
    loss = f"from {number(none['nll'])} to {number(none['nll'] - gain['value'])} (± {number(gain['stderr'])})"
    return f"Train with {listed}: it lowers the loss on unseen images {loss}.{more}"


def comparison(record: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Ways to train: name, loss, accuracy, what the recommended one gains over it."""
    chosen = record["recommended"]
    names = {"none": "no augmentation", "trivial": f"{POLICY}-like policy"}
    listed: list[tuple[str, str, str, str]] = []
    for key, label in {**names, **({"recommended": "recommended"} if chosen else {})}.items():
        if (score := record["comparison"].get(key)) is not None:
            gain = record["against"].get(key)
            listed.append((label, _pm(score["nll"], score["stderr"]), _share(score), _pm_gain(gain)))
    return listed


def caveats(record: Mapping[str, Any]) -> list[str]:
    """What limits the verdicts."""
    data, plan, found = record["data"], record["plan"], list[str]()
    if data["n"] < data["given"]:
        found.append(f"Of {data['given']:,} images {data['n']:,} were used, drawn at random.")
    if not record["converged"]:
        found.append("The time cut the comparison short; with more of it, more would be decided.")
    if plan["passes"] < 10:
        passes = number(plan["passes"], 1)
        found.append(
            f"Networks passed over their data {passes} times, which is little: strong transformations need more."
        )
    if record["comparison"]["none"]["nll"] > 0.9 * data["chance"]:
        found.append("Without augmentation the network predicts hardly better than chance: the verdicts say little.")
    return found


def _row(name: str, line: Mapping[str, Any], record: Mapping[str, Any]) -> Row:
    verdict, gain = line["verdict"], line["gain"]
    none = record["comparison"]["none"]["nll"]
    low, high = line["interval"]
    change = f"the loss on unseen images from {number(none)} to {number(none - gain)} (± {number(line['stderr'])})"
    slight = number(record["thresholds"]["slight"])
    sentence = {
        "needed": f"needed; training with it lowers {change}",
        "harmful": f"harmful; training with it raises {change}",
        "no effect": f"no effect; training with it changes the loss by less than {slight}",
        "undecided": f"undecided; training with it gains between {number(low)} and {number(high)}",
    }[verdict]
    if any(s["unsettled"] for s in line["strengths"] if s["extent"] == line["extent"]):
        sentence = "undecided; it harms with so few steps, which longer training has not confirmed"
    label = spoken(name, line["extent"])
    others = [
        f"{in_words(meaning('amplitude' if name == 'deformation' else name), s['extent'])}: {s['verdict']} "
        f"({_pm(s['gain'], s['stderr'])})"
        for s in line["strengths"]
        if s["extent"] != line["extent"]
    ]
    label = label[0].upper() + label[1:]
    shown = f"{number(low)} to {number(high)}"
    return Row(name, label, verdict, f"{label}: {sentence}", _pm(gain, line["stderr"]), shown, "; ".join(others))


def _pm(value: float | None, error: float | None) -> str:
    return f"{number(value)} ± {number(error)}"


def _pm_gain(gain: Mapping[str, Any] | None) -> str:
    return "" if gain is None else _pm(gain["value"], gain["stderr"])


def _share(score: Mapping[str, Any]) -> str:
    return f"{100 * score['accuracy']:.1f}\u00a0% ± {100 * (score['accuracy_stderr'] or 0):.1f}"


def subtitle(record: Mapping[str, Any]) -> str:
    """What was compared, in a line."""
    data, plan = record["data"], record["plan"]
    size = " × ".join(map(str, data["input_shape"]))
    networks = count(plan["networks"], "network")
    return f"{count(data['n'], 'image')} of {size}, {data['classes']} classes · {networks} of {plan['steps']:,} steps"
