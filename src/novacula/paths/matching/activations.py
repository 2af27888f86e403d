"""Units matched by what they compute: permutations and rotations from the activations of both networks.

The worth of a pair of units is the correlation of what the one computes in the one network and the other in the other,
over examples and positions, summed over the places of the graph where the units are seen (Li and others, 2016). Heads
(and groups of a norm) are worth what correlates across all that lies within them, ``‖C_hg‖² / ‖C_hh‖ ‖C_gg‖``. Of a
stream that may be rotated, Procrustes of the activations. It needs no weights to be alike, and so is another start.

References:
    Convergent learning: do different neural networks learn the same representations? Y. Li, J. Yosinski, J. Clune,
    H. Lipson, J. Hopcroft, 2016. arXiv:1511.07543.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from novacula.paths.matching.descent import Weights, acted, best_order, rotation
from novacula.paths.symmetries.axes import Axis, Node, above, find, nodes_in
from novacula.paths.symmetries.groups import Element, occurrences
from novacula.paths.symmetries.result import Symmetries


@dataclass
class _Sums:
    """Of one place: sums over examples and positions, with all that the atom lies under flattened, ``(L, n)``."""

    rows: float = 0.0
    ones: Any = 0.0
    squares: Any = 0.0
    products: Any = 0.0  # (L, n, L, n), the first network's units first
    signed: bool = False  # whether a sign may have changed what is seen there

    def add(self, x: Tensor, y: Tensor) -> None:
        x, y = (t.reshape(-1, *t.shape[-2:]) for t in (x, y))
        self.rows += x.shape[-1]
        self.ones += torch.stack([x.sum(-1), y.sum(-1)])
        self.squares += torch.stack([x.square().sum(-1), y.square().sum(-1)])
        self.products += (x.flatten(0, 1) @ y.flatten(0, 1).mT).view(*x.shape[:2], *y.shape[:2])

    def correlations(self) -> Tensor:
        mean = self.ones / self.rows
        deviation = (self.squares / self.rows - mean.square()).clamp(min=0).sqrt()
        scale = torch.where(deviation > 1e-6 * self.squares.max().sqrt().clamp(min=1e-30), 1 / deviation, 0.0)
        covariance = self.products / self.rows - torch.einsum("hi,gj->higj", mean[0], mean[1])
        found = torch.einsum("higj,hi,gj->higj", covariance, scale[0], scale[1])
        return found.abs() if self.signed else found

    def alike(self) -> Tensor:
        size = self.squares.sum((1, 2)).sqrt().clamp(min=1e-30)
        return self.products[0, :, 0] / (size[0] * size[1])


def by_activations(a: Weights, b: Weights, symmetries: Symmetries, inputs: Tensor) -> list[Element]:
    """Permutations and rotations of b that bring what it computes near to what a computes, on these inputs."""
    groups = [g for g in symmetries.groups if g.kind in ("permutation", "orthogonal")]
    sums = _seen(a, b, symmetries, {g.atom for g in groups}, inputs)
    elements, orders = list[Element](), dict[Any, Tensor]()
    for group in sorted(groups, key=lambda g: len(above(g.atom))):
        own, outer = sums[group.atom], above(group.atom)
        if group.kind == "orthogonal":
            if own and not outer:
                factors = tuple(a[name] for name, _ in group.absorbed)
                elements.append(Element(group, rotation(_sum([s.alike() for s in own])), factors))
            continue
        under = [s for g in groups if above(g.atom) == [*outer, group.atom] for s in sums[g.atom]]
        if own and not outer:
            order = best_order(_sum([s.correlations()[0, :, 0] for s in own]))
        elif under and not outer:
            order = best_order(_sum([s.correlations().square().sum((1, 3)) for s in under]))
        elif own and len(outer) == 1 and outer[0] in orders:
            table, heads = _sum([s.correlations() for s in own]), orders[outer[0]].tolist()
            order = torch.stack([best_order(table[h, :, g]) for h, g in enumerate(heads)])
        else:
            continue
        orders[group.atom] = order
        elements.append(Element(group, order))
    return elements


def _sum(tables: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tables)).sum(0)


def _seen(a: Weights, b: Weights, symmetries: Symmetries, atoms: set[Any], inputs: Tensor) -> dict[Any, list[_Sums]]:
    # Of every atom, its sums at the places where it is seen; of one that others lie under, where these are not.
    graph = symmetries.graph
    assert graph is not None
    # Streams whose factors are absorbed are rotated only where they have been.
    still = [g.identity() for g in symmetries.groups if g.absorbed]
    a, b = (acted(w, still, symmetries) for w in (a, b))
    places = {name: _atoms(axes) & atoms for name, axes in graph.axes.items()}
    for there in places.values():
        there -= {outer for atom in there for outer in above(atom)}
    signs = dict[Any, list[set[int]]]()
    for group in symmetries.groups:
        if group.kind == "sign":
            signs.setdefault(group.atom, []).append({k for k, power in group.powers.items() if power})
    found = {atom: dict[tuple[str, int], _Sums]() for atom in atoms}
    size = symmetries.inputs[0].shape[0]
    for start in range(0, len(inputs) - size + 1, size):
        rows, first = (inputs[start : start + size],), dict[str, Tensor]()
        graph.run(a, rows, first.__setitem__)

        def add(name: str, value: Tensor, first: dict[str, Tensor] = first) -> None:
            other = first.pop(name)
            for atom in places[name]:
                pairs = zip(*(occurrences(t, graph.axes[name], atom) for t in (other, value)), strict=True)
                for i, ((node, x), (_, y)) in enumerate(pairs):
                    flips = any(len(node.sign & odd) % 2 for odd in signs.get(atom, ()))
                    found[atom].setdefault((name, i), _Sums(signed=flips)).add(x, y)

        graph.run(b, rows, add)
    return {atom: list(own.values()) for atom, own in found.items()}


def _atoms(axes: Sequence[Axis]) -> set[Any]:
    def all_of() -> Iterator[Node]:
        for axis in axes:
            yield from nodes_in(axis)

    return {find(node.atom) for node in all_of()}
