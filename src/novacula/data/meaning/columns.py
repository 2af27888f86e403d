"""Named columns, and how they become inputs and labels: of a run's training data, or like those."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.meaning.doubts import warn_of_doubts
from novacula.data.meaning.known import DAYS, Columns, unit_of, words_of
from novacula.data.raw import Choice, Like, New, Raw, Source, Split, Table

Known = np.ma.MaskedArray
_UNNAMED = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
_MANY = 20  # rows from which on whole numbers without gaps are no accident
_IDENTIFIER = re.compile(r"(^|[_ .-])(id|index|idx|nr|no|row|key|uuid)$", re.IGNORECASE)
TARGET_NAMES = ("y", "target", "targets", "label", "labels", "class", "output", "outcome", "response")


@dataclass(frozen=True, eq=False)
class RawColumns:
    """A table whose columns are checked when they are asked for: what is not used need not be in order."""

    where: str  # the source, for people
    names: tuple[str, ...]  # the columns' names
    n: int  # the number of rows
    read: Callable[[str], np.ma.MaskedArray]  # A column by its name, as `known` makes them, shape ``(N,)``
    left_out: tuple[str, ...] = ()  # columns that are neither inputs nor targets
    said: tuple[str, ...] = ()  # what the reader of a file decided, in sentences

    def training(self, target: Choice, split: Split) -> Source:
        """All columns, of which one or more are the target, without the row numbers that an export leaves."""
        targets = _choose_target(list(self.names), target, self.where)
        if lost := [t for t in targets if t in self.left_out]:
            raise InputError("a target that is not dropped", repr(lost[0]), "leave it out of the columns to drop")
        columns = {name: self.read(name) for name in self.names if name not in self.left_out}
        kept = without_row_numbers(columns, targets)
        warn_of_doubts(kept, targets)
        said = [*self.said]
        for name, cells in ((n, c) for n, c in columns.items() if n not in kept):
            said.append(f"column {name!r} left out: it {'names' if cells.dtype.kind == 'U' else 'counts'} the rows")
        said += [f"column {name!r} left out, as asked" for name in self.left_out]
        rows, lost = _with_targets(kept, targets, self.where)
        said += lost
        inputs = {n: c if rows is None else c[rows] for n, c in kept.items() if n not in targets}
        empty = [n for n, c in inputs.items() if np.ma.getmaskarray(c).all()]
        said += [f"column {name!r} left out: all its values are missing" for name in empty]
        inputs = {n: c for n, c in inputs.items() if n not in empty}
        dates = [repr(n) for n, c in inputs.items() if unit_of(c) == DAYS]
        said += [f"dates in {listed(dates, 6)} as {DAYS}: test rows drawn at random lie between those learned "
                 "from, and do not tell how well later days are foreseen"] if dates else []  # fmt: skip
        units = [f"{n} ({unit_of(c)})" for n, c in kept.items() if unit_of(c) not in {"", DAYS}]
        said += [f"numbers with a unit: {listed(units, 6)}"] if units else []
        if not inputs:
            got = f"only the target {targets} in {self.where}"
            raise InputError("at least one input column", got, "check the delimiter and header")
        y = _target(kept, targets, rows, self.where)
        return Source(Table(Columns(inputs, self.where), y), targets=tuple(targets), said=tuple(said), rows=rows)

    def new(self, like: Like, *, labels: bool, groups: str | None) -> New:
        """The run's columns, in its order; its targets where they are there and whole."""
        if len(like.shape) != 1:
            got = f"the table {self.where}"
            raise InputError(f"inputs of shape {like.shape}, as in the run", got, "pass data of the kind")
        names, targets, own = _inputs_of(self, like)
        for name in names:
            if name not in self.names:
                raise _unknown(self, name, own)
        table = Columns({o: self.read(n) for o, n in zip(own, names, strict=True)}, self.where)
        if groups is not None and groups not in self.names:
            raise _unknown(self, groups)
        group = None if groups is None else self.read(groups).tolist()
        y, note = _labels_of(self, targets) if labels else (None, "")
        alone = [n for n in self.names if n not in (*names, *targets, groups)]
        notes = [note] if note else []
        if alone:
            shown = listed(map(repr, alone), 6)
            notes.append(f"column{'s' * (len(alone) > 1)} {shown} left alone: the run has none of that name")
        return New(table, y, group, notes=tuple(notes))


