"""From a module to what is known of the axes of its weights: its graph, gone through twice.

`torch.export` gives the graph in core operations. The first pass unifies and splits axes until nothing changes; the
second follows scales, signs and linear maps along what the first has found.
"""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Node as FxNode
from torch.fx.node import map_arg

from novacula.core.errors import InputError
from novacula.core.modules.copying import ShareHyperparameters
from novacula.paths.symmetries.activations import Graph
from novacula.paths.symmetries.axes import Axis, expanded, freeze, is_frozen, leaves, released, whole
from novacula.paths.symmetries.equations import Equations, rigid
from novacula.paths.symmetries.operations import TABLE
from novacula.paths.symmetries.operations.values import (
    FILLS,
    SHAPES,
    Fill,
    Place,
    Value,
    constant,
    filled,
    stop,
    unknown,
)

_PASSES = 4
_MOVES = {"view", "_unsafe_view", "expand", "permute", "t", "transpose", "unsqueeze", "squeeze"}
_QUIET = {"alias", "clone", "_to_copy", *_MOVES}
_AMONG = {"select", "slice", "mean", "sum"}  # what is done along other dimensions than the last


@dataclass(eq=False)
class Traced:
    """What two passes over a module's graph have found.

    Attributes:
        axes: Of each weight and statistic by its first name, one axis for each dimension, with its unknowns.
        aliases: Other names of the same tensors.
        equations: What scales, signs and maps must obey.
        absorbed: Weights that multiply along an axis, with the weights and dimensions that can absorb them.
        unused: Weights that no operation reads.
        double: The graph in double precision, of a module that computes part of it in another.
        graph: The graph, with the axes of what its nodes make of the inputs; None where axes were said by hand.
    """

    axes: dict[str, list[Axis]]
    aliases: dict[str, str]
    equations: Equations
    absorbed: dict[str, list[tuple[str, int]]]
    unused: tuple[str, ...]
    double: nn.Module | None
    graph: Graph | None


def exported(module: nn.Module, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
    """The graph of a module in core operations, as it evaluates; an `InputError` where PyTorch cannot export it."""
    with ShareHyperparameters():
        module = copy.deepcopy(module).eval()
    for weight in module.parameters():
        weight.requires_grad_(weight.is_floating_point())  # without, attention takes a path of its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = torch.export.default_decompositions()
            for kept in (torch.ops.aten.scaled_dot_product_attention.default,):
                table.pop(kept, None)  # read as it stands
            program = torch.export.export(module, inputs, strict=False).run_decompositions(table)
            for node in program.graph.nodes:
                _sizes(node)  # refused where sizes are known by values alone
            return program
    except Exception as error:
        raise InputError(
            "a module that torch.export can read",
            f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}",
            "name the axes yourself: symmetries(module, inputs, axes={'0.weight': ('units', None), …})",
        ) from error


def traced(module: nn.Module, inputs: tuple[Any, ...]) -> Traced:
    """Go through a module's graph until its axes are known, and once more for what acts on them."""
    program = exported(module, inputs)
    aliases = _aliases(module)
    weights = _weights(program, aliases)
    base = {
        k: [whole(n, frozen="complex weights" if v.is_complex() else None) for n in v.shape]
        for k, v in module.state_dict().items()
        if aliases.get(k, k) == k and (v.is_floating_point() or v.is_complex())
    }
    equations = Equations()
    known = None
    for _ in range(_PASSES):
        equations.seen.clear()
        _go_through(program, weights, base, equations)
        now = [(id(a), a.frozen) for a in leaf_atoms(base)]
        if now == known:
            break
        known = now
    released([*equations.seen, *base.values()])
    fine = Equations(fine=True, made=equations.made)
    fixed = {k: [fine.unknown(axis) for axis in axes] for k, axes in base.items()}
    for axis in (axis for k, own in fixed.items() if module.state_dict()[k].is_complex() for axis in own):
        fine.vanish(axis)
    absorbed, values = _go_through(program, weights, fixed, fine)
    used = {weights[n] for n in _placeholders(program) if n.users and weights.get(n) in base}
    unused = tuple(k for k in base if k not in used)
    for k in unused:
        for axis in base[k]:
            freeze(axis, "not used")
    double = _in_double(program)
    return Traced(fixed, aliases, fine, absorbed, unused, double, Graph(program, aliases, _inside(program, values)))


