"""The controls that a run may be held against, by name, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from novacula.core.errors import InputError
from novacula.runs.catalogue.row import known


@dataclass(frozen=True)
class ControlRow:
    """What is said of a control, and what it is made of."""

    make: str  # where its learner is, or a network's augmentation; empty for neither
    help: str  # a phrase for the help
    words: str  # how a sentence names it
    plural: bool = False  # whether the words are plural
    network: bool = False  # whether it is the network itself, trained in another way


_MADE = "novacula.study.controls."
_PLAIN = "the same network, trained plainly,"
_AUGMENTED = "the same network, trained plainly with random augmentation,"
_POLICY = "novacula.invariances:Trivial"
CONTROLS = {
    "trees": ControlRow(f"{_MADE}trees:trees", "boosted trees", "boosted trees", plural=True),
    "gp": ControlRow(f"{_MADE}process:process", "a Gaussian process, for measurements", "a Gaussian process"),
    "none": ControlRow("", "the network, trained plainly", _PLAIN, network=True),
    "trivial": ControlRow(_POLICY, "the same with random augmentation, for images", _AUGMENTED, network=True),
}


def read_controls(text: str | None) -> tuple[str, ...]:
    """The names in a text that joins them by commas; none for None."""
    names = () if text is None else tuple(word.strip().lower() for word in text.split(","))
    for name in names:
        known("--against", name, CONTROLS)
    if len(set(names)) < len(names):
        raise InputError("each control once in --against", repr(text), "leave out the repetition")
    return names