def asked(raw: Raw, categorical: Sequence[str], drop: Sequence[str]) -> Raw:
    """A source without the columns to drop, and with those of categories as text."""
    if not categorical and not drop:
        return raw
    if not isinstance(raw, RawColumns):
        raise InputError("a table with columns to drop or to take for categories", "a source without", "leave it out")
    for name in (*categorical, *drop):
        if name not in raw.names:
            raise _unknown(raw, name, hint="name {0!r}, as the header has it")

    def read(name: str) -> np.ma.MaskedArray:
        values = raw.read(name)
        return words_of(values) if name in categorical else values

    return replace(raw, left_out=tuple(drop), read=read)


def no_groups(groups: str, where: str) -> InputError:
    """What to say where groups are asked of a source that has none."""
    return InputError(f"a table with a column {groups!r} of groups", where, "leave out the groups")


def listed(names: Any, most: int = 12) -> str:
    """The first names, and how many there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


# ---------------------------------------------------------------------- training data


def without_row_numbers(columns: Mapping[str, Known], targets: Sequence[str]) -> Mapping[str, Known]:
    """Leave out unnamed columns that count or name the rows, and warn of named ones that look like it.

    A frame's index ends up in its export (as a column without a name, ``Unnamed: 0`` or ``__index_level_0__``). Where
    rows were sorted it gives the answer away, and new rows have other numbers or names.

    Args:
        columns: Values ``(N,)`` by name.
        targets: Names of the targets, which are left alone.

    Returns:
        The columns that are left.

    Warns:
        NovaculaWarning: If a column was left out, or one of at least 20 rows looks like an identifier.
    """
    kept = dict(columns)
    for name, cells in columns.items():
        values = np.ma.getdata(cells)
        if np.ma.is_masked(cells) or len(values) < 3 or name in targets or len(kept) <= len(targets) + 1:
            continue
        if values.dtype.kind == "U" and _UNNAMED.fullmatch(name) and len(np.unique(values)) == len(values):
            kept.pop(name)
            warnings.warn(f"the column {name!r} names the rows: it is left out", NovaculaWarning, 3)
        if values.dtype.kind not in "iuf":
            continue
        ordered = np.sort(values)
        if not np.array_equal(ordered, ordered[0] + np.arange(len(values))):
            continue
        counts = np.array_equal(ordered, values) and ordered[0] in {0, 1}
        if _UNNAMED.fullmatch(name) and counts:
            kept.pop(name)
            warnings.warn(
                f"the column {name!r} counts the rows, as an exported index does: it is left out", NovaculaWarning, 3
            )
        elif len(values) >= _MANY and (counts or _IDENTIFIER.search(name)):
            said = (
                f"the column {name!r} numbers the rows: drop it if it is an identifier, which tells nothing of new rows"
            )
            warnings.warn(said, NovaculaWarning, 3)
    return kept


def _with_targets(
    columns: Mapping[str, Known], targets: Sequence[str], where: str
) -> tuple[np.ndarray | None, list[str]]:
    # The rows that have all targets, where some have not; and what to say of the others.
    lost = np.any([np.ma.getmaskarray(columns[t]) for t in targets], axis=0)
    if not lost.any():
        return None, []
    if lost.all():
        raise InputError("rows with a target", f"none in {where}: {listed(targets)} is missing", "choose another")
    return np.flatnonzero(~lost), [f"{int(lost.sum()):,} of {len(lost):,} rows left out: they have no target"]


def _target(columns: Mapping[str, Known], targets: Sequence[str], rows: np.ndarray | None, where: str) -> np.ndarray:
    found = [np.ma.getdata(columns[t]) for t in targets]
    found = found if rows is None else [y[rows] for y in found]
    if len(found) == 1:
        return _whole_again(found[0], rows)
    for name, y in zip(targets, found, strict=True):
        if y.dtype.kind == "U":
            got = f"text in column {name!r} of {where}"
            raise InputError("numbers in several target columns", got, "choose one target")
    return np.stack(found, axis=1)


def _whole_again(y: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    # Whole numbers that became floats only because some of them are missing, as in a frame.
    if rows is None or y.dtype.kind != "f" or not bool((y == np.round(y)).all()) or bool((np.abs(y) >= 2**53).any()):
        return y
    return y.astype(np.int64)


def _choose_target(names: list[str], target: Choice, where: str) -> list[str]:
    """The names of the target columns."""
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    if len(names) == 1:
        got = f"one column, {names[0]!r:.60}, in {where}"
        raise InputError("columns with commas, semicolons, tabs or | between them", got, "write it so")
    if target is None:
        usual = [n for n in names if n.lower() in TARGET_NAMES]
        if len(usual) == 1:
            return usual
        found = f"{where} with columns {listed}" + (f", of which {usual} are usual names" if usual else "")
        hint = f"target={names[-1]!r}, for instance (of a command: --target {names[-1]!r})"
        raise InputError("the name of the target column", found, hint)
    chosen: list[str] = []
    for item in [target] if isinstance(target, (str, int)) else target:
        if isinstance(item, str) and item in names:
            chosen.append(item)
            continue
        try:
            chosen.append(names[int(item)])
        except ValueError:
            close = difflib.get_close_matches(str(item), names, n=3, cutoff=0.5)
            folded = [n for n in names if n.lower() == str(item).lower()]
            hint = f"target={(folded or close)[0]!r}" if folded or close else f"one of {listed}"
            raise InputError(f"a target among the columns of {where}", repr(item), hint) from None
        except IndexError:
            raise InputError(f"a column index below {len(names)}", f"{item} for {where}", f"one of {listed}") from None
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError("one target column or several different ones", f"{chosen}", f"one of {listed}")
    return chosen


# ---------------------------------------------------------------------- data to predict


def _labels_of(table: RawColumns, targets: tuple[str, ...]) -> tuple[np.ndarray | None, str]:
    if not targets or not set(targets) <= set(table.names):
        return None, ""
    columns = [table.read(t) for t in targets]
    if missing := max(np.ma.count_masked(c) for c in columns):
        some = f"{missing:,} of {table.n:,} labels are missing in {table.where}: there are no scores"
        return None, some if missing < table.n else ""
    found = [np.ma.getdata(c) for c in columns]
    return found[0] if len(found) == 1 else np.stack(found, axis=1), ""


def _inputs_of(table: RawColumns, like: Like) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    # The names of the file's columns that are the run's inputs, those that are its targets, and the run's own names.
    own = like.columns if like.coding is None else like.coding.sources
    width, names = len(own) or like.shape[0], table.names
    if not own or _numbered(own, like.targets):
        # Nothing but the position tells the columns apart.
        if not _numbered(names, ()):
            raise InputError(
                f"{width} columns without names, as in the run", f"{table.where}, which has a header", "drop it"
            )
        if len(names) == width + len(like.targets) and own:
            return own, like.targets, own
        if len(names) != width:
            raise InputError(
                f"{width} input columns, as in the run", f"{len(names)} in {table.where}", "pass the same ones"
            )
        return names, (), own or names
    if _numbered(names, ()) and not set(own) & set(names):
        raise InputError(f"a header with the run's columns {listed(own)}", f"none in {table.where}", "add one")
    return own, like.targets, own


def _numbered(names: Any, targets: Any) -> bool:
    return sorted([*names, *targets], key=lambda n: (len(n), n)) == [str(i) for i in range(len(names) + len(targets))]


def _unknown(table: RawColumns, name: str, inputs: tuple[str, ...] = (), hint: str = "rename {0!r}") -> InputError:
    close = difflib.get_close_matches(name, [n for n in table.names if n not in inputs], n=1)
    wanted = f" (the run's inputs are {listed(inputs)})" if inputs else ""
    hint = hint.format(*close) if close else "add it" if inputs else f"name {table.names[0]!r}, for instance"
    return InputError(f"a column {name!r}{wanted}", f"{table.where} with columns {listed(table.names)}", hint)
