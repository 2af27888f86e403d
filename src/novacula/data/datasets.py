"""Reading a PyTorch dataset or loader into arrays, once."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from novacula.core.checks.numbers import check_numbers
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.rng import lent
from novacula.data import lazy
from novacula.data.inputs import lazy_inputs
from novacula.data.lazy import LazyRows, sampled
from novacula.data.loaders import every_row_once
from novacula.data.sources.rows import ItemRows, each

INPUT_KEYS = ("x", "input", "inputs", "image", "images", "img", "pixel_values", "input_ids", "features", "data")
LABEL_KEYS = ("y", "label", "labels", "target", "targets")
# What goes with an input as another part, and its value where it says nothing.
_BESIDE = {
    "attention_mask": 1,
    "token_type_ids": 0,
    "pixel_mask": 1,
    "input_ids": None,
    "pixel_values": None,
    "position_ids": None,
    "decoder_input_ids": None,
    "decoder_attention_mask": 1,
    "bbox": None,
}
_HINT = "yield pairs (x, y), or dictionaries with keys such as 'x' and 'y', or 'image' and 'label'"


class _Item(dict[str, Any]):
    """The inputs of a dictionary that holds the label too: what says nothing of them is left out."""


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
            items = each(islice(iter(dataset), limit), "item")
        elif isinstance(dataset, MapStyle):
            if limit is None and (found := _read_as_needed(dataset)) is not None:
                return found
            _warn_if_random(dataset)
            size = len(dataset) if limit is None else min(limit, len(dataset))
            items = each((dataset[i] for i in range(size)), "item")
        else:
            raise InputError("a dataset with len() and indexing, or a DataLoader", f"a {type(dataset).__name__}", _HINT)
        pairs = [_pair(item, f"item {i}") for i, item in items]
    if not pairs:
        raise InputError("a dataset with at least two items", "an empty one", "check its folder and filters")
    inputs = _by_part([x for x, _ in pairs], lambda values: _stack(values, "input"))
    return inputs, _stack([y for _, y in pairs], "label")


def _read_as_needed(dataset: MapStyle) -> tuple[LazyRows, Any] | None:
    # Inputs that are asked for as needed, and all labels, where the inputs would take much memory.
    n = len(dataset)
    parts = list(_parts_of(_pair(dataset[0], "item 0")[0])) if n else []
    if len(parts) != 1:
        return None  # several parts lie side by side in one tensor
    first = _array(parts[0])
    if n * math.prod(first.shape) * 4 <= lazy.LARGE:
        return None
    again = _array(_pair(dataset[0], "item 0")[0])
    if first.shape != again.shape or not bool((first == again).all()):
        got = "a dataset that transforms its inputs at random, too large to read once"
        raise InputError("items that are the same each time", got, "pass the data without augmentation")
    return lazy_inputs(ItemRows(dataset, _input, n), tokens=False, dtype=None, columns=()), _labels_of(dataset, n)


def _input(item: Any, where: str) -> Any:
    return _array(_pair(item, where)[0])


def _labels_of(dataset: MapStyle, n: int) -> Any:
    # Those that the dataset lists, as torchvision's do, if they are those of its items; else item by item.
    listed: Any = next((getattr(dataset, k) for k in ("targets", "labels") if hasattr(dataset, k)), ())
    some = sampled(n, 8).tolist() if np.shape(listed)[:1] == (n,) else []
    if some and all(np.array_equal(_array(listed[i]), _array(_pair(dataset[i], "")[1])) for i in some):
        return listed if isinstance(listed, Tensor) else np.asarray(listed)
    items = each((dataset[i] for i in range(n)), "item")
    return _stack([_pair(item, f"item {i}")[1] for i, item in items], "label")


def _read_loader(loader: DataLoader, limit: int | None) -> tuple[Any, Any]:
    xs, ys, n = [], [], 0
    for i, batch in each(loader, "batch"):
        x, y = _pair(batch, f"batch {i}")
        x, y = _by_part([x], lambda values: _array(values[0])), _array(y)
        for part in _parts_of(x):
            if part.ndim == 0 or y.ndim == 0 or len(part) != len(y):
                shapes = f"shapes {tuple(part.shape)} and {tuple(y.shape)} in batch {i}"
                raise InputError("batches of as many inputs as labels", shapes, "set batch_size in the loader")
        xs.append(x)
        ys.append(y)
        n += len(y)
        if limit is not None and n >= limit:
            break
    if not xs:
        raise InputError("a loader with at least one batch", "an empty one", "check its dataset and drop_last")
    return _by_part(xs, lambda values: _joined(values)[:limit]), _join(ys)[:limit]


def _joined(batches: list[Any]) -> Any:
    for i, x in enumerate(batches):
        if x.shape[1:] != batches[0].shape[1:]:
            shapes = f"{tuple(batches[0].shape[1:])} in batch 0 and {tuple(x.shape[1:])} in batch {i}"
            raise InputError("inputs of one shape", shapes, "resize, pad or crop them")
    return _join(batches)


# Inputs by their parts: a dictionary or tuple where they have several, of what is made of each part's values.
def _by_part(inputs: list[Any], made: Callable[[list[Any]], Any]) -> Any:
    first = inputs[0]
    if isinstance(first, Mapping):
        for i, x in enumerate(inputs):
            if not isinstance(x, Mapping) or x.keys() != first.keys():
                got = f"{_keys(first)} in the first and {_keys(x) if isinstance(x, Mapping) else type(x).__name__}"
                raise InputError("the same parts in every input", f"{got} in input {i}", "give each all of them")
        found = {k: made([x[k] for x in inputs]) for k in first}
        if not isinstance(first, _Item):
            return found
        kept = {k: v for k, v in found.items() if _BESIDE.get(k) is None or bool((v != _BESIDE[k]).any())}
        return next(iter(kept.values())) if len(kept) == 1 else kept
    if isinstance(first, tuple):
        return tuple(made([x[k] for x in inputs]) for k in range(len(first)))
    return made(inputs)


def _parts_of(x: Any) -> Iterable[Any]:
    return x.values() if isinstance(x, Mapping) else x if isinstance(x, tuple) else (x,)


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        keys = [next((k for k in names if k in item), None) for names in (INPUT_KEYS, LABEL_KEYS)]
        if None in keys:
            missing = "an input" if keys[0] is None else "a label"
            raise InputError(f"{missing} in every item", f"{where} with keys {_keys(item)}", _HINT)
        inputs = _Item({k: v for k, v in item.items() if k == keys[0] or k in _BESIDE})
        item = inputs if len(inputs) > 1 else item[keys[0]], item[keys[1]]
    if isinstance(item, (tuple, list)) and len(item) == 2:
        x, y = item
        if isinstance(x, (tuple, list)) and _parts(x):
            if any(isinstance(v, Mapping) for v in x):
                raise InputError("inputs that are arrays", f"{where} with {_parts(x)}", _HINT)
            x = tuple(x)
        elif isinstance(x, tuple):
            x = list(x)  # of numbers
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
    twice = [[_array(v) for v in _parts_of(_pair(dataset[0], "item 0")[0])] for _ in range(2)]
    if any(a.shape != b.shape or not bool((a == b).all()) for a, b in zip(*twice, strict=True)):
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
    with lent(seed=0):
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
