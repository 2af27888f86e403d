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
from novacula.data.raw import Choice, Like, New, Raw, Source, Table

MAX_CATEGORIES = 20
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
    read: Callable[[str], np.ndarray]  # A column by its name: numbers or strings, shape ``(N,)``
    missing: Callable[[str], int]  # how many of a column's entries are missing
    left_out: tuple[str, ...] = ()  # columns that are neither inputs nor targets

    def training(self, target: Choice, split: int | None) -> Source:
        """All columns, of which one or more are the target, without the row numbers that an export leaves."""
        targets = _choose_target(list(self.names), target, self.where)
        if lost := [t for t in targets if t in self.left_out]:
            raise InputError("a target that is not dropped", repr(lost[0]), "leave it out of the columns to drop")
        columns = {name: self.read(name) for name in self.names if name not in self.left_out}
        return _chosen(without_row_numbers(columns, targets), targets, self.where)

    def new(self, like: Like, *, labels: bool, groups: str | None) -> New:
        """The run's columns, in its order; its targets where they are there and whole."""
        if len(like.shape) != 1:
            got = f"the table {self.where}"
            raise InputError(f"inputs of shape {like.shape}, as in the run", got, "pass data of the kind")
        names, targets = _inputs_of(self, like)
        x = np.stack([_indicator(self, n, like) for n in names], axis=1)
        if groups is not None and groups not in self.names:
            raise _unknown(self, groups)
        group = None if groups is None else self.read(groups).tolist()
        y, note = _labels_of(self, targets) if labels else (None, "")
        return New(x, y, group, note=note)


def asked(raw: Raw, categorical: Sequence[str], drop: Sequence[str]) -> Raw:
    """A source without the columns to drop, and with those of categories as text."""
    if not categorical and not drop:
        return raw
    if not isinstance(raw, RawColumns):
        raise InputError("a table with columns to drop or to take for categories", "a source without", "leave it out")
    for name in (*categorical, *drop):
        if name not in raw.names:
            raise _unknown(raw, name)

    def read(name: str) -> np.ndarray:
        values = raw.read(name)
        return values.astype(np.str_) if name in categorical else values

    return replace(raw, left_out=tuple(drop), read=read)


def no_groups(groups: str, where: str) -> InputError:
    """What to say where groups are asked of a source that has none."""
    return InputError(f"a table with a column {groups!r} of groups", where, "leave out the groups")


def listed(names: Any, most: int = 12) -> str:
    """The first names, and how many there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


# ---------------------------------------------------------------------- training data


def without_row_numbers(columns: Mapping[str, np.ndarray], targets: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Leave out unnamed columns that count the rows, and warn of named ones that look like it.

    A frame's index ends up in its export (as a column without a name, ``Unnamed: 0`` or ``__index_level_0__``). Where
    rows were sorted it gives the answer away, and new rows have other numbers.

    Args:
        columns: Values ``(N,)`` by name.
        targets: Names of the targets, which are left alone.

    Returns:
        The columns that are left.

    Warns:
        NovaculaWarning: If a column was left out, or one of at least 20 rows looks like an identifier.
    """
    kept = dict(columns)
    for name, values in columns.items():
        if values.dtype.kind not in "iuf" or len(values) < 3 or name in targets or len(kept) <= len(targets) + 1:
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


def _chosen(columns: Mapping[str, np.ndarray], chosen: Sequence[str], where: str) -> Source:
    # A text column with values a < b < … becomes one 0/1 column for each value, named column=a, column=b, ….
    blocks, names = [], []
    for name, values in columns.items():
        if values.dtype.kind not in "biufUS":
            got = f"{values.dtype} in column {name!r} of {where}"
            raise InputError("columns of numbers or text", got, "drop the column, or convert it to numbers")
        if name in chosen:
            continue
        if values.dtype.kind in "US":
            values = values.astype(np.str_)
            levels, codes = np.unique(values, return_inverse=True)
            if len(levels) > MAX_CATEGORIES:
                shown = ", ".join(map(repr, levels[:3].tolist()))
                raise InputError(
                    f"numbers, or at most {MAX_CATEGORIES} distinct words in a column",
                    f"{len(levels)} in column {name!r} of {where}: {shown}, …",
                    "drop the column, group its values, or write numbers with a decimal point",
                )
            blocks.append(np.eye(len(levels))[codes])
            names += [f"{name}={level}" for level in levels.tolist()]
        else:
            blocks.append(values.astype(np.float64)[:, None])
            names.append(name)
    if not blocks:
        raise InputError(
            "at least one input column", f"only the target {chosen} in {where}", "check the delimiter and header"
        )
    y = (
        columns[chosen[0]]
        if len(chosen) == 1
        else np.stack([_number_target(columns, c, where) for c in chosen], axis=1)
    )
    return Source(Table(np.concatenate(blocks, axis=1), y), columns=tuple(names), targets=tuple(chosen))


