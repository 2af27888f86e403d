"""What functions of elements and reductions say of axes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from novacula.paths.symmetries.equations import ANY, EVEN, HOMOGENEOUS, LINEAR, ODD
from novacula.paths.symmetries.operations.values import Place, Value, handles, pointwise


@handles("add", "sub", "rsub")
def _add(p: Place, a: Any, b: Any, alpha: Any = 1) -> Value:
    if isinstance(a, Value) and isinstance(b, Value):
        return pointwise(p, "sum", [a, b])
    value, number = (a, b) if isinstance(a, Value) else (b, a)
    if number == 0:
        return value
    return pointwise(p, ANY, [value])


@handles("mul")
def _mul(p: Place, a: Any, b: Any) -> Value:
    if not (isinstance(a, Value) and isinstance(b, Value)):
        return a if isinstance(a, Value) else b
    if a is b:
        return _pow(p, a, 2)
    if not p.absorbed:
        return pointwise(p, "product", [a, b])
    # What is absorbed comes second: maps pass along the first.
    first, second = (a, b) if len(a.axes) > len(b.axes) else (b, a)
    return pointwise(p, "product", [first, second], through=range(len(first.axes)))


@handles("div")
def _div(p: Place, a: Any, b: Any, rounding_mode: Any = None) -> Value:
    if rounding_mode is not None or not isinstance(a, Value):
        return pointwise(p, ANY, [v for v in (a, b) if isinstance(v, Value)])
    if not isinstance(b, Value):
        return a
    return pointwise(p, "product", [a, b], power=(Fraction(1), Fraction(-1)))


@handles("neg", "clone", "_to_copy", "alias", "detach", "contiguous", "lift_fresh_copy")
def _same(p: Place, a: Value, *rest: Any, **options: Any) -> Value:
    return a


@handles("pow")
def _pow(p: Place, a: Any, exponent: Any) -> Value:
    if not isinstance(a, Value) or isinstance(exponent, Value):
        return pointwise(p, ANY, [v for v in (a, exponent) if isinstance(v, Value)])
    power = Fraction(exponent).limit_denominator(64)
    squared = [d % len(a.axes) for d in p.summed] if power == 2 else []
    return pointwise(p, "product", [a], power=(power,), squared=squared)


@handles("rsqrt", "sqrt", "reciprocal")
def _root(p: Place, a: Value) -> Value:
    power = {"rsqrt": Fraction(-1, 2), "sqrt": Fraction(1, 2), "reciprocal": Fraction(-1)}[p.name.split("/")[0]]
    return pointwise(p, "product", [a], power=(power,))


@handles("relu", "leaky_relu", "abs")
def _homogeneous(p: Place, a: Value, *rest: Any) -> Value:
    return pointwise(p, EVEN if p.name.startswith("abs") else HOMOGENEOUS, [a])


@handles("linalg_vector_norm")
def _length(p: Place, a: Value, order: Any = 2, dims: Any = None, keep: bool = False) -> Value:
    rank = len(a.axes)
    drop = {d % rank for d in (range(rank) if dims is None else dims)}
    left = [d for d in range(rank) if d not in drop]
    axes = dict(zip(left, p.equations.equation(EVEN, [a.axes], [range(rank)], left), strict=True))
    return Value([axes.get(d, []) for d in range(rank) if keep or d in axes])


@handles("tanh", "sin", "erf", "asinh", "atan", "sinh", "tan", "atanh", "asin", "erfinv")
def _odd(p: Place, a: Value) -> Value:
    return pointwise(p, ODD, [a])


@handles("clamp", "hardtanh")
def _clamp(p: Place, a: Value, low: Any = None, high: Any = None) -> Value:
    if low == 0 and high is None:
        return pointwise(p, HOMOGENEOUS, [a])
    numbers = isinstance(low, (int, float)) and isinstance(high, (int, float))
    return pointwise(p, ODD if numbers and low == -high else ANY, [a])


@handles(
    "gelu", "sigmoid", "silu", "exp", "exp2", "log", "log2", "log1p", "expm1", "softplus", "elu", "selu", "mish",
    "hardswish", "hardsigmoid", "cos", "cosh", "sign", "floor", "ceil", "round", "isnan", "isinf", "logical_not", "eq",
    "ne", "lt", "le", "gt", "ge", "where", "maximum", "minimum", "logical_and", "logical_or", "bitwise_not", "relu6",
    "bitwise_and", "bitwise_or", "masked_fill", "remainder", "fmod", "atan2", "log_sigmoid", "log_sigmoid_forward",
    "threshold", "celu", "_softmax", "_log_softmax", "softmax", "log_softmax", "hypot", "trunc",
)  # fmt: skip
def _any(p: Place, *operands: Any, **options: Any) -> Value:
    return pointwise(p, ANY, [v for v in operands if isinstance(v, Value)])


@handles("prelu", "_prelu_kernel")
def _prelu(p: Place, a: Value, weight: Value) -> Value:
    own = weight if len(weight.axes) == len(a.axes) else Value(
        [weight.axes[0] if d == min(1, len(a.axes) - 1) else [] for d in range(len(a.axes))]
    )  # fmt: skip
    return pointwise(p, "product", [pointwise(p, HOMOGENEOUS, [a]), pointwise(p, ANY, [own])])


@handles("mean", "sum", "amax", "amin", "any", "all", "max", "min", "var", "argmax", "logsumexp", "prod")
def _reduced(p: Place, a: Value, dims: Any = None, keep: Any = False, *rest: Any, **options: Any) -> Any:
    rank, name = len(a.axes), p.name.split("/")[0]
    keep = options.get("keepdim", keep)
    gone = range(rank) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    drop = {d % rank for d in gone} if rank else set()
    left = [d for d in range(rank) if d not in drop]
    linear = name in ("mean", "sum")
    known = sorted(drop) if linear and p.summed else []
    kept = p.equations.equation(LINEAR if linear else ANY, [a.axes], [range(rank)], left, squared=known)
    axes = dict(zip(left, kept, strict=True))
    found = Value([axes.get(d, []) for d in range(rank) if keep or d in axes])
    return (found, found) if len(p.sizes) > 1 else found


@handles("_assert_tensor_metadata", "_assert_async", "_assert_scalar")
def _nothing(p: Place, *args: Any, **options: Any) -> None:
    return None
