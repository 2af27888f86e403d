"""What views, parts and unions of tensors say of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from novacula.paths.symmetries.axes import is_frozen, joined, length, reshaped, sliced, why_frozen
from novacula.paths.symmetries.operations.values import Place, Value, handles, pointwise, positions, stop


@handles("index")
def _index(p: Place, x: Value, indices: Sequence[Value | None]) -> Value:
    given = [d for d, i in enumerate(indices) if i is not None]
    for d in given:
        stop(p, x.axes[d], "chosen by index")
    rank = max(len(i.axes) for i in indices if i is not None)
    sizes, start = p.sizes[0], given[0] if given == list(range(given[0], given[-1] + 1)) else 0
    new = [p.fresh(d, sizes[start + d], "chosen", frozen="chosen by index") for d in range(rank)]
    others = [axis for d, axis in enumerate(x.axes) if d not in given]
    return Value([*others[:start], *new, *others[start:]])


@handles("index_select")
def _index_select(p: Place, x: Value, dim: int, index: Value) -> Value:
    dim %= len(x.axes)
    return _index(p, x, [index if d == dim else None for d in range(dim + 1)])


@handles("flip", "roll", "cumsum", "cumprod", "cummax")
def _along(p: Place, x: Value, *args: Any) -> Any:
    # What goes along dimensions: of a flip and a roll they are named last.
    given = args[-1] if isinstance(args[-1], (list, tuple)) else [args[-1]]
    dims = {d % len(x.axes) for d in given}
    for d in dims:
        stop(p, x.axes[d], "positions in an order")
    return Value(
        [p.fresh(d, n, frozen=why_frozen(x.axes[d])) if d in dims else x.axes[d] for d, n in enumerate(x.sizes)]
    )


@handles("index_put")
def _index_put(p: Place, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    given = [d for d, i in enumerate(indices) if i is not None]
    inner = len(x.axes) - len(indices)
    for axis in [*(x.axes[d] for d in given), *values.axes[: len(values.axes) - inner]]:
        stop(p, axis, "chosen by index")
    rest = pointwise(p, "sum", [Value(v.axes[len(v.axes) - inner :]) for v in (x, values)]) if inner else Value([])
    return Value([*(x.axes[d] for d in range(len(indices))), *rest.axes])


@handles("view", "_unsafe_view", "reshape", "unflatten", "flatten")
def _view(p: Place, x: Value, shape: Any, *rest: Any) -> Value:
    sizes = tuple(p.sizes[0])
    return Value([], x.axes, sizes, tuple(range(len(sizes))))


@handles("permute", "transpose", "t")
def _permute(p: Place, x: Value, *dims: Any) -> Value:
    rank = len(x.sizes)
    order = list(range(rank))
    if p.name.split("/")[0] == "permute":
        order = [d % rank for d in dims[0]]
    else:
        a, b = (d % rank for d in dims) if dims else (0, rank - 1)
        order[a], order[b] = order[b], order[a]
    if x.base is not None:
        return replace(x, dims=tuple(x.dims[d] for d in order))
    return Value([x.axes[d] for d in order])


@handles("unsqueeze")
def _unsqueeze(p: Place, x: Value, dim: int) -> Value:
    at = dim % (len(x.sizes) + 1)
    if x.base is not None:
        return replace(x, dims=(*x.dims[:at], None, *x.dims[at:]))
    return Value([*x.axes[:at], [], *x.axes[at:]])


@handles("squeeze")
def _squeeze(p: Place, x: Value, dims: Any = None) -> Value:
    rank, sizes = len(x.sizes), x.sizes
    given = range(rank) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {d % rank for d in given if sizes[d] == 1}
    if x.base is not None:
        return replace(x, dims=tuple(d for i, d in enumerate(x.dims) if i not in gone))
    return Value([axis for i, axis in enumerate(x.axes) if i not in gone])


@handles("expand")
def _expand(p: Place, x: Value, shape: Any, **options: Any) -> Value:
    sizes = p.sizes[0]
    old = [[] for _ in range(len(sizes) - len(x.sizes))] + x.axes
    return Value(
        [p.fresh(d, n, "expand") if length(a) != n else a for d, (a, n) in enumerate(zip(old, sizes, strict=True))]
    )


@handles("repeat")
def _repeat(p: Place, x: Value, times: Sequence[int]) -> Value:
    old = [*([] for _ in range(len(times) - len(x.sizes))), *x.axes]
    return Value([[*p.fresh(d, n, "repeat"), *axis] for d, (axis, n) in enumerate(zip(old, times, strict=True))])


@handles("cat")
def _cat(p: Place, values: Sequence[Value], dim: int = 0) -> Value:
    values = [v for v in values if v.sizes != [0]]
    rank = len(values[0].axes)
    dim %= rank
    others = [d for d in range(rank) if d != dim]
    rest = p.equations.equation("sum", [[v.axes[d] for d in others] for v in values], [others] * len(values), others)
    along = [v.axes[dim] or p.fresh(i, 1, "cat") for i, v in enumerate(values)]
    axes = dict(zip(others, rest, strict=True)) | {dim: joined(along)}
    return Value([axes[d] for d in range(rank)])


def _part(p: Place, x: Value, dim: int, first: int, last: int, tag: str = "") -> Value:
    # A range of one dimension. Of a view that splits a dimension, it is a view of a range.
    dim %= len(x.sizes)
    if x.base is not None and (found := _of_base(x, dim, first, last)) is not None:
        return found
    axes = list(x.axes)
    piece = sliced(axes[dim], first, last)
    if piece is None:
        stop(p, axes[dim], "a range of positions")
        piece = p.fresh(dim, last - first, f"part {tag}", frozen=why_frozen(axes[dim]))
    axes[dim] = piece
    return Value(axes)


def _of_base(x: Value, dim: int, start: int, stop: int) -> Value | None:
    where, base = x.dims[dim], x.base
    if where is None or base is None:
        return None
    before = math.prod(x.shape[:where])
    place = 1
    for d, axis in enumerate(base):
        if place == before and length(axis) > x.shape[where] and not length(axis) % x.shape[where]:
            inner = length(axis) // x.shape[where]
            if math.prod(x.shape[where + 1 :]) < inner:
                return None
            piece = sliced(axis, start * inner, stop * inner)
            if piece is None:
                return None
            shape = (*x.shape[:where], stop - start, *x.shape[where + 1 :])
            return replace(x, base=[*base[:d], piece, *base[d + 1 :]], shape=shape)
        place *= length(axis)
    return None


@handles("select")
def _select(p: Place, x: Value, dim: int, index: int) -> Value:
    dim %= len(x.sizes)
    index %= x.sizes[dim]
    return _squeeze(p, _part(p, x, dim, index, index + 1), dim)


@handles("slice")
def _slice(p: Place, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Value:
    size = x.sizes[dim % len(x.sizes)]
    first, last, _ = slice(start, end).indices(size)
    if step != 1 and size % step == 0 and first < step and last > size - step:
        # One of so many that lie side by side.
        at = dim % len(x.sizes)
        apart = reshaped([x.axes[at]], (size // step, step))
        return _select(p, Value([*x.axes[:at], *apart, *x.axes[at + 1 :]]), at + 1, first)
    if step != 1:
        axes, at = list(x.axes), dim % len(x.sizes)
        stop(p, axes[at], "every other position")
        axes[at] = p.fresh(at, p.sizes[0][at], frozen=why_frozen(axes[at]))
        return Value(axes)
    return _part(p, x, dim, first, max(first, last))


@handles("split_with_sizes", "split", "chunk")
def _split(p: Place, x: Value, sizes: Any, dim: int = 0) -> Any:
    found, place = list[Value](), 0
    for i, own in enumerate(p.sizes):
        n = own[dim % len(own)]
        found.append(_part(p, x, dim, place, place + n, f"{i}"))
        place += n
    return tuple(found)


@handles("unbind")
def _unbind(p: Place, x: Value, dim: int = 0) -> Any:
    return tuple(_select(p, x, dim, i) for i in range(len(p.sizes)))


@handles("stack")
def _stack(p: Place, values: Sequence[Value], dim: int = 0) -> Value:
    dim %= len(values[0].sizes) + 1
    return _cat(p, [_unsqueeze(p, v, dim) for v in values], dim)


@handles("constant_pad_nd")
def _pad(p: Place, x: Value, pad: Sequence[int], value: Any = 0) -> Value:
    axes = list(x.axes)
    for i in range(len(pad) // 2):
        d, low, high = len(axes) - 1 - i, pad[2 * i], pad[2 * i + 1]
        if not (low or high):
            continue
        if is_frozen(axes[d]) or low < 0 or high < 0 or value:
            (axes[d],) = positions(p, [axes[d]], [], "positions that are padded") or [
                p.fresh(d, p.sizes[0][d], "pad", frozen="positions that are padded")
            ]
        else:
            ends = [p.fresh(d, n, tag) for n, tag in ((low, "low"), (high, "high"))]
            ends = [p.equations.unknown(end) if p.equations.fine else end for end in ends]
            axes[d] = joined([a for a in (ends[0], axes[d], ends[1]) if length(a) > 1 or a is axes[d]])
    return Value(axes)