def _choose_target(names: list[str], target: Choice, where: str) -> list[str]:
    """The names of the target columns."""
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    if target is None:
        usual = [n for n in names if n.lower() in TARGET_NAMES]
        if len(usual) == 1:
            return usual
        found = f"{where} with columns {listed}" + (f", of which {usual} are usual names" if usual else "")
        raise InputError("the name of the target column", found, f"target={names[-1]!r}, for instance")
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


def _number_target(columns: Mapping[str, np.ndarray], name: str, where: str) -> np.ndarray:
    if columns[name].dtype.kind in "US":
        raise InputError(
            "numbers in several target columns", f"text in column {name!r} of {where}", "choose one target"
        )
    return columns[name]


# ---------------------------------------------------------------------- data to predict


def _labels_of(table: RawColumns, targets: tuple[str, ...]) -> tuple[np.ndarray | None, str]:
    if not targets or not set(targets) <= set(table.names):
        return None, ""
    if missing := max(table.missing(t) for t in targets):
        some = f"{missing:,} of {table.n:,} labels are missing in {table.where}: there are no scores"
        return None, some if missing < table.n else ""
    columns = [table.read(t) for t in targets]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1), ""


def _inputs_of(table: RawColumns, like: Like) -> tuple[list[str], tuple[str, ...]]:
    # The names of the file's columns that are the run's inputs, in the run's order, and of those that are its targets.
    width, names = like.shape[0], list(table.names)
    if not like.columns or _numbered(like.columns, like.targets):
        # Nothing but the position tells the columns apart.
        if not _numbered(names, ()):
            raise InputError(
                f"{width} columns without names, as in the run", f"{table.where}, which has a header", "drop it"
            )
        if len(names) == width + len(like.targets) and like.columns:
            return list(like.columns), like.targets
        if len(names) != width:
            raise InputError(
                f"{width} input columns, as in the run", f"{len(names)} in {table.where}", "pass the same ones"
            )
        return names, ()
    if _numbered(names, ()) and not set(like.columns) & set(names):
        raise InputError(f"a header with the run's columns {listed(like.columns)}", f"none in {table.where}", "add one")
    return list(like.columns), like.targets


def _numbered(names: Any, targets: Any) -> bool:
    return sorted([*names, *targets], key=lambda n: (len(n), n)) == [str(i) for i in range(len(names) + len(targets))]


def _indicator(table: RawColumns, name: str, like: Like) -> np.ndarray:
    # A column of numbers; or, for "column=value", whether a text column has the value.
    if name in table.names:
        values = table.read(name)
        if values.dtype.kind in "US":
            raise InputError(
                "numbers, as in the run", f"{str(values[0])!r} in column {name!r} of {table.where}", "correct it"
            )
        return values.astype(np.float64)
    column = max((c for c in table.names if name.startswith(f"{c}=")), key=len, default=None)
    if column is None:
        source = name.split("=", 1)[0]  # of an indicator column, the text column that it was made from
        raise _unknown(table, source, like.columns)
    levels = [n[len(column) + 1 :] for n in like.columns if n.startswith(f"{column}=")]
    values = table.read(column).astype(np.str_)
    strange = np.flatnonzero(~np.isin(values, levels))
    if len(strange):
        got = f"{str(values[strange[0]])!r} in row {strange[0]}, column {column!r} of {table.where}"
        raise InputError(f"one of the run's values {listed(levels)}", got, "correct it, or leave the row out")
    return (values == name[len(column) + 1 :]).astype(np.float64)


def _unknown(table: RawColumns, name: str, inputs: tuple[str, ...] = ()) -> InputError:
    close = difflib.get_close_matches(name, [n for n in table.names if n not in inputs], n=1)
    wanted = f" (the run's inputs are {listed(inputs)})" if inputs else ""
    hint = f"rename {close[0]!r}" if close else "add it"
    return InputError(f"a column {name!r}{wanted}", f"{table.where} with columns {listed(table.names)}", hint)
