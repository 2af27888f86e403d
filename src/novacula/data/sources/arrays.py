"""Arrays of inputs and labels, in an archive or in files of their own, by the names that tell what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from novacula.core.errors import InputError
from novacula.data.meaning.columns import RawColumns, no_groups
from novacula.data.raw import Choice, Like, New, Source, Split, Table
from novacula.data.sources.rows import FileRows


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one part: which array holds the inputs, and ``find(name)``, which one is meant by a name.

    ``find(None)`` is the array of labels. ``name`` is ``"train"``, ``"test"``, or empty for all rows.
    """

    name: str
    inputs: str
    find: Callable[[str | None], str | None]


@dataclass(frozen=True, eq=False)
class RawArrays:
    """Arrays that are read when they are asked for."""

    where: str  # the source, for people
    read: Callable[[str], Any]  # An array by its name, or rows of it that are read as needed
    part: Callable[[str], Part | None]  # A part by its name, or None
    absent: InputError  # what to say where there are no inputs at all
    unlabelled: Callable[[Part, str | None], InputError]  # what to say where a part has no labels of the wanted name
    names: tuple[str, ...] = ()  # names of an archive's arrays; empty where none can be asked for by name
    classes: tuple[str, ...] | None = None  # names of the classes, where the source has them
    columns: tuple[str, ...] | None = None  # names of the inputs' columns, where it has them
    table: RawColumns | None = None

    def training(self, target: Choice, split: Split) -> Source:
        """Inputs and labels of all parts, or of a published split."""
        if target is not None and not self.names:
            if self.table is None:
                got = f"arrays with labels of their own in {self.where}"
                raise InputError("a matrix in which to choose a target", got, "leave out the target")
            return self.table.training(target, split)
        if target is not None and not isinstance(target, str):
            raise InputError("the name of the labels' array", repr(target), "target='y', for instance")
        if split is not None and not isinstance(split, int):
            raise InputError("the number of a published split", f"{split} for {self.where}", "--split 0")
        train, test = self.part("train"), self.part("test")
        if split is not None and (train is not None or test is not None):
            raise InputError("a file with published splits", f"{self.where}, which has a test part", "leave out split=")
        train = train or self.part("")
        if train is None:
            raise self.absent
        table = self._table(train, target)
        if split is None or not self.names:
            held = None if test is None else self._table(test, target)
            return Source(table, held, self.classes, self.columns)
        mask = self._mask(split, len(table.x))
        x = table.x.read(np.arange(len(table.x))) if isinstance(table.x, FileRows) else table.x
        rest, held = (Table(x[rows], table.y[rows]) for rows in (~mask, mask))
        return Source(rest, held, self.classes, self.columns)

    def new(self, like: Like, *, labels: bool, groups: str | None) -> New:
        """Inputs of the test part where there is one; a matrix without labels counts as columns."""
        part = next((p for name in ("test", "", "train") if (p := self.part(name)) is not None), None)
        if part is None:
            raise self.absent
        named = part.find(like.targets[0]) if labels and like.targets else None
        label = (named or part.find(None)) if labels else None
        if self.table is not None and label is None:
            return self.table.new(like, labels=labels, groups=groups)
        if groups is not None and not self.names:
            raise no_groups(groups, self.where)
        group = None if groups is None else part.find(groups)
        if groups is not None and group is None:
            raise InputError(f"an array {groups!r}", f"{self.where} with {', '.join(self.names)}", "name one of these")
        x = self._inputs(part)
        y, z = (None if key is None else self._beside(key, part, len(x)) for key in (label, group))
        note = f"{self.where} has a test part: its {len(x):,} rows are read" if part.name == "test" else ""
        return New(x, y, None if z is None else z.tolist(), self.columns or (), (note,) if note else ())

    def _inputs(self, part: Part) -> Any:
        # Grey images (N, H, W) get their axis of channels; the name says that they are images.
        x = self.read(part.inputs)
        if x.ndim != 3 or "image" not in part.inputs.lower():
            return x
        return replace(x, axis=True) if isinstance(x, FileRows) else x[:, None]

    def _beside(self, key: str, part: Part, n: int) -> np.ndarray:
        a = self.read(key)
        if a.ndim == 0 or len(a) != n:
            got = f"shape {a.shape} in {key} of {self.where}"
            raise InputError(f"{n} entries, as in {part.inputs}", got, "check them")
        return a

    def _table(self, part: Part, target: str | None) -> Table:
        label = part.find(target)
        if label is None:
            raise self.unlabelled(part, target)
        x, y, names = self._inputs(part), self.read(label), (part.inputs, label)
        if x.ndim == 0 or y.ndim == 0:
            got = f"a single value in {' or '.join(names)} of {self.where}"
            raise InputError("arrays of inputs and labels", got, "check them")
        if len(x) != len(y):
            got = f"{len(x)} in {part.inputs} and {len(y)} in {label} of {self.where}"
            raise InputError("as many labels as inputs", got, "write them anew from the same rows")
        return Table(x, y)

    def _mask(self, split: int, n: int) -> np.ndarray:
        key = next((k for k in ("test_index", "test_mask") if k in self.names), None)
        if key is None:
            got = f"{self.where} with {', '.join(self.names)}"
            raise InputError("an array test_index with the splits", got, "leave out split=")
        masks = np.atleast_2d(self.read(key))
        if masks.dtype != np.bool_ or masks.ndim != 2 or masks.shape[1] != n:
            got = f"shape {masks.shape}, {masks.dtype} in {self.where}"
            raise InputError(f"{key} as a boolean mask of shape (splits, {n})", got, "write masks, not row numbers")
        if not 0 <= split < len(masks):
            raise InputError(f"a split from 0 to {len(masks) - 1}", f"split={split} for {self.where}", "split=0")
        return masks[split]


def digits() -> RawArrays:
    """The digits that scikit-learn holds."""
    from sklearn.datasets import load_digits  # a second of import that other sources need not pay

    bunch: Any = load_digits()
    arrays = {"images": bunch.images / 16, "target": bunch.target}
    whole = Part("", "images", lambda name: "target" if name is None else None)
    nothing = InputError("the digits", "none", "install scikit-learn again")
    return RawArrays(
        "digits",
        arrays.__getitem__,
        {"": whole}.get,
        nothing,
        lambda part, target: nothing,
        classes=tuple(map(str, bunch.target_names)),
    )