def _inside(program: torch.export.ExportedProgram, values: dict[FxNode, Any]) -> dict[str, list[Axis]]:
    # The axes of what is computed from the inputs; views show nothing new.
    names, found = program.graph_signature.user_inputs, dict[str, list[Axis]]()
    reached = {n for n in _placeholders(program) if n.name in names}
    for node in program.graph.nodes:
        if reached.intersection(node.all_input_nodes):
            reached.add(node)
            value = values.get(node)
            if isinstance(value, Value) and isinstance(node.meta.get("val"), Tensor) and _name(node) not in _QUIET:
                found[node.name] = value.axes
    return found


def _in_double(program: torch.export.ExportedProgram) -> nn.Module | None:
    # Groups could not be told from rounding where a module computes in single precision whatever it is given.
    casts = [n for n in program.graph.nodes if n.kwargs.get("dtype") in (torch.float32, torch.float16, torch.bfloat16)]
    if not casts:
        return None
    for node in casts:
        node.kwargs = {**node.kwargs, "dtype": torch.float64}
    for node in [n for n in program.graph.nodes if _name(n) == "_assert_tensor_metadata"]:
        program.graph.erase_node(node)
    return program.module(check_guards=False)


def _aliases(module: nn.Module) -> dict[str, str]:
    # Tied weights and modules that are used twice: the first name of each other name.
    first, found = dict[int, str](), dict[str, str]()
    for name, tensor in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]:
        found[name] = first.setdefault(id(tensor), name)
    return found


def _placeholders(program: torch.export.ExportedProgram) -> list[FxNode]:
    return [n for n in program.graph.nodes if n.op == "placeholder"]


def _weights(program: torch.export.ExportedProgram, aliases: dict[str, str]) -> dict[FxNode, str]:
    # Of each placeholder that is a weight or a statistic, its first name.
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return {n: aliases.get(names[n.name], names[n.name]) for n in _placeholders(program) if n.name in names}


def _go_through(
    program: torch.export.ExportedProgram,
    weights: dict[FxNode, str],
    axes: dict[str, list[Axis]],
    equations: Equations,
) -> tuple[dict[str, list[tuple[str, int]]], dict[FxNode, Any]]:
    # One pass over the graph: what can be absorbed, and the values of its nodes.
    values, absorbed, moving = dict[FxNode, Any](), dict[str, list[tuple[str, int]]](), set[FxNode]()
    inputs = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if weights.get(node) in axes or node.name in inputs or moving.intersection(node.all_input_nodes):
            moving.add(node)
        sizes = _sizes(node)
        place = Place(equations, f"{_name(node)}/{node.name}", sizes)
        if node.op == "placeholder":
            values[node] = _given(place, node, weights.get(node), axes, inputs)
        elif node.op == "output":
            # What is written on weights comes first, and is no output.
            for v in _values(values, node.args[0][-len(program.graph_signature.user_outputs) :]):
                for axis in v.axes:
                    stop(place, axis, "an output")
        elif node.op == "call_function" and node.target is operator.getitem:
            source, i = node.args
            many = values[cast(FxNode, source)]
            values[node] = many[i] if isinstance(many, tuple) else many
        else:
            place.summed = _summed(node)
            by = _absorbing(node, weights)
            if by is not None:
                place.absorbed = True
                absorbed[by[0]] = by[1]
            values[node] = _called(place, node, values, moving)
        if isinstance(values.get(node), Value) and not equations.fine and values[node].base is None:
            equations.seen.append(values[node].axes)
    return absorbed, values


def _called(place: Place, node: FxNode, values: dict[FxNode, Any], moving: Collection[FxNode]) -> Any:
    # What an operation's handler says. What is made of constants alone has axes of its own at every use, so that it
    # does not tie what has nothing else in common.
    name, sizes = _name(node), place.sizes
    operands = [values[n] for n in node.all_input_nodes]
    fills = [v for v in operands if isinstance(v, Fill)]
    if name in FILLS:
        return filled(place, name, node.args)
    if fills and len(fills) == len(operands) and name in SHAPES:
        found = [Fill(tuple(own), fills[0].zero) for own in sizes]
        return tuple(found) if len(found) > 1 else found[0]
    seen = dict(enumerate(node.all_input_nodes))
    own = {n: v.at(place, i) if isinstance(v := values[n], Fill) else v for i, n in seen.items()}
    for i, n in seen.items() if node in moving else ():
        if n not in moving and isinstance(v := own[n], Value):
            own[n] = Value([_apart(place, axis, i, d) for d, axis in enumerate(v.axes)])
    handler = TABLE.get(name)
    tensors = [v for n in own for v in _flat(own[n]) if isinstance(v, Value)]
    if handler is None and tensors:
        return unknown(place, *tensors)
    if handler is None:
        made = tuple(_new(place, sizes_of_one, i) for i, sizes_of_one in enumerate(sizes))
        return made if len(made) != 1 else made[0]
    args, options = cast(Any, map_arg)((node.args, node.kwargs), own.__getitem__)
    return handler(place, *args, **{k: v for k, v in options.items() if k not in _IGNORED})


