"""What every table of the catalogue shares: rows by name, those of other packages among them, without torch.

A row holds what is said of a thing, and where the thing itself is. Rows come from this package, from `register`, and
from the entry points of installed packages, in one group for each kind: ``novacula.posterior``,
``novacula.likelihood``, ``novacula.prior``, ``novacula.invariance``. An entry point's name is the row's.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from novacula.core.errors import InputError

Made: TypeAlias = str | Callable[..., Any]
"""A class or function, or where it is: ``"package.module:Name"``."""


class Row(Protocol):
    """What every row has."""

    @property
    def name(self) -> str:
        """What people write."""
        ...

    @property
    def make(self) -> Made:
        """What makes the thing."""
        ...

    @property
    def help(self) -> str | None:
        """A phrase for the help; None for a name that is understood but not listed."""
        ...


R = TypeVar("R", bound=Row)


# Not frozen: what packages register is added to it, and installed packages are looked for once.
@dataclass(eq=False)
class Table(Mapping[str, R], Generic[R]):
    """The rows of one kind, by name."""

    kind: str  # the option that takes their names, without its dashes
    row: type[R]  # their class
    own: tuple[R, ...]  # the rows of this package
    added: dict[str, R] = field(default_factory=dict, init=False)

    def __getitem__(self, name: str) -> R:
        if name in self._own:
            return self._own[name]
        if name not in self.added and name in self._entries:
            self.added[name] = self._loaded(self._entries[name])
        return self.added[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._own, *self._entries, *self.added]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def add(self, row: R) -> None:
        """Add a row; the same name again takes its place, but no name of this package's can be taken."""
        if row.name in self._own:
            raise InputError(f"a name that no --{self.kind} has", repr(row.name), "choose another name")
        self.added[row.name] = row

    def find(self, name: str, also: Iterable[str] = (), extra: str = "") -> R:
        """The row of a name that someone wrote."""
        return self[known(f"--{self.kind}", name, [*also, *self], extra)]

    def listed(self, also: Iterable[str] = (), last: str = " or ") -> str:
        """All names, with their phrases, for the help."""
        words = [*also, *filter(None, (self._phrase(name) for name in self))]
        return ", ".join(words[:-1]) + last + words[-1]

    def origin(self, name: str) -> str | None:
        """The module of a thing that is not this package's, by which a saved run says what it needs."""
        if name in self._own or name not in self:
            return None
        make = self[name].make
        return make.partition(":")[0] if isinstance(make, str) else make.__module__

    @cached_property
    def _own(self) -> dict[str, R]:
        return {row.name: row for row in self.own}

    @cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in entry_points(group=f"novacula.{self.kind}") if e.name not in self._own}

    def _loaded(self, entry: EntryPoint) -> R:
        wanted = f"a {self.row.__name__} named {entry.name!r} at {entry.value}"
        try:
            row = entry.load()
        except Exception as error:
            raise InputError(wanted, f"{type(error).__name__}: {error}", "repair its package") from error
        if not isinstance(row, self.row) or row.name != entry.name:
            raise InputError(wanted, repr(row), "repair its package")
        return row

    def _phrase(self, name: str) -> str | None:
        try:
            phrase = self[name].help
        except InputError:  # the help is for all; what is wrong with this one is said to who asks for it
            return name
        return phrase if phrase is None else f"{name} ({phrase})" if phrase else name


def loaded(make: Made) -> Callable[..., Any]:
    """The class or function that a row names."""
    if not isinstance(make, str):
        return make
    module, _, name = make.partition(":")
    return getattr(import_module(module), name)


def known(option: str, value: str, names: Iterable[str], extra: str = "") -> str:
    """Insist on a name that is known."""
    listed = list(names)
    if value in listed:
        return value
    close = difflib.get_close_matches(value, listed, n=1)
    words = ", ".join(listed) + (f"; {extra}" if extra else "")
    raise InputError(f"{option} among {words}", repr(value), f"{option} {close[0] if close else listed[0]}")
