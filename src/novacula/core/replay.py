"""How a recording is replayed: with the shortest calls, in memory that is free.

There are two ways. `called` runs its operations one after another, as Python code, with new memory for what no old
memory can be found for. `in_place` keeps the memory of every result: then all views (transposes, reshapes, parts) are
made once and for all, and what remains is a list of calls of which not one argument changes. That saves a third of the
calls and more of the time, but inputs are copied to where they are expected.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from novacula.core.graphs import Values, evaluate, memory, operations

Function: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""From tensors to tensors; what it does with autograd it does inside, and its results carry no graph."""

aten = torch.ops.aten

_SYMMETRIC = {"add", "mul"}
_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": Tensor.add_,
    "sub": Tensor.sub_,
    "mul": Tensor.mul_,
    "div": Tensor.div_,
    "neg": Tensor.neg_,
    "exp": Tensor.exp_,
    "relu": Tensor.relu_,
    "tanh": Tensor.tanh_,
    "sigmoid": Tensor.sigmoid_,
    "threshold_backward": aten.threshold_backward.grad_input,
}


def called(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Function:
    """Replay a recording operation by operation.

    Args:
        graph: A recording; it is changed, and must not be passed through further passes.
        inputs: Inputs like those that it will get, contiguous.

    Returns:
        The function.
    """
    spare = _spare(graph, evaluate(graph, inputs))
    _shorten(graph, evaluate(graph, inputs))
    for node, old in spare.items():
        name = _name(node)
        if name == "threshold_backward":
            node.kwargs = {"grad_input": old}
        else:
            node.args = (old, *(a for a in node.args if a is not old))
        node.target = _ELEMENTWISE[name]
    graph.recompile()
    return plainly(graph)


def plainly(graph: fx.GraphModule) -> Function:
    """Replay a recording as it is.

    Args:
        graph: A recording.

    Returns:
        The function.
    """
    forward = graph.forward  # the module's own call looks for hooks first

    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            # Where memory is reused depends on how inputs lie.
            return forward(*[x.contiguous() for x in inputs])

    return call


def in_place(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Function:
    """Replay a recording in memory that stays where it is.

    Args:
        graph: A recording.
        inputs: Inputs like those that it will get, contiguous.

    Returns:
        The function. It gives new tensors in every call, and may be called by several threads, one at a time.
    """
    spare = _spare(graph, evaluate(graph, inputs))
    places = [x.detach().clone() for x in inputs]
    values: Values = {}
    rest = iter(places)
    program: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(rest)
        elif node.op == "get_attr":
            values[node] = getattr(graph, node.target).detach()
        else:
            args, kwargs = (fx.map_arg(a, values.__getitem__) for a in (node.args, node.kwargs))
            if node.op == "output":
                values[node] = args[0]
                break
            found = node.target(*args, **kwargs)
            sources = {memory(x) for n in node.all_input_nodes for x in _parts(values[n])}
            if not all(memory(x) in sources for x in _parts(found)):
                if node in spare:
                    found = values[spare[node]].copy_(found)
                program.append((*_writer(node.target, args, kwargs, found),))
            values[node] = found
    results = values[next(n for n in graph.graph.nodes if n.op == "output")]
    lock = threading.Lock()

    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        with lock, torch.no_grad():
            for place, x in zip(places, inputs, strict=True):
                place.copy_(x)
            for function, args, kwargs in program:
                function(*args, **kwargs)
            return tuple([x.clone() for x in results])

    return call
