"""What operations say of axes that choose by indices: lookups, bags, scattering, the largest.

An axis along which something is chosen stays as it is. Along the others an index may differ (then its axes are those of
what it chooses from, and go with them), or be the same everywhere (then it was expanded, and its axis fits any).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from novacula.paths.symmetries.equations import ANY, HOMOGENEOUS, LINEAR, blank
from novacula.paths.symmetries.operations.values import Place, Value, handles, pointwise, stop


@handles("embedding")
def _embedding(p: Place, weight: Value, ids: Value, *rest: Any) -> Value:
    stop(p, weight.axes[0], "rows of a table")
    return Value([*(blank(axis) for axis in ids.axes), weight.axes[1]])


@handles("embedding_renorm")
def _shortened(p: Place, weight: Value, *rest: Any) -> Value:
    stop(p, weight.axes[0], "rows of a table")
    return Value([weight.axes[0], *pointwise(p, ANY, [Value(weight.axes[1:])]).axes])


@handles("_embedding_bag", "_embedding_bag_forward_only")
def _bag(p: Place, weight: Value, ids: Value, offsets: Value, by: bool = False, mode: int = 0, *rest: Any) -> Any:
    stop(p, weight.axes[0], "rows of a table")
    for factor in (r for r in rest if isinstance(r, Value)):
        stop(p, factor.axes[0], "chosen by index")
    (units,) = pointwise(p, HOMOGENEOUS if mode == 2 else LINEAR, [Value(weight.axes[1:])]).axes
    return (Value([p.fresh(0, p.sizes[0][0], "bags", frozen="chosen by index"), units]), None, None, None)


def _others(p: Place, dim: int, values: Sequence[Value]) -> tuple[int, list[list[int]]]:
    # Let nothing move the axis of choice, nor others of which only a range is chosen from; the rest is the same axis.
    rank = len(values[0].sizes)
    dim = dim % rank if rank else 0
    for d in range(rank):
        if d == dim or len({v.sizes[d] for v in values}) > 1:
            for v in values:
                stop(p, v.axes[d], "chosen by index")
    return dim, [[d for d in range(rank) if d != dim]] * len(values)


@handles("gather")
def _gather(p: Place, x: Value, dim: int, index: Value, *rest: Any, **options: Any) -> Value:
    dim, labels = _others(p, dim, [x, index])
    axes = [[v.axes[d] for d in own] for v, own in zip((x, index), labels, strict=True)]
    out = dict(zip(labels[0], p.equations.equation("product", axes, labels, labels[0]), strict=True))
    new = {d: p.fresh(d, n, "chosen", frozen="chosen by index") for d, n in enumerate(p.sizes[0])}
    same = {d: a for d, a in out.items() if x.sizes[d] == p.sizes[0][d]}
    return Value([(new | same)[d] for d in range(len(new))])


@handles("scatter", "scatter_add", "scatter_reduce")
def _scatter(p: Place, x: Value, dim: int, index: Value, source: Any, *rest: Any, **options: Any) -> Value:
    many = [x, source] if isinstance(source, Value) else [x]
    dim, labels = _others(p, dim, [*many, index])
    mine, *others, chosen = ([v.axes[d] for d in own] for v, own in zip([*many, index], labels, strict=True))
    mine = p.equations.equation("product", [mine, chosen], labels[:2], labels[0])
    name = p.name.split("/")[0]
    if not others or "reduce" in rest or name == "scatter_reduce":
        rest_of_it = pointwise(p, ANY, [Value(mine), *(Value(o) for o in others)]).axes
    else:
        rest_of_it = p.equations.equation("sum", [mine, *others], labels[: 1 + len(others)], labels[0])
    out = dict(zip(labels[0], rest_of_it, strict=True)) | {dim: x.axes[dim]}
    return Value([out[d] for d in range(len(out))])


@handles("index_add")
def _index_add(p: Place, x: Value, dim: int, index: Value, source: Value, **options: Any) -> Value:
    dim %= len(x.axes)
    for axis in (x.axes[dim], source.axes[dim]):
        stop(p, axis, "chosen by index")
    left = [d for d in range(len(x.axes)) if d != dim]
    rest = p.equations.equation("sum", [[v.axes[d] for d in left] for v in (x, source)], [left, left], left)
    out = dict(zip(left, rest, strict=True)) | {dim: x.axes[dim]}
    return Value([out[d] for d in range(len(out))])


@handles("topk", "sort")
def _ordered(p: Place, x: Value, *args: Any, **options: Any) -> Any:
    given = args[1:2] if p.name.startswith("topk") else args[:1]
    dim = options.get("dim", given[0] if given else -1) % len(x.axes)
    stop(p, x.axes[dim], "chosen by size")
    left = [d for d in range(len(x.axes)) if d != dim]
    rest = pointwise(p, ANY, [Value([x.axes[d] for d in left])]).axes
    out = dict(zip(left, rest, strict=True)) | {dim: p.fresh(dim, p.sizes[0][dim], "chosen", frozen="chosen by size")}
    found = Value([out[d] for d in range(len(out))])
    return found, Value([blank(axis) for axis in found.axes])
