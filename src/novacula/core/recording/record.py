"""Functions of tensors, recorded once as the list of the tensor operations that they come to, and replayed.

That saves the bookkeeping of autograd, of `torch.func` and of modules, which takes longer than the arithmetic of a
small network. A recording is made faster by the passes of `novacula.core.recording.passes`, and for a long run compiled
where a C++ compiler is present. It is held against the function itself at two points before it is used. Where anything
fails or differs (control flow that depends on data, random numbers), the function itself is used, without a word.
Recording takes more memory than the function does: that this runs out is the caller's to know, who may ask for less.

A recording is for inputs of one shape and dtype, and holds the tensors that the function held: changes that are written
into them are seen, unless they were declared fixed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from novacula.core.memory import is_out_of_memory
from novacula.core.recording import layout, replay
from novacula.core.recording import passes as graphs

Function: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""From tensors to tensors; what it does with autograd it does inside, and its results carry no graph."""

_COMPILING = 30.0  # seconds that compiling takes, about
_CALL, _ELEMENT = 2e-6, 1e-10  # seconds that compiling saves for an operation, and for an element that it computes


def record(
    function: Function, *points: Sequence[Tensor], fold: bool = False, calls: int = 0, fewer: bool = True
) -> Function | None:
    """Record a function; where memory runs out, raise that if ``fewer`` inputs can be asked for, else return None."""
    try:
        # The last passes rely on how inputs lie in memory.
        points = tuple([x.contiguous() for x in point] for point in points)
        expected = [function(*point) for point in points]
        graph = make_fx(function)(*points[0])
        if graphs.random(graph):
            return None
        with torch.no_grad():
            if not graphs.pure(graph):
                return _checked(_without_grad(graph), points, expected)
            graphs.normalise(graph, points[0])
            graphs.simplify(graph, points[0], fold=fold)
            layout.orient(graph, points[0], fold=fold)
            graphs.own_outputs(graph, points[0])
            graph.recompile()
            if calls * _saving(graph, points[0]) > 2 * _COMPILING:
                compiled = compiled_graph(graph, points[0])
                if compiled is not None and _checked(compiled, points, expected) is not None:
                    return compiled
            replay.bind(graph, points[0])
            replay.reuse(graph, points[0])
            graph.recompile()
        return _checked(_without_grad(graph), points, expected)
    except Exception as error:
        # What tracing cannot follow raises errors of many kinds; where the function itself is at fault, it will raise
        # its own when it is called.
        if fewer and is_out_of_memory(error):
            raise
        return None


def compiled_graph(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Function | None:
    """Compile a recording with torch's own compiler, which writes C++ (on a processor) and takes up to a minute."""
    try:
        import torch._inductor as inductor
        from torch._inductor import config

        with warnings.catch_warnings(), config.patch(compile_threads=1), torch.no_grad():
            warnings.simplefilter("ignore")
            inner: Any = inductor.compile(graph, [x.contiguous() for x in inputs])

        def call(*inputs: Tensor) -> tuple[Tensor, ...]:
            with torch.no_grad():
                return tuple(inner(*(x.contiguous() for x in inputs)))

        call(*inputs)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None
    return call


def _without_grad(graph: fx.GraphModule) -> Function:
    forward = graph.forward  # the module's own call looks for hooks first

    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return forward(*[x.contiguous() for x in inputs])

    return call


def _checked(
    recording: Function, points: Sequence[Sequence[Tensor]], expected: Sequence[tuple[Tensor, ...]]
) -> Function | None:
    eps = max(torch.finfo(x.dtype).eps for x in points[0] if x.is_floating_point())
    same = all(
        _close(a, b, eps**0.5)
        for point, answers in zip(points, expected, strict=True)
        for a, b in zip(recording(*point), answers, strict=True)
    )
    return recording if same else None


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    # A sum of many terms is as exact as its largest ones.
    finite = b[torch.isfinite(b)].abs()
    size = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * size, equal_nan=True)


def _saving(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> float:
    values = graphs.evaluate(graph, inputs)
    made = [values[n] for n in graph.graph.nodes if n.op == "call_function"]
    new = [v for v in made if isinstance(v, Tensor) and v._base is None]
    return _CALL * len(made) + _ELEMENT * sum(v.numel() for v in new)
