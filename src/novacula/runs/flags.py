"""Dataclasses whose fields are options of a command: what a person reads about an option stands beside the field, once.

A field made by `flag` is an option. A field whose type is a dataclass is a group, whose options are the command's too.
Help, record and resumption follow from the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, get_origin, get_type_hints

PANELS = ("", "Data", "Model", "Training", "Posterior", "Output")


@dataclass(frozen=True)
class Flag:
    """What is known about an option besides its field's name, type and default."""

    help: str  # its help
    panel: str = ""  # the panel of the help that shows it, among `PANELS`
    metavar: str | None = None  # what stands for its value
    shown: str | None = None  # what the help gives as the default, where that is left to the data or the method
    fixed: bool = True  # whether a resumed run must have it as the run that began
    anchor: Callable[[Any], Any] | None = None  # the same value as seen from any folder, for paths


@dataclass(frozen=True)
class Option:
    """A field that is an option: its flag, type and default; without a default it is an argument."""

    flag: Flag
    type: Any
    default: Any

    @property
    def is_argument(self) -> bool:
        """Whether it is given by its place."""
        return self.default is MISSING

    @property
    def repeats(self) -> bool:
        """Whether it may be given several times."""
        return get_origin(self.type) is tuple


def flag(default: Any, help: str, **about: Any) -> Any:
    """A dataclass's field that is an option; MISSING as the default makes it an argument."""
    return dataclasses.field(default=default, metadata={"flag": Flag(help, **about)})


def options_of(kind: type) -> dict[str, Option]:
    """The options of a dataclass and of its groups, in the order of the help."""
    hints, found = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if "flag" in field.metadata:
            found[field.name] = Option(field.metadata["flag"], hints[field.name], field.default)
        else:
            found |= options_of(hints[field.name])
    return dict(sorted(found.items(), key=lambda item: PANELS.index(item[1].flag.panel)))


def make(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass with its groups, from values by name; names that are no options of it are left out."""
    hints, own = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if "flag" not in field.metadata:
            own[field.name] = make(hints[field.name], values)
        elif field.name in values:
            value = values[field.name]
            own[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**own)


def flat(value: Any) -> dict[str, Any]:
    """The values of all options by name, in the order of the help."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        found |= {field.name: item} if "flag" in field.metadata else flat(item)
    return {name: found[name] for name in options_of(type(value))}


def anchored(value: Any) -> Any:
    """The same with absolute paths, which mean the same from any folder."""
    values = flat(value)
    for name, option in options_of(type(value)).items():
        if option.flag.anchor is not None and values[name] is not None:
            values[name] = option.flag.anchor(values[name])
    return make(type(value), values)
