"""What complex numbers, Fourier transforms and linear systems say of axes.

Complex numbers are pairs of real ones: what acts on an axis acts on both alike, so that real and imaginary parts,
conjugates and transforms along other axes are linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from novacula.paths.symmetries.equations import ANY, LINEAR, blank
from novacula.paths.symmetries.operations.values import Place, Value, handles, pointwise, positions, stop

_PAIR = "parts of complex numbers"


@handles("view_as_complex")
def _paired(p: Place, x: Value) -> Value:
    stop(p, x.axes[-1], _PAIR)
    return Value(x.axes[:-1])


@handles("view_as_real")
def _parts(p: Place, x: Value) -> Value:
    return Value([*x.axes, p.fresh(-1, 2, "parts", frozen=_PAIR)])


@handles("complex")
def _complex(p: Place, real: Value, imaginary: Value) -> Value:
    return pointwise(p, "sum", [real, imaginary])


@handles("real", "imag", "_conj", "conj", "_conj_physical", "resolve_conj", "resolve_neg")
def _linear(p: Place, x: Value) -> Value:
    return x


@handles("angle", "polar", "sgn")
def _not_linear(p: Place, *operands: Value) -> Value:
    return pointwise(p, ANY, operands)


@handles("_fft_r2c", "_fft_c2r", "_fft_c2c")
def _fourier(p: Place, x: Value, dims: Sequence[int], *rest: Any) -> Value:
    rank, sizes = len(x.axes), p.sizes[0]
    along = [d % rank for d in dims]
    left = [d for d in range(rank) if d not in along]
    new = positions(p, [x.axes[d] for d in along], [sizes[d] for d in along], "positions of a Fourier transform")
    rest_of_it = pointwise(p, LINEAR, [Value([x.axes[d] for d in left])]).axes
    out = dict(zip(along, new, strict=True)) | dict(zip(left, rest_of_it, strict=True))
    return Value([out[d] for d in range(rank)])


@handles("_linalg_solve_ex", "linalg_inv_ex")
def _solved(p: Place, a: Value, b: Value | None = None, **options: Any) -> Any:
    # A⁻¹ B: rows of A and B go together and are gone, columns of A are rows of what is found.
    batch = [("batch", d) for d in range(len(a.axes) - 2)]
    if isinstance(b, Value):
        vector = len(b.axes) < len(a.axes)
        axes, labels = [a.axes, b.axes], [[*batch, "i", "j"], [*batch, "i", *([] if vector else ["k"])]]
        out = [*batch, "j", *([] if vector else ["k"])]
    else:
        axes, labels, out = [a.axes], [[*batch, "i", "j"]], [*batch, "j", "i"]
    if p.equations.fine:
        for own in axes:
            for axis in own:
                p.equations.vanish(axis)
    found = Value([blank(axis) for axis in p.equations.equation("product", axes, labels, out)])
    return tuple(found if i == 0 else None for i in range(len(p.sizes)))
