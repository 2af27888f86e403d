"""`Data`: an immutable dataset, with seeded splits and batches and a fingerprint of its contents.

Everything random is a function of a seed and of what it is for, so that a run can be repeated or resumed exactly. The
fingerprint tells whether two numbers speak of the same data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_whole, shown
from novacula.core.errors import InputError
from novacula.core.modules.parts import Parts
from novacula.core.rng import generator
from novacula.data.arrays import check_paired, frame_columns
from novacula.data.datasets import read_dataset
from novacula.data.lazy import LazyRows
from novacula.data.meaning.about import About, coded, meaning
from novacula.data.meaning.coding import Coding, Column
from novacula.data.meaning.known import Columns, frame_of
from novacula.data.meaning.labels import Task, as_labels, as_names
from novacula.data.meaning.soft import class_count, most_probable
from novacula.data.parts import as_one

if TYPE_CHECKING:
    from novacula.data.standardise import Standardiser

_NOTHING = About()


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Data:
    """Inputs and labels.

    Arrays are copied; tensors are not, and must not be changed in place afterwards. NumPy arrays, lists and frames
    become torch's default floating dtype (``float32``) whatever their own, unless ``dtype`` is given; a floating
    *tensor* keeps its dtype. See `as_inputs` for images and `as_labels` for how the task is guessed.

    Args:
        x: Inputs of shape ``(N, …)``: tensor, NumPy array, nested lists, or pandas frame. Of inputs of several parts, a
            dictionary of them (the network is called as ``f(**parts)``) or a tuple of arrays (``f(*parts)``), in which
            whole numbers and booleans stay such.
        y: Labels of shape ``(N,)`` or ``(N, D)``; whole numbers, booleans, strings or floats; or the probability of
            each class, ``(N, C)``: soft labels.
        name: A name, for people.
        classes: Names of the classes 0, 1, …; string labels are numbered by it (by default sorted).
        task: What ``y`` is, where the guess is wrong: whole numbers may be classes or measurements.
        columns: Names of the columns of a table ``x``; a frame brings its own.
        tokens: Whether ``x`` holds whole-number ids, kept as int64.
        dtype: The floating dtype wanted.
        scaling: The transformation to standard units that ``x`` and ``y`` went through (`Standardiser.apply` sets it).
        coding: How the columns of a frame become inputs, where other data have learned it (``train.coding``).
        about: What a reader has to say (`nv.load` sets it).

    Attributes:
        x: Inputs, floats (or int64 ids), shape ``(N, …)``; several parts side by side, ``(N, 1, D)``; of large sources
            a tensor whose rows are read when they are asked for (`novacula.data.lazy`).
        parts: Where in them the parts are; None for inputs of one.
        y: Labels: int64 ``(N,)``, or soft floats ``(N, C)``, for classification; floats of 0 and 1 ``(N, C)`` for
            multilabel; floats ``(N, D)`` for regression.

    Raises:
        InputError: If values are missing, not finite or not numbers (with row, and column or channel and pixel), if the
            lengths differ, or there are fewer than two rows.

    Example:
        >>> data = Data([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], ["cat", "dog", "cat"], name="pets")
        >>> data.n, data.task, data.classes, data.y
        (3, 'classification', ('cat', 'dog'), tensor([0, 1, 0]))
    """

    x: Tensor
    y: Tensor
    name: str
    task: Task
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    scaling: Standardiser | None
    about: About
    parts: Parts | None

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        name: str = "data",
        classes: Sequence[str] | None = None,
        task: Task | None = None,
        columns: Sequence[str] | None = None,
        tokens: bool = False,
        dtype: torch.dtype | None = None,
        scaling: Standardiser | None = None,
        coding: Coding | None = None,
        about: About = _NOTHING,
    ) -> None:
        check_paired(x, y)
        table = x if isinstance(x, Columns) else frame_of(x)
        if table is not None:
            # Ids are neither filled nor measured: nothing is learned from them.
            given = Coding(tuple(map(Column, table.values))) if tokens else coding or about.coding
            found = given or Coding.learn(table)
            x, about = torch.from_numpy(found.encode(table)), replace(about, coding=found)
            dtype = dtype or torch.get_default_dtype()
            columns = found.names if columns is None or len(columns) != len(found.names) else columns
        columns = as_names(columns, "columns") if columns is not None else frame_columns(x)
        inputs, parts = as_one(x, tokens=tokens, dtype=dtype, columns=columns)
        labels = as_labels(y, x=inputs, task=task, classes=classes)
        if len(inputs) != len(labels.y):
            got = f"{len(inputs)} inputs and {len(labels.y)} labels"
            raise InputError("as many labels as inputs", got, "check how they were paired")
        if columns and (inputs.ndim != 2 or len(columns) != inputs.shape[1]):
            raise InputError(
                f"one column name for each feature of {tuple(inputs.shape[1:])}", f"{len(columns)}", "check columns="
            )
        self._set(
            x=inputs,
            y=labels.y,
            name=name,
            task=labels.task,
            classes=labels.classes,
            columns=columns,
            scaling=scaling,
            about=about,
            parts=parts,
        )

    def _set(self, **fields: object) -> Data:
        for key, value in fields.items():
            object.__setattr__(self, key, value)
        return self

    def with_values(self, x: Tensor, y: Tensor, *, scaling: Standardiser | None = None) -> Data:
        """The same dataset with other values, unchecked: for code that derives them from checked ones.

        Args:
            x: Inputs, shape ``(N, …)``.
            y: Labels, of the same task.
            scaling: What the values went through; by default as before.

        Returns:
            A new dataset.
        """
        new = object.__new__(Data)
        names = self.columns if x.ndim == 2 and x.shape[1] == len(self.columns) else ()
        return new._set(
            x=x,
            y=y,
            name=self.name,
            task=self.task,
            classes=self.classes,
            columns=names,
            scaling=scaling or self.scaling,
            about=self.about if names else replace(self.about, coding=None),
            parts=self.parts,
        )

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        limit: int | None = None,
        name: str = "dataset",
        classes: Sequence[str] | None = None,
        task: Task | None = None,
        tokens: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Data:
        """Read a dataset or loader once into memory.

        A transformation that draws random numbers is drawn once for each example, and a shuffling loader once; both
        under a fixed seed, so that the same dataset gives the same data. The global generators are left as they were.

        Args:
            dataset: A map-style ``Dataset`` (anything with ``len`` and indexing), an ``IterableDataset``, or a
                ``DataLoader``. Items are pairs ``(x, y)``, or dictionaries with an input under ``x``, ``input``,
                ``image``, ``pixel_values``, ``input_ids`` … and a label under ``y``, ``label``, ``target`` …. Inputs of
                several parts are dictionaries or tuples of arrays; what stands beside ``input_ids`` or ``pixel_values``
                in a dictionary (masks, types of tokens) is another part, unless it says nothing in any example.
            limit: Read at most this many examples, the first ones.
            name: A name, for people.
            classes: Names of the classes.
            task: What the labels are, where the guess would be wrong.
            tokens: Whether inputs are whole-number ids.
            dtype: The floating dtype wanted.

        Returns:
            The data.

        Raises:
            InputError: If items cannot be understood, or differ in shape; the message names the item.
        """
        x, y = read_dataset(dataset, limit)
        return cls(x, y, name=name, classes=classes, task=task, tokens=tokens, dtype=dtype)

    @property
    def n(self) -> int:
        """The number of examples N."""
        return self.x.shape[0]

    def __len__(self) -> int:
        return self.n

    @property
    def coding(self) -> Coding | None:
        """How a table's columns became inputs: words, and missing entries; None for other data."""
        return self.about.coding

    @property
    def meaning(self) -> tuple[str, ...]:
        """What the data were taken for: target and inputs, rows and columns left out, words, missing entries."""
        count, whole = class_count(self.y) if self.y.ndim == 1 else self.y.shape[1], self.x.dtype == torch.int64
        return meaning(self.about, self.task, self.classes, count, self.x_shape, self.parts or whole)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the axis of examples."""
        return tuple(self.x.shape[1:])

    @property
    def inputs(self) -> Tensor | dict[str, Tensor]:
        """The inputs as they were given: of several parts, by name or number."""
        return self.x if self.parts is None else self.parts.split(self.x)

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2b of contents, shapes and dtypes: 16 hexadecimal digits, the same on every machine.

        Of inputs that are read as needed, names, sizes and the contents of a thousand rows stand for the contents.
        """
        digest = hashlib.blake2b(digest_size=8)
        if isinstance(self.x, LazyRows):
            digest.update(self.x.fingerprint.encode())
        for t in (self.y,) if isinstance(self.x, LazyRows) else (self.x, self.y):
            digest.update(f"{t.dtype}{tuple(t.shape)}".encode())
            digest.update(t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        if self.parts is not None:
            digest.update(repr(self.parts).encode())
        return digest.hexdigest()

    def subset(self, index: Tensor | Sequence[int] | slice) -> Data:
        """Some of the rows.

        Args:
            index: Row numbers (a tensor or sequence), a boolean mask of length N, or a slice.

        Returns:
            A new dataset of at least one row.

        Raises:
            InputError: If no row is left, a row does not exist, or a mask has another length.
        """
        if isinstance(index, slice):
            rows = torch.arange(self.n)[index]
        else:
            try:
                rows = torch.as_tensor(index)
            except (TypeError, ValueError, RuntimeError) as error:
                raise InputError("row numbers or a mask", shown(index), "pass a 1-D index") from error
            if rows.ndim != 1 or (rows.is_floating_point() and rows.numel()):
                raise InputError(
                    "row numbers or a mask", f"shape {tuple(rows.shape)}, {rows.dtype}", "pass a 1-D index"
                )
            if rows.dtype == torch.bool:
                if len(rows) != self.n:
                    raise InputError(
                        f"a mask of length {self.n}", f"length {len(rows)}", "make the mask from this dataset"
                    )
                rows = rows.nonzero()[:, 0]
            bad = ((rows < -self.n) | (rows >= self.n)).nonzero()
            if len(bad):
                raise InputError(
                    f"rows in 0..{self.n - 1}", f"row {int(rows[bad[0, 0]])}", "make the index from this dataset"
                )
        if rows.numel() == 0:
            raise InputError("at least one row", "a subset with no rows", "check the index or mask")
        rows = rows.to(self.x.device, torch.int64)
        return self.with_values(self.x[rows], self.y[rows])

    def split(self, train: float | int, seed: int = 0, *, stratify: bool = False) -> tuple[Data, Data]:
        """Split the rows at random into two parts.

        Where words and missing entries of a table were encoded, this is done anew by the first part's rows alone, in
        the same columns: its medians fill both parts, and words that it does not have count as other.

        Args:
            train: The first part's share (a float between 0 and 1) or its number of rows (an integer).
            seed: Seed of the permutation.
            stratify: Whether each class is split in the same proportion, to the nearest row (classification only).

        Returns:
            Two datasets that share no row, neither empty.

        Raises:
            InputError: If one part would be empty, or stratification is asked of another task.
        """
        if not isinstance(train, Real) or isinstance(train, bool):
            raise InputError("a share or a number of rows", shown(train), "split(0.8)")
        share = not isinstance(train, Integral)
        if (share and not 0 < train < 1) or (not share and not 0 < train < self.n):
            wanted = "a share between 0 and 1" if share else f"a number of rows from 1 to {self.n - 1}"
            raise InputError(wanted, repr(train), "leave at least one row to each part")
        n_train = min(max(round(train * self.n), 1), self.n - 1) if share else int(train)
        order = torch.randperm(self.n, generator=generator(seed, "split"))
        if stratify:
            order = self._stratified(order, n_train)
        first, rest = self.subset(order[:n_train]), self.subset(order[n_train:])
        if self.coding is not None and self.coding.learned and self.scaling is None:
            first._set(about=replace(self.about, coding=self.coding.relearn(first.x)))
            first, rest = first.coded_as(first), rest.coded_as(first)
        return first, rest

    def coded_as(self, train: Data) -> Data:
        """The same rows with words and missing entries as the training rows say.

        Args:
            train: Rows of a split of the same table.

        Returns:
            New data in the same columns; this one where nothing was encoded.
        """
        coding = train.coding
        if coding is None or not coding.learned or coding.names != self.columns:
            return self
        return self.with_values(coding.reapply(self.x), self.y)._set(about=train.about)

    # Reorders a permutation so that its first n_train rows hold each class in proportion (largest remainders).
    def _stratified(self, order: Tensor, n_train: int) -> Tensor:
        if self.task != "classification":
            raise InputError("class labels to stratify by", f"task {self.task!r}", "leave out stratify=True")
        labels, inverse, counts = torch.unique(most_probable(self.y).cpu(), return_inverse=True, return_counts=True)
        quota = counts.double() * n_train / self.n
        take = quota.floor().long()
        extra = torch.argsort(quota - take, descending=True, stable=True)[: n_train - int(take.sum())]
        take[extra] += 1
        first, rest = [], []
        for k in range(len(labels)):
            members = order[inverse[order] == k]
            first.append(members[: take[k]])
            rest.append(members[take[k] :])
        return torch.cat([*first, *rest])

    def batches(self, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Pass over the rows once, in an order that is a function of seed and epoch.

        Args:
            batch_size: Rows a batch; the last one may be shorter.
            seed: The run's seed.
            epoch: Which pass this is.

        Yields:
            ``(x, y, index)``, with ``index`` the row numbers, int64.

        Raises:
            InputError: If ``batch_size`` is less than 1.
        """
        check_whole("batch_size", batch_size)
        order = torch.randperm(self.n, generator=generator(seed, "batches", epoch)).to(self.x.device)
        indices = order.split(batch_size)
        rows = self.x.ahead(indices) if isinstance(self.x, LazyRows) else (self.x[index] for index in indices)
        for x, index in zip(rows, indices, strict=True):
            yield x, self.y[index], index

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Data:
        """The same data in another floating dtype or on another device.

        Args:
            dtype: For floating inputs and labels; whole numbers stay as they are.
            device: Where to put the tensors.

        Returns:
            A new dataset.

        Raises:
            InputError: If the dtype is no floating one, or there is no such device.
        """
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise InputError("a floating dtype of torch's", shown(dtype), "use dtype=torch.float64")
        try:
            device = None if device is None else torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise InputError("a device of torch's", shown(device), "use 'cpu' or 'cuda'") from error
        x, y = (t.to(device=device, dtype=dtype if t.is_floating_point() else None) for t in (self.x, self.y))
        return self.with_values(x, y)

    def __repr__(self) -> str:
        kinds = f" in {len(self.classes)} classes" if self.classes else ""
        dtype = str(self.x.dtype).removeprefix("torch.")
        said = "".join(f"; {text}" for text in (*self.about.said, *coded(self.coding)))
        x = f"{self.x_shape} {dtype}" if self.parts is None else f"[{self.parts}]"
        return f"Data({self.name!r}, n={self.n}, x={x}, {self.task}{kinds}, {self.fingerprint}{said})"
