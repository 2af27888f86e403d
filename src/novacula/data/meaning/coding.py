"""How the columns of a table become inputs: one-hot words, and filled places where something is missing.

A column of numbers stays one column. A column of words becomes one for each word, ``column=word``, and one more,
``column=(other)``, for words that the training rows do not have. Where entries are missing among the training rows,
the median of the others (of words, the most frequent one) takes their place, and a column ``name=(missing)`` says
where. Later rows are filled in the same way.

In tables of at least `MANY` rows, words that only one row has count as other: by Good and Turing, what was seen once is
what the unseen is like, and the share of such rows is about the probability of meeting an unseen word.

References:
    The population frequencies of species and the estimation of population parameters. I. J. Good, 1953.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.data.meaning.known import DAYS, Columns, unit_of, words_of

MAX_CATEGORIES = 20
MANY = 20
"""Rows from which on a word that occurs once is no accident of a short table."""


@dataclass(frozen=True)
class Column:
    """How one column becomes inputs."""

    name: str  # its name in the source
    # words that have a column of their own, in their order; None for a column of numbers
    words: tuple[str, ...] | None = None
    fill: float | str | None = None  # what stands for a missing entry; None where the training rows know no value
    marked: bool = False  # whether a column says where entries are missing
    missing: int = 0  # how many training rows miss an entry
    rare: tuple[str, ...] = ()  # words that have a column, of which the training rows have too few: they count as other
    other: int = 0  # how many training rows have other words
    unit: str | None = None  # that of its numbers, "" where they have none; None where it is not known

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs that it becomes."""
        own = (self.name,) if self.words is None else tuple(f"{self.name}={w}" for w in (*self.words, "(other)"))
        return own + (f"{self.name}=(missing)",) * self.marked

    def encode(self, cells: np.ma.MaskedArray, where: str) -> np.ndarray:
        """The inputs, float64, shape ``(N, len(names))``."""
        missing, n = np.ma.getmaskarray(cells), len(cells)
        if missing.any() and self.fill is None and not self.marked:
            got = f"a missing value in row {int(missing.argmax())}, column {self.name!r} of {where}"
            raise InputError("a table without missing values, as the run's", got, "fill it in, or drop the row")
        if self.words is None:
            self._check_unit(cells, where)
            numbers = np.zeros(n) if cells.dtype.kind == "U" else np.ma.getdata(cells).astype(np.float64)
            own = np.where(missing, 0.0 if self.fill is None else self.fill, numbers)[:, None]
        else:
            words = np.where(missing, "" if self.fill is None else str(self.fill), np.ma.getdata(words_of(cells)))
            own = np.eye(len(self.words) + 1)[self._places(words)]
        return np.concatenate([own, missing[:, None]], axis=1) if self.marked else own

    def _check_unit(self, cells: np.ma.MaskedArray, where: str) -> None:
        # Numbers of another unit are other numbers: 1,200 g where the network learned from kg.
        there, unit, words = cells.compressed(), unit_of(cells), cells.dtype.kind == "U"
        if not len(there) or (not words and self.unit in {None, unit}):
            return
        wanted = f"dates, or {DAYS}" if self.unit == DAYS else f"numbers in {self.unit}" if self.unit else "numbers"
        got = f"{str(there[0])!r}" if words else f"numbers in {unit}" if unit else "numbers without a unit"
        hint = "write dates as 2024-01-31" if self.unit == DAYS else "bring them to the unit of the run"
        hint = "correct it" if words and not self.unit else hint
        raise InputError(f"{wanted}, as in the run", f"{got} in column {self.name!r} of {where}", hint)

    def unseen(self, cells: np.ma.MaskedArray) -> list[str]:
        """The words of all rows that are none of the training rows'."""
        if self.words is None:
            return []
        return [w for w in words_of(cells).compressed().tolist() if w not in self.words]

    def _places(self, words: np.ndarray) -> np.ndarray:
        # Which of its columns each word belongs to; the last one is that of others.
        own = self.words or ()
        place = {w: i for i, w in enumerate(own) if w not in self.rare}
        distinct, codes = np.unique(words, return_inverse=True)
        return np.array([place.get(w, len(own)) for w in distinct.tolist()], dtype=np.int64)[codes.ravel()]

    def relearn(self, block: np.ndarray) -> Column:
        """The same columns, with what these rows ``(N, len(names))`` tell: fills, and which words are rare."""
        missing = block[:, -1] == 1 if self.marked else np.zeros(len(block), bool)
        whole, lost = block[~missing], int(missing.sum())
        if self.words is None:
            return replace(self, fill=_median(whole[:, 0]) if len(whole) else None, missing=lost)
        counts = whole[:, : len(self.words)].sum(0)
        least = 2 if len(block) >= MANY else 1
        rare = tuple(w for w, count in zip(self.words, counts, strict=True) if count < least)
        kept = float(counts[[w not in rare for w in self.words]].sum())
        fill = self.words[int(counts.argmax())] if counts.size and counts.max() >= least else None
        return replace(self, fill=fill, missing=lost, rare=rare, other=len(whole) - int(kept))

    def reapply(self, block: np.ndarray) -> np.ndarray:
        """Rows that another column of the same words has encoded, as this one does."""
        out, missing = block.copy(), block[:, -1] == 1 if self.marked else np.zeros(len(block), bool)
        if self.words is None:
            if self.marked:
                out[missing if self.fill is not None else slice(None), 0] = self.fill or 0.0
            return out
        last = len(self.words)
        for i, word in enumerate(self.words):
            if word in self.rare:
                out[:, last] += out[:, i]
                out[:, i] = 0
        out[missing, : last + 1] = 0
        out[missing, last if self.fill is None else self.words.index(str(self.fill))] = 1
        return out


