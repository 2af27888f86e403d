"""Units that a network would not miss: the size to which its layers collapse at given weights.

Of a layer whose units may be permuted, with x_i what unit i computes of the inputs at the last place where the units
are seen, and o_i the weights by which all that follows reads it:

    dead         ``x_i = 0`` for all inputs, or ``o_i = 0``: it is left out;
    duplicates   ``x_j = c_j x_i``: one stays, and is read by ``Σ_j c_j o_j``;
    cancelling   duplicates with ``Σ_j c_j o_j = 0``: all are left out.

Which weights read a unit is found by changing them: what leaves x as it is comes after it. A layer is reported only
where outputs stay when this is done and all that goes into the units that are left out is replaced by noise, so that a
norm over units, or a second way on which they are read, is no trap.

References:
    Functionally equivalent feedforward neural networks. V. Kůrková, P. C. Kainen, 1994.
    Geometry of the loss landscape in overparameterized neural networks. B. Şimşek and others, 2021.
    arXiv:2105.12221.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.core.rng import generator
from novacula.paths.symmetries.activations import Graph
from novacula.paths.symmetries.axes import Axis, above, find, nodes_in
from novacula.paths.symmetries.groups import Group, occurrences, views

_SAME, _EQUAL = 1e-8, 1e-6  # relative differences of units that are the same, and of outputs that stay
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Collapse:
    """A layer of which units can be left out, and the function stays on the inputs that were looked at.

    Attributes:
        weights: The weights that hold the units: names with dimensions.
        size: How many units there are.
        dead: Units that compute nothing, or that nothing reads.
        duplicates: Units that compute multiples of one another; the first of each stays.
        cancelling: The same where what is read of them adds up to nothing.
    """

    weights: tuple[tuple[str, int], ...]
    size: int
    dead: tuple[int, ...]
    duplicates: tuple[tuple[int, ...], ...]
    cancelling: tuple[tuple[int, ...], ...]

    @property
    def removed(self) -> tuple[int, ...]:
        """The units that can be left out."""
        more = [unit for own in self.duplicates for unit in own[1:]]
        return tuple(sorted([*self.dead, *more, *(unit for own in self.cancelling for unit in own)]))

    @property
    def left(self) -> int:
        """To how many units the layer collapses."""
        return self.size - len(self.removed)


def collapsed(
    graph: Graph,
    groups: Sequence[Group],
    axes: Mapping[str, list[Axis]],
    weights: Weights,
    inputs: tuple[Any, ...],
    outputs: Callable[[Weights], Tensor],
) -> tuple[tuple[Collapse, ...], Weights]:
    """The layers that collapse, one after another, and the weights when all have."""
    outer = {a for group in groups for a in above(group.atom)}
    whole = [g for g in groups if g.kind == "permutation" and g.copies == 1 and g.atom not in outer]
    before, found = outputs(weights), list[Collapse]()
    for group in whole:
        names = list(dict.fromkeys(name for name, _ in group.weights))
        x = _computed(graph, group, weights, inputs)
        if x is None:
            continue
        after = [n for n in names if torch.equal(x, _computed(graph, group, _noisy(weights, [n]), inputs))]  # type: ignore[arg-type]
        if not after or len(after) == len(names):
            continue
        one, moved = _layer(group, axes, weights, x, after)
        if not one.removed:
            continue
        into = [n for n in names if n not in after]
        _spoil(moved, {n: _noisy(moved, into)[n] for n in into}, axes, group, one.removed)
        if float((outputs(moved) - before).abs().max()) <= _EQUAL * float(before.abs().max()):
            found.append(one)
            _spoil(moved, {n: torch.zeros_like(moved[n]) for n in into}, axes, group, one.removed)
            weights = moved
    return tuple(found), weights


def _computed(graph: Graph, group: Group, weights: Weights, inputs: tuple[Any, ...]) -> Tensor | None:
    # What each unit is at the last place where all are seen, (n, rest).
    last = list[Tensor]()

    def see(name: str, value: Tensor) -> None:
        if any(find(node.atom) is group.atom for axis in graph.axes[name] for node in nodes_in(axis)):
            last[:] = [x for _, x in occurrences(value.double(), graph.axes[name], group.atom)]

    graph.run(weights, inputs, see)
    return torch.cat(last, -1) if last and all(x.ndim == 2 for x in last) else None


def _noisy(weights: Weights, names: Sequence[str]) -> Weights:
    rng = generator(0, "noise")
    factors = {k: 1 + torch.rand(weights[k].shape, generator=rng, dtype=torch.float64) for k in names}
    # Where a weight is nought, a factor would change nothing; variances stay positive.
    return {**weights, **{k: (weights[k] + 0.1) * f for k, f in factors.items()}}


def _layer(
    group: Group, axes: Mapping[str, list[Axis]], weights: Weights, x: Tensor, after: Sequence[str]
) -> tuple[Collapse, dict[str, Tensor]]:
    # Which units can go, and the weights after what reads them has been added up.
    read = torch.cat([o for n in after for _, o in occurrences(weights[n], axes[n], group.atom)], -1)
    sizes, reads = x.norm(dim=1), read.norm(dim=1)
    idle = (sizes <= _SAME * sizes.max()) | (reads <= _SAME * reads.max())
    left, duplicates, cancelling = (
        (~idle).nonzero().flatten().tolist(),
        list[tuple[int, ...]](),
        list[tuple[int, ...]](),
    )
    add = torch.diag((~idle).double())  # row i: of what all units are read by, what unit i then is
    while left:
        first, unit = left[0], x[left[0]]
        factors = x[left] @ unit / unit.square().sum()
        same = (x[left] - factors[:, None] * unit).norm(dim=1) <= _SAME * sizes[left]
        own, c = torch.tensor(left)[same], factors[same]
        left = [u for u, is_same in zip(left, same.tolist(), strict=True) if not is_same]
        if len(own) < 2:
            continue
        add[own] = 0
        whole, parts = (c[:, None] * read[own]).sum(0).norm(), (c[:, None] * read[own]).norm(dim=1).sum()
        if float(whole) <= _SAME * float(parts):
            cancelling.append(tuple(own.tolist()))
        else:
            duplicates.append(tuple(own.tolist()))
            add[first, own] = c
    moved = {k: v.clone(memory_format=torch.contiguous_format) for k, v in weights.items()}
    for name in after:
        for view, _, p in views(moved[name], axes[name], group.atom):
            units = view.movedim(p, -1)
            units.copy_(units @ add.T)
    dead = tuple(idle.nonzero().flatten().tolist())
    return Collapse(group.weights, group.size, dead, tuple(duplicates), tuple(cancelling)), moved


def _spoil(
    moved: dict[str, Tensor], others: Weights, axes: Mapping[str, list[Axis]], group: Group, units: Sequence[int]
) -> None:
    # Other weights into units that are left out.
    for name, other in others.items():
        pairs = (views(w.contiguous(), axes[name], group.atom) for w in (moved[name], other))
        for (view, _, p), (new, _, _) in zip(*pairs, strict=True):
            view.movedim(p, 0)[list(units)] = new.movedim(p, 0)[list(units)]
