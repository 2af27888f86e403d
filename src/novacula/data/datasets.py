"""Reading a PyTorch dataset or loader into arrays, once."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from novacula.core.checks.numbers import check_numbers
from novacula.core.errors import InputError, NovaculaWarning
from novacula.data.arrays import WRAP
from novacula.data.loaders import every_row_once

INPUT_KEYS = ("x", "input", "inputs", "image", "images", "img", "pixel_values", "input_ids", "features", "data")
LABEL_KEYS = ("y", "label", "labels", "target", "targets")
# What goes with token ids, and its value where it says nothing.
_BESIDE = {"attention_mask": 1, "token_type_ids": 0, "position_ids": None, "decoder_input_ids": None}
_HINT = "yield pairs (x, y), or dictionaries with keys such as 'x' and 'y', or 'image' and 'label'"


@runtime_checkable
class MapStyle(Protocol):
    """What a map-style dataset has; no base class is asked for (the ``datasets`` library has its own)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def read_dataset(dataset: Any, limit: int | None = None) -> tuple[Any, Any]:
    """Read up to ``limit`` examples."""
    check_numbers(limit=limit)
    if isinstance(dataset, Mapping):
        hint = "choose one split of it" if not {"x", "y"} <= set(dataset) else "call Data(d['x'], d['y'])"
        raise InputError("a dataset or a loader", f"a dictionary with keys {_keys(dataset)}", hint)
    with _global_generators_kept(dataset):
        if isinstance(dataset, DataLoader):
            return _read_loader(every_row_once(dataset), limit)
        if isinstance(dataset, IterableDataset):
            items = enumerate(islice(iter(dataset), limit))
        elif isinstance(dataset, MapStyle):
            _warn_if_random(dataset)
            size = len(dataset) if limit is None else min(limit, len(dataset))
            items = ((i, dataset[i]) for i in range(size))
        else:
            raise InputError("a dataset with len() and indexing, or a DataLoader", f"a {type(dataset).__name__}", _HINT)
        pairs = [_pair(item, f"item {i}") for i, item in items]
    if not pairs:
        raise InputError("a dataset with at least two items", "an empty one", "check its folder and filters")
    return _stack([x for x, _ in pairs], "input"), _stack([y for _, y in pairs], "label")


def _read_loader(loader: DataLoader, limit: int | None) -> tuple[Any, Any]:
    xs, ys, n = [], [], 0
    for i, batch in enumerate(loader):
        x, y = (_array(v) for v in _pair(batch, f"batch {i}"))
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
            shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
            raise InputError(
                "batches of as many inputs as labels", f"shapes {shapes} in batch {i}", "set batch_size in the loader"
            )
        if xs and x.shape[1:] != xs[0].shape[1:]:
            shapes = f"{tuple(xs[0].shape[1:])} in batch 0 and {tuple(x.shape[1:])} in batch {i}"
            raise InputError("inputs of one shape", shapes, "resize, pad or crop them")
        xs.append(x)
        ys.append(y)
        n += len(x)
        if limit is not None and n >= limit:
            break
    if not xs:
        raise InputError("a loader with at least one batch", "an empty one", "check its dataset and drop_last")
    return _join(xs)[:limit], _join(ys)[:limit]


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        keys = [next((k for k in names if k in item), None) for names in (INPUT_KEYS, LABEL_KEYS)]
        if None in keys:
            missing = "an input" if keys[0] is None else "a label"
            raise InputError(f"{missing} in every item", f"{where} with keys {_keys(item)}", _HINT)
        for key in _BESIDE.keys() & item.keys():
            if _BESIDE[key] is None or bool((_array(item[key]) != _BESIDE[key]).any()):
                got = f"{where} with a {key!r} that matters"
                raise InputError(f"inputs that are one array, {keys[0]!r}", got, WRAP)
        item = item[keys[0]], item[keys[1]]
    if isinstance(item, (tuple, list)) and len(item) == 2:
        x, y = item
        if parts := _parts(x):
            raise InputError("inputs that are one array", f"{where} with {parts}", WRAP)
        if parts := _parts(y):
            raise InputError("labels that are one array", f"{where} with labels that are {parts}", "choose one of them")
        return x, y
    size = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
    raise InputError("items that are pairs (x, y)", f"{where}: a {type(item).__name__}{size}", _HINT)


# Of what parts a value consists, in words; nothing where it is one array, or a list that makes one.
def _parts(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dictionary with keys {_keys(value)}"
    if not isinstance(value, (tuple, list)) or all(isinstance(v, int | float | np.number | str) for v in value):
        return ""
    if any(isinstance(v, Mapping) for v in value):
        return "a list of dictionaries"
    shapes: list[tuple[int, ...]] = [tuple(v.shape) if isinstance(v, Tensor) else np.shape(v) for v in value]
    # Loaders make lists of tuples, and lists of an axis too: those hold one number for each example.
    several = isinstance(value, tuple) and len(value) > 1 and len(shapes[0]) > 0
    if (
        len(set(shapes)) > 1
        or several
        or (isinstance(next(iter(value)), Tensor) and len(shapes[0]) > 1 and len(value) > 1)
    ):
        return f"{len(value)} arrays of shapes {', '.join(map(str, shapes[:4]))}"
    return ""


def _stack(values: list[Any], what: str) -> Any:
    arrays = [_array(v) for v in values]
    for i, a in enumerate(arrays):
        if a.shape != arrays[0].shape:
            shapes = f"{tuple(arrays[0].shape)} in item 0 and {tuple(a.shape)} in item {i}"
            raise InputError(f"{what}s of one shape", shapes, "resize, pad or crop them")
    return _join([a[None] for a in arrays])


def _join(parts: list[Any]) -> Any:
    if all(isinstance(p, Tensor) for p in parts):
        return torch.cat(parts)
    return np.concatenate([p.numpy(force=True) if isinstance(p, Tensor) else p for p in parts])


# A tensor as it is; anything else (image, number, string, list) as an array.
def _array(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
        return torch.stack(list(value)).detach()
    return np.asarray(value)


def _warn_if_random(dataset: MapStyle) -> None:
    if len(dataset) == 0:
        return
    first, second = (_array(_pair(dataset[0], "item 0")[0]) for _ in range(2))
    if first.shape != second.shape or not bool((first == second).all()):
        warnings.warn(
            "the dataset transforms its inputs at random: one draw of each is read; pass the data without "
            "augmentation to have it learned as an invariance",
            NovaculaWarning,
            stacklevel=5,
        )


@contextmanager
def _global_generators_kept(dataset: Any) -> Iterator[None]:
    """Read under fixed seeds, and leave the generators of torch, NumPy and Python and the loader's own as they were."""
    own = dataset.generator if isinstance(dataset, DataLoader) else None
    state = own.get_state() if own is not None else None
    # Datasets of others draw from NumPy's old global generator, whatever its successor may do.
    kept = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        try:
            yield
        finally:
            np.random.set_state(kept[0])  # noqa: NPY002
            random.setstate(kept[1])
            if own is not None and state is not None:
                own.set_state(state)


def _keys(mapping: Mapping[Any, Any]) -> str:
    keys: Iterable[str] = map(str, mapping)
    return ", ".join(list(keys)[:12]) or "none"