@dataclass(frozen=True)
class Coding:
    """How a table becomes inputs, learned from its training rows.

    Args:
        columns: The columns that are used, in the order of the inputs.

    Example:
        >>> from novacula.data.meaning.known import known
        >>> table = Columns({"age": known([30.0, np.nan, 50.0]), "ward": known(np.array(["a", "b", "a"]))})
        >>> coding = Coding.learn(table)
        >>> coding.names
        ('age', 'age=(missing)', 'ward=a', 'ward=b', 'ward=(other)')
        >>> coding.encode(table)[1].tolist()
        [40.0, 1.0, 0.0, 1.0, 0.0]
    """

    columns: tuple[Column, ...]

    @classmethod
    def learn(cls, table: Columns) -> Coding:
        """Learn from training rows; no column, or one of more than `MAX_CATEGORIES` words, is refused."""
        _check_words(table)
        found = []
        for name, cells in table.values.items():
            missing = int(np.ma.count_masked(cells))
            if cells.dtype.kind != "U":
                whole = np.ma.getdata(cells)[~np.ma.getmaskarray(cells)]
                fill = _median(whole) if len(whole) else None
                found.append(Column(name, None, fill, missing > 0, missing, unit=unit_of(cells)))
                continue
            words, counts = np.unique(cells.compressed(), return_counts=True)
            often = counts >= (2 if len(cells) >= MANY else 1)
            kept = tuple(words[often].tolist())
            fill = str(words[counts.argmax()]) if kept else None
            found.append(Column(name, kept, fill, missing > 0, missing, (), int(counts[~often].sum())))
        coding = cls(tuple(found))
        if repeated := [name for name, times in Counter(coding.names).items() if times > 1]:
            got = f"{repeated[0]!r} as a column of {table.where} and as a word's"
            raise InputError("columns with different names", got, "rename it")
        return coding

    @classmethod
    def of_dict(cls, saved: Any) -> Coding:
        """Read what `to_dict` wrote."""
        try:
            return cls(tuple(_column(**entry) for entry in saved))
        except (TypeError, ValueError, KeyError) as error:
            raise InputError("how a run's columns became inputs", str(error), "learn it again") from error

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values, for a file."""
        return [{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(c).items()} for c in self.columns]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(name for column in self.columns for name in column.names)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the columns in the source."""
        return tuple(column.name for column in self.columns)

    @property
    def learned(self) -> bool:
        """Whether inputs depend on which rows it was learned from."""
        return any(c.marked or c.words is not None for c in self.columns)

    def encode(self, table: Columns) -> np.ndarray:
        """The inputs of rows with these columns, float64 ``(N, len(names))``; words for numbers are refused."""
        x, place = np.empty((table.n, len(self.names))), 0
        for c in self.columns:
            width = len(c.names)
            x[:, place : place + width] = c.encode(table.values[c.name], table.where)
            place += width
        return x

    def remarks(self, table: Columns) -> tuple[str, ...]:
        """What a reader of predictions must know of new rows: words that are new, and filled places."""
        said = []
        for c in self.columns:
            cells = table.values[c.name]
            if strange := c.unseen(cells):
                shown = ", ".join(map(repr, sorted(set(strange))[:3])) + (", …" if len(set(strange)) > 3 else "")
                rows = f"{len(strange):,} row{'s' * (len(strange) > 1)}"
                said.append(f"column {c.name!r}: {rows} with other words than in training ({shown})")
            if missing := int(np.ma.count_masked(cells)):
                rows = f"{missing:,} row{'s' * (missing > 1)}"
                said.append(f"column {c.name!r}: missing in {rows}, filled by {_shown(c.fill)}")
        return tuple(said)

    def unitless(self, *kept: str) -> Coding:
        """The same columns for rows from arrays or frames, which can tell no unit, or these alone."""
        return Coding(tuple(replace(c, unit=c.unit if c.unit in kept else None) for c in self.columns))

    def relearn(self, x: Tensor) -> Coding:
        """The same columns, learned anew from some of the rows that it has encoded; x ``(n, len(names))``."""
        return Coding(tuple(c.relearn(block) for c, block in self._blocks(x)))

    def reapply(self, x: Tensor) -> Tensor:
        """Rows that a coding of the same columns has encoded, as this one does; x ``(n, len(names))``."""
        blocks = [torch.from_numpy(c.reapply(block)) for c, block in self._blocks(x)]
        return torch.cat(blocks, dim=1).to(x)

    def _blocks(self, x: Tensor) -> list[tuple[Column, np.ndarray]]:
        widths = [len(c.names) for c in self.columns]
        rows = x.detach().cpu().double().numpy()
        return list(zip(self.columns, np.split(rows, np.cumsum(widths)[:-1], axis=1), strict=True))


