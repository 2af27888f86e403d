"""What every table of the catalogue shares: rows by name, those of other packages among them, without torch.

A row holds what is said of a thing, and where the thing itself is. Rows come from this package, from `register`, and
from the entry points of installed packages, in one group for each kind: ``novacula.posterior``,
``novacula.likelihood``, ``novacula.prior``, ``novacula.invariance``, ``novacula.evidence``, ``novacula.figure``. An
entry point's name is the row's.
"""

from __future__ import annotations

import difflib
import re
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
    words: tuple[str, ...] = ()  # what may be written instead of a name
    added: dict[str, R] = field(default_factory=dict, init=False)
    failed: dict[str, InputError] = field(default_factory=dict, init=False)  # what is wrong with entry points

    def __getitem__(self, name: str) -> R:
        if name in self._own:
            return self._own[name]
        if name not in self.added and name in self._entries:
            self.added[name] = self._loaded(self._entries[name])
        return self.added[name]

    def rows(self) -> Iterator[R]:
        """The rows, without those of other packages that cannot be loaded; `failed` then says why."""
        for name in self:
            try:
                row = self[name]
            except InputError:
                continue
            yield row

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._own, *self._entries, *self.added]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def add(self, row: R) -> None:
        """Add a row; the same module may add it again, as a notebook does, but no name can be taken from another."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", row.name):
            raise InputError(f"a name of a {self.kind} in small letters, digits, - and _", repr(row.name), "rename it")
        made = None if row.name not in self._entries else self._entries[row.name].module
        made = _home(self.added[row.name]) if row.name in self.added else made
        if row.name in self._taken or made not in (None, _home(row)):
            by = f"{row.name!r}, which {made or 'novacula'} has"
            raise InputError(f"a name that no {self.kind} has", by, "choose another name")
        self.added[row.name] = row

    def find(self, name: str, extra: str = "") -> R:
        """The row of a name that someone wrote."""
        return self[known(f"--{self.kind}", name, self, extra)]

    def listed(self, last: str = " or ") -> str:
        """All names, with their phrases, for the help."""
        words = [*self.words, *filter(None, (self._phrase(name) for name in self))]
        return ", ".join(words[:-1]) + last * (len(words) > 1) + words[-1]

    def origin(self, name: str) -> str | None:
        """The module of a thing that is not this package's, by which a saved run says what it needs."""
        if name in self._own or name not in self:
            return None
        return _home(self[name])

    @cached_property
    def _own(self) -> dict[str, R]:
        return {row.name: row for row in self.own}

    @cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for e in entry_points(group=f"novacula.{self.kind}"):
            if e.name in self._taken or found.setdefault(e.name, e).value != e.value:
                by = f"{e.name!r} again at {e.value}"
                self.failed[e.value] = InputError(
                    f"one {self.kind} of each name", by, "rename one, or remove a package"
                )
        return found

    @cached_property
    def _taken(self) -> frozenset[str]:
        return frozenset([*self._own, *self.words])

    def _loaded(self, entry: EntryPoint) -> R:
        if entry.name in self.failed:
            raise self.failed[entry.name]
        wanted = f"a {self.row.__name__} named {entry.name!r} at {entry.value}"
        try:
            row = entry.load()
        except (Exception, SystemExit) as error:  # a module that exits must not take the command with it
            got, cause = f"{type(error).__name__}: {error}", error
        else:
            if isinstance(row, self.row) and row.name == entry.name:
                return row
            got, cause = repr(row), None
        self.failed[entry.name] = InputError(wanted, got, "repair its package")
        raise self.failed[entry.name] from cause

    def _phrase(self, name: str) -> str | None:
        try:
            phrase = self[name].help
        except InputError:  # the help is for all; what is wrong with this one is said to who asks for it
            return name
        return phrase if phrase is None else f"{name} ({phrase})" if phrase else name


def _home(row: Row) -> str:
    return row.make.partition(":")[0] if isinstance(row.make, str) else row.make.__module__


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
