"""What products with weights, convolutions, attention and norms say of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from novacula.paths.symmetries.axes import length, reshaped
from novacula.paths.symmetries.equations import ANY, HOMOGENEOUS, LINEAR, blank
from novacula.paths.symmetries.operations.values import Place, Value, handles, pointwise, positions


@handles("_cdist_forward", "cdist")
def _distances(p: Place, a: Value, b: Value, *rest: Any) -> Value:
    batch = list(range(len(a.axes) - 2))
    out = p.equations.equation(
        "product", [a.axes, b.axes], [[*batch, "i", "k"], [*batch, "j", "k"]], [*batch, "i", "j"]
    )
    for axis in [*a.axes, *b.axes] if p.equations.fine else ():
        p.equations.vanish(axis)
    return Value([blank(axis) for axis in out])


@handles("_trilinear")
def _trilinear(
    p: Place, a: Value, b: Value, c: Value, one: Any, two: Any, three: Any, summed: Any, *rest: Any
) -> Value:
    rank = len(a.axes) + len(one)
    labels = [[d for d in range(rank) if d not in own] for own in (one, two, three)]
    left = [d for d in range(rank) if d not in summed]
    return Value(p.equations.equation("product", [a.axes, b.axes, c.axes], labels, left))


@handles("mm", "bmm", "matmul")
def _matmul(p: Place, a: Value, b: Value) -> Value:
    batch = [("batch", d) for d in range(len(a.axes) - 2)]
    labels = [[*batch, "i", "k"], [*batch, "k", "j"]]
    return Value(p.equations.equation("product", [a.axes, b.axes], labels, [*batch, "i", "j"]))


@handles("addmm", "baddbmm")
def _addmm(p: Place, bias: Value, a: Value, b: Value, **options: Any) -> Value:
    return pointwise(p, "sum", [_matmul(p, a, b), bias])


@handles("linear")
def _linear(p: Place, x: Value, weight: Value, bias: Value | None = None) -> Value:
    own = [("x", d) for d in range(len(x.axes) - 1)]
    out = Value(p.equations.equation("product", [x.axes, weight.axes], [[*own, "k"], ["o", "k"]], [*own, "o"]))
    return out if bias is None else pointwise(p, "sum", [out, bias])


@handles("dot", "mv")
def _vector(p: Place, a: Value, b: Value) -> Value:
    rows = ["i"] * (len(a.axes) - 1)
    return Value(p.equations.equation("product", [a.axes, b.axes], [[*rows, "k"], ["k"]], rows))


def attention(p: Place, q: Value, k: Value, v: Value, mask: Value | None) -> Value:
    """Softmax of products of queries and keys, times values."""
    rank = len(q.axes)
    batch = list(range(rank - 2))
    scores = p.equations.equation(
        "product", [q.axes, k.axes], [[*batch, "l", "e"], [*batch, "s", "e"]], [*batch, "l", "s"]
    )
    seen = pointwise(p, ANY, [Value(scores)] if mask is None else [Value(scores), mask])
    labels = [[*batch, "l", "s"], [*batch, "s", "f"]]
    return Value(p.equations.equation("product", [seen.axes, v.axes], labels, [*batch, "l", "f"]))


@handles("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu")
def _attention(p: Place, q: Value, k: Value, v: Value, *rest: Any, **options: Any) -> Any:
    mask = options.get("attn_mask", next((r for r in rest if isinstance(r, Value)), None))
    found = attention(p, q, k, v, mask)
    return (found, None) if len(p.sizes) > 1 else found


@handles("convolution")
def _convolution(
    p: Place, x: Value, weight: Value, bias: Value | None, stride: Any, pad: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Value:  # fmt: skip
    space = len(weight.axes) - 2
    lead = x.axes[: -space - 1]
    sizes = p.sizes[0]
    new = positions(p, [*x.axes[-space:], *weight.axes[2:]], sizes[-space:], "positions of a convolution")
    first, second = weight.axes[:2]
    one, two = length(first), length(second)
    channels = x.axes[-space - 1]
    if transposed:
        g, i = reshaped([first], [groups, one // groups])
        o, size = second, groups * two
    else:
        g, o = reshaped([first], [groups, one // groups])
        i, size = second, one
    xg, xi = reshaped([channels], [groups, length(channels) // groups])
    own = [("lead", d) for d in range(len(lead))]
    out = p.equations.equation(
        "product", [[*lead, xg, xi], [g, i, o]], [[*own, "g", "i"], ["g", "i", "o"]], [*own, "g", "o"]
    )
    axes = [*out[:-2], [*out[-2], *out[-1]]]
    if length(axes[-1]) != size:
        raise ValueError("channels do not fit")  # pragma: no cover
    found = Value([*axes, *new])
    if bias is None:
        return found
    return pointwise(p, "sum", [found, Value([bias.axes[0], *([] for _ in new)])])


@handles("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d",
         "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "upsample_nearest2d",
         "upsample_bilinear2d", "upsample_nearest1d", "upsample_bicubic2d", "upsample_nearest3d", "reflection_pad1d",
         "reflection_pad2d", "reflection_pad3d", "replication_pad2d", "_adaptive_avg_pool1d", "adaptive_avg_pool1d",
         "max_pool1d", "max_pool2d")  # fmt: skip
def _pooled(p: Place, x: Value, *rest: Any, **options: Any) -> Any:
    name, sizes = p.name.split("/")[0], p.sizes[0]
    space = next(int(c) for c in name if c.isdigit())
    new = positions(p, x.axes[-space:], sizes[-space:], "positions of a pool")
    lead = Value(x.axes[:-space])
    found = Value([*pointwise(p, HOMOGENEOUS if "max" in name else LINEAR, [lead]).axes, *new])
    return (found, Value([blank(a) for a in found.axes])) if len(p.sizes) > 1 else found


def _affine(p: Place, x: Value, weight: Value | None, bias: Value | None, dims: Sequence[int]) -> Value:
    # Times a weight and plus a bias along dimensions.
    rank = len(x.axes)
    for kind, given in (("product", weight), ("sum", bias)):
        if given is not None:
            axes = dict(zip(dims, given.axes, strict=True))
            x = pointwise(p, kind, [x, Value([axes.get(d, []) for d in range(rank)])])
    return x


@handles("native_layer_norm", "_fused_rms_norm", "native_group_norm", "rms_norm", "layer_norm")
def _norm(p: Place, x: Value, *rest: Any) -> Any:
    name, rank = p.name.split("/")[0], len(x.axes)
    if name == "native_group_norm":
        weight, bias, groups = rest[0], rest[1], rest[5]
        split = reshaped([x.axes[1]], [groups, length(x.axes[1]) // groups])
        inside = Value([x.axes[0], *split, *x.axes[2:]])
        axes = pointwise(p, ANY, [inside]).axes
        found = _affine(p, Value([axes[0], [*axes[1], *axes[2]], *axes[3:]]), weight, bias, [1])
    else:
        shape, weight = rest[0], rest[1] if len(rest) > 1 else None
        bias = rest[2] if len(rest) > 2 and isinstance(rest[2], Value) else None
        found = _affine(p, pointwise(p, ANY, [x]), weight, bias, range(rank - len(shape), rank))
    return (found, None, None) if len(p.sizes) > 1 else found


@handles("_native_batch_norm_legit_no_training")
def _batch_norm(
    p: Place, x: Value, weight: Value | None, bias: Value | None, mean: Value, var: Value, *rest: Any
) -> Any:
    moved = _affine(p, x, None, mean, [1])
    return _affine(p, _affine(p, moved, pointwise(p, ANY, [var]), None, [1]), weight, bias, [1]), None, None


@handles("_native_batch_norm_legit")
def _batch_statistics(p: Place, x: Value, weight: Value | None, bias: Value | None, *rest: Any) -> Any:
    return _affine(p, pointwise(p, ANY, [x]), weight, bias, [1]), None, None