def _apart(place: Place, axis: Axis, i: int, d: int) -> Axis:
    own = [(node, (place.name, i, d, k, node.size)) for k, node in enumerate(expanded(axis))]
    new = {key: place.equations.fresh(key, n.size, frozen="a constant") for n, key in own if is_frozen([n])}
    return [node for n, key in own for node in new.get(key, [n])]


_IGNORED = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "implicit", "approximate"}


def _new(place: Place, sizes: Sequence[int], i: int) -> Value:
    return Value([place.fresh(d, n, f"{i}", frozen="a constant") for d, n in enumerate(sizes)])


def _given(place: Place, node: FxNode, name: str | None, axes: dict[str, list[Axis]], inputs: Collection[Any]) -> Any:
    if name in axes:
        return Value(axes[name])
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return value
    known = constant(place, value, "an input" if node.name in inputs else "a constant")
    for axis in known.axes:
        rigid(axis)
    return known


def _values(values: dict[FxNode, Any], args: Any) -> Sequence[Value]:
    found = list[Value]()
    map_arg(args, lambda n: found.extend(v for v in _flat(values.get(n)) if isinstance(v, Value)))
    return found


def _flat(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _sizes(node: FxNode) -> list[list[int]]:
    # Of the results of a node.
    value = node.meta.get("val")
    return [
        list(map(int, v.shape))
        for v in (value if isinstance(value, (tuple, list)) else [value])
        if isinstance(v, Tensor)
    ]


def _name(node: FxNode) -> str:
    schema = getattr(node.target, "_schema", None)
    return schema.name.split("::")[-1] if schema is not None else str(node.target)


def _summed(node: FxNode) -> tuple[int, ...]:
    # Of a square, the dimensions along which all that follows sums it; of such a sum, too.
    name = _name(node)
    if name in ("mean", "sum") and isinstance(node.args[0], FxNode):
        return _summed(node.args[0])
    square = (name == "pow" and node.args[1] == 2) or (name == "mul" and node.args[0] is node.args[1])
    if not square or any(_name(user) not in ("mean", "sum") or len(user.args) < 2 for user in node.users):
        return ()
    dims = {tuple(cast(Sequence[int], user.args[1])) for user in node.users}
    return dims.pop() if len(dims) == 1 else ()


def _absorbing(node: FxNode, weights: dict[FxNode, str]) -> tuple[str, list[tuple[str, int]]] | None:
    # Of a product with a vector of weights along the last dimension: the weights that all that follows multiplies by.
    if _name(node) != "mul" or not all(isinstance(a, FxNode) for a in node.args[:2]):
        return None
    factor = next((a for a in node.args[:2] if a in weights and len(a.meta["val"].shape) == 1), None)
    if factor is None or len(factor.users) != 1:
        return None
    found, waiting = list[tuple[str, int]](), [*node.users]
    while waiting:
        user = waiting.pop()
        name = _name(user)
        if name in _QUIET or (name in _AMONG and _spares_the_last(user)):
            waiting += [*user.users]
            continue
        if name not in ("mm", "addmm", "bmm", "linear"):
            return None
        matrix = user.args[-1] if name != "linear" else user.args[1]
        turned = name == "linear"
        while isinstance(matrix, FxNode) and matrix not in weights and _name(matrix) in _QUIET:
            if len(matrix.users) != 1:
                return None
            turned ^= _name(matrix) in ("permute", "t", "transpose")
            matrix = matrix.args[0]
        if not isinstance(matrix, FxNode) or matrix not in weights or len(matrix.users) != 1:
            return None
        found.append((weights[matrix], int(turned)))
    return (weights[factor], found) if found else None


def _spares_the_last(node: FxNode) -> bool:
    # Whether what chooses or sums positions does not do so along the last dimension.
    source, *rest = cast(Sequence[Any], node.args)
    many = source.meta["val"].ndim
    dims = rest[0] if rest else 0 if _name(node) in ("select", "slice") else range(many)
    return all(d % many != many - 1 for d in ([dims] if isinstance(dims, int) else dims or range(many)))


def leaf_atoms(axes: dict[str, list[Axis]]) -> list[Any]:
    """The leaves that occur in weights, each once."""
    return list(dict.fromkeys(a for own in axes.values() for axis in own for node in axis for a in leaves(node.atom)))
