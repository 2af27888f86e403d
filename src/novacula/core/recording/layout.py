"""Which way round a recording multiplies matrices, and how its tensors lie in memory.

A product is fastest with the long side of its result along the rows (on one thread of an AMD EPYC, float32: 1000×50
times 50×10 takes 112–125 µs, its transpose 22–26 µs), and a pass over a result that lies the other way than its partner
costs more than the product of a small network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from novacula.core.recording.passes import Values, evaluate, keep, simplify, transposed, turns

aten = torch.ops.aten

_NARROW = 16  # a result with shorter rows is slow to compute, and quick to copy

_POINTWISE = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor}
_SOFTMAXES = {aten._log_softmax.default, aten._softmax.default}


def orient(graph: fx.GraphModule, inputs: Sequence[Tensor], *, fold: bool) -> None:
    """Multiply matrices the faster way round, and let what follows work along the result."""
    _turn_products(graph, evaluate(graph, inputs))
    simplify(graph, inputs, fold=fold)
    _turn_softmaxes(graph, evaluate(graph, inputs))
    simplify(graph, inputs, fold=fold)
    _turn_constants(graph, evaluate(graph, inputs))
    graph.graph.eliminate_dead_code()


def _turn_products(graph: fx.GraphModule, values: Values) -> None:
    g = graph.graph
    for node in list(g.nodes):
        bias: tuple[Any, ...] = ()
        if node.target is aten.addmm.default and not node.kwargs:
            bias, (a, b) = node.args[:1], node.args[1:]
        elif node.target in {aten.mm.default, aten.bmm.default}:
            a, b = node.args
        else:
            continue
        rows, columns = values[node].shape[-2:]
        # Where only the transpose is wanted (the gradient of a weight, say), compute that, if it is not too narrow.
        turned_back = not bias and all(map(turns, node.users))
        if rows < _NARROW if turned_back else rows <= columns:
            continue
        product = aten.bmm.default if node.target is aten.bmm.default else aten.mm.default
        with g.inserting_before(node):
            new = transposed(g, g.call_function(product, (transposed(g, b), transposed(g, a))))
            if bias:
                new = g.call_function(aten.add.Tensor, (new, bias[0]))
        node.replace_all_uses_with(new)
        g.erase_node(node)


def _turn_softmaxes(graph: fx.GraphModule, values: Values) -> None:
    g = graph.graph
    for node in list(g.nodes):
        if node.target not in _SOFTMAXES:
            continue
        x = values[node.args[0]]
        if x.ndim < 2 or x.is_contiguous() or not x.mT.is_contiguous():
            continue
        dim = node.args[1] % x.ndim
        dim = {x.ndim - 1: x.ndim - 2, x.ndim - 2: x.ndim - 1}.get(dim, dim)
        with g.inserting_before(node):
            inner = g.call_function(node.target, (transposed(g, node.args[0]), dim, *node.args[2:]))
            new = transposed(g, inner)
        node.replace_all_uses_with(new)
        g.erase_node(node)


def _turn_constants(graph: fx.GraphModule, values: Values) -> None:
    # A kept result that meets another tensor element by element should lie in memory as that does.
    for node in list(graph.graph.nodes):
        if node.target not in _POINTWISE or not all(isinstance(a, fx.Node) for a in node.args[:2]):
            continue
        for i, j in ((0, 1), (1, 0)):
            here, there = values[node.args[i]], values[node.args[j]]
            if node.args[i].op != "get_attr" or node.args[j].op == "get_attr" or here.shape != there.shape:
                continue
            if here.ndim > 1 and here.stride() != there.stride() and there.mT.is_contiguous():
                laid = torch.empty_strided(there.shape, there.stride(), dtype=here.dtype, device=here.device)
                node.update_arg(i, keep(graph, node, laid.copy_(here)))
            break
