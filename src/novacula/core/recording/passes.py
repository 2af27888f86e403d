"""Passes over a recorded list of tensor operations that make it shorter.

A recording (see `novacula.core.recording.record`) has fixed shapes and no control flow. `simplify` drops operations
that change nothing, that come twice or whose results never change. `novacula.core.recording.layout` and
`novacula.core.recording.replay` hold the passes that make it faster. None of them times anything: the choices follow
from the shapes, so that the same run gives the same numbers twice. The passes change a recording in place;
``recompile()`` it when they are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

aten = torch.ops.aten

Values: TypeAlias = dict[fx.Node, Any]
"""What every operation gave on one set of inputs."""

_FOLDED = 2**24  # elements that a result kept from the recording may have

_SHAPE_ONLY = {
    aten.ones_like.default,
    aten.zeros_like.default,
    aten.full_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
}
_BY_ONE = {aten.mul.Scalar, aten.mul.Tensor, aten.div.Scalar, aten.div.Tensor, aten.pow.Tensor_Scalar}
_COPIES = {aten.clone.default, aten._to_copy.default}
_RESHAPES = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.select.int,
    aten.select_backward.default,
    aten.stack.default,
    aten.expand.default,
}


def evaluate(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Values:
    """Replay a recording, and keep everything."""
    found: Values = {}
    rest = iter(inputs)
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            found[node] = next(rest)
        elif node.op == "get_attr":
            found[node] = getattr(graph, node.target)
        else:
            args, kwargs = (fx.map_arg(a, found.__getitem__) for a in (node.args, node.kwargs))
            found[node] = args[0] if node.op == "output" else node.target(*args, **kwargs)
    return found


def pure(graph: fx.GraphModule) -> bool:
    """Whether no operation writes into a tensor; only then may the passes be used."""
    return not any(n.target._schema.is_mutable for n in operations(graph))


def random(graph: fx.GraphModule) -> bool:
    """Whether an operation draws random numbers."""

    def draws(node: fx.Node) -> bool:
        operation: Any = node.target
        if torch.Tag.nondeterministic_seeded not in operation.tags:
            return False
        for i, a in enumerate(operation._schema.arguments):
            if a.name in {"p", "dropout_p"}:  # dropout that drops nothing, as in attention, draws nothing
                value = node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value)
                return bool(value != 0)
        return True

    return any(draws(n) for n in operations(graph))


def normalise(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
    """Write operations that have several names in one way."""
    values, g = evaluate(graph, inputs), graph.graph
    for node in list(g.nodes):
        with g.inserting_before(node):
            new = None
            if node.target in _RESHAPES and (whole := _whole(node, values)) is not None:
                # That is one operation, for whatever strides later passes leave.
                new = g.call_function(aten.reshape.default, (whole, list(values[node].shape)))
            elif node.target in {aten.t.default, aten.transpose.int, aten.permute.default}:
                if _swaps_last_two(node, values[node].ndim):
                    new = transposed(g, node.args[0])
            elif node.target is aten._log_softmax_backward_data.default:
                slope, log_p, dim, dtype = node.args
                if values[slope].dtype == dtype:
                    # As single operations, those parts of it that never change need not be repeated.
                    total = g.call_function(aten.sum.dim_IntList, (slope, [dim], True))
                    share = g.call_function(aten.mul.Tensor, (g.call_function(aten.exp.default, (log_p,)), total))
                    new = g.call_function(aten.sub.Tensor, (slope, share))
        if new is not None:
            values[new] = values[node]
            node.replace_all_uses_with(new)
            g.erase_node(node)


def simplify(graph: fx.GraphModule, inputs: Sequence[Tensor], *, fold: bool) -> None:
    """Drop what changes nothing, what comes twice and what never changes."""
    values, g = evaluate(graph, inputs), graph.graph
    constant: set[fx.Node] = set()
    met: dict[tuple[str, ...], fx.Node] = {}
    for node in list(g.nodes):
        if node.op == "get_attr" and fold:
            constant.add(node)
        if node.op not in {"call_function", "get_attr"}:
            continue
        first = _first(node)
        if first is not None and node.target is aten.reshape.default and first.target is aten.reshape.default:
            node.update_arg(0, first.args[0])
        same = _unchanged(node, values) or met.setdefault(
            (node.op, str(node.target), repr(node.args), repr(node.kwargs)), node
        )
        if same is not node:
            node.replace_all_uses_with(same)
        elif node.op == "call_function" and isinstance(values[node], Tensor):
            fixed = node.target in _SHAPE_ONLY or all(i in constant for i in node.all_input_nodes)
            if fixed and values[node].numel() <= _FOLDED:
                kept = keep(graph, node, values[node].detach())
                values[kept] = values[node]
                constant.add(kept)
                node.replace_all_uses_with(kept)
    g.eliminate_dead_code()


def own_outputs(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> None:
    """Copy those outputs that would share memory with an input or with a constant."""
    values, g = evaluate(graph, inputs), graph.graph
    borrowed = {memory(values[n]) for n in g.nodes if n.op in {"placeholder", "get_attr"}}
    end = next(n for n in g.nodes if n.op == "output")

    def own(node: fx.Node) -> fx.Node:
        if memory(values[node]) not in borrowed:
            return node
        with g.inserting_before(end):
            return g.call_function(aten.clone.default, (node,))

    end.args = fx.map_arg(end.args, own)


def operations(graph: fx.GraphModule) -> list[Any]:
    """Its operations."""
    return [n for n in graph.graph.nodes if isinstance(n.target, torch._ops.OpOverload)]


def memory(value: Any) -> int:
    """Which memory a tensor lies in."""
    return value.untyped_storage()._cdata if isinstance(value, Tensor) else -1


def transposed(g: fx.Graph, node: Any) -> fx.Node:
    """A matrix, or a batch of them, the other way round."""
    return g.call_function(aten.transpose.int, (node, -2, -1))


def turns(node: fx.Node) -> bool:
    """Whether a node transposes matrices, as `transposed` does."""
    return node.target is aten.transpose.int and node.args[1:] == (-2, -1)


def _first(node: fx.Node) -> fx.Node | None:
    return node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None


def _whole(node: fx.Node, values: Values) -> fx.Node | None:
    # The input whose elements a node only arranges in another shape.
    inputs = node.all_input_nodes
    return inputs[0] if len(inputs) == 1 and values[inputs[0]].numel() == values[node].numel() else None


def _swaps_last_two(node: fx.Node, ndim: int) -> bool:
    if node.target is aten.t.default:
        return ndim == 2
    if node.target is aten.transpose.int:
        return {int(d) % ndim for d in node.args[1:]} == {ndim - 2, ndim - 1}  # type: ignore[arg-type]
    order = [int(d) % ndim for d in node.args[1]]  # type: ignore[union-attr]
    return order == [*range(ndim - 2), ndim - 1, ndim - 2]


def keep(graph: fx.GraphModule, before: fx.Node, value: Tensor) -> fx.Node:
    """Hold a tensor as a constant."""
    name = f"_kept_{len(list(graph.buffers()))}"
    graph.register_buffer(name, value)
    with graph.graph.inserting_before(before):
        return graph.graph.get_attr(name)


def _unchanged(node: fx.Node, values: Values) -> fx.Node | None:
    # The input that a node returns as it came.
    first = _first(node)
    if first is None:
        return None
    if turns(node) and turns(first):
        return _first(first)
    out, x = values[node], values[first]
    if not (isinstance(out, Tensor) and isinstance(x, Tensor)):
        return None
    if (out.shape, out.dtype, out.device) != (x.shape, x.dtype, x.device):
        return None
    view = out.data_ptr() == x.data_ptr() and out.stride() == x.stride()
    number = node.args[1] if node.target in _BY_ONE else None
    return first if view or node.target in _COPIES or (isinstance(number, int | float) and number == 1) else None