def _median(values: np.ndarray) -> float:
    # Halved before they are added, as the sum of two large numbers need not be one.
    high = len(values) // 2
    low = high if len(values) % 2 else high - 1
    part = np.partition(values, (low, high))
    return float(part[low]) / 2 + float(part[high]) / 2


def _column(name: str, words: Any, rare: Any, **more: Any) -> Column:
    own = None if words is None else tuple(map(str, words))
    return Column(str(name), own, rare=tuple(map(str, rare)), **more)


def _check_words(table: Columns) -> None:
    if not table.values:
        raise InputError("at least one input column", f"none in {table.where}", "check the delimiter and header")
    many: Mapping[str, np.ndarray] = {
        name: levels
        for name, cells in table.values.items()
        if cells.dtype.kind == "U" and len(levels := np.unique(cells.compressed())) > MAX_CATEGORIES
    }
    if not many:
        return
    name, levels = next(iter(many.items()))
    shown = ", ".join(map(repr, levels[:3].tolist()))
    others = f" (and more in {', '.join(map(repr, [*many][1:6]))})" if len(many) > 1 else ""
    flags = " ".join(f"--drop {_quoted(n)}" for n in [*many][:6])
    raise InputError(
        f"numbers, or at most {MAX_CATEGORIES} distinct words in a column",
        f"{len(levels)} in column {name!r} of {table.where}: {shown}, …{others}",
        f"{flags} (drop=… in Python), group the values, or write numbers with a decimal point",
    )


def _quoted(name: str) -> str:
    return name if name.replace("_", "").isalnum() else repr(name)


def _shown(fill: float | str | None) -> str:
    return "nothing known" if fill is None else repr(fill) if isinstance(fill, str) else f"{fill:.6g}"
