"""Axes of tensors as products and direct sums of *atoms*, which operations unify, split or freeze.

An atom is a set of indices that a symmetry may permute, the same way wherever it occurs. An axis is a product of atoms
in row-major order, as `view` makes it; an atom may turn out to be a product of smaller ones (heads and what is in
each), or a direct sum (what `cat` joins and `split` cuts), as types are inferred from the use of names. What one learns
of a leaf holds wherever it occurs.

An atom that a `view` has cut out of a larger one lies *under* the one before it: for each head, the units within it may
be permuted by a permutation of their own (a wreath product), as long as no tensor has these units without the heads.

A `Node` is an occurrence of an atom in a tensor's axis. It carries what a scale, a sign or a linear map of the atom
does there (`novacula.paths.symmetries.equations`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Optional, Union

Combination = dict[int, Fraction]
"""A linear combination of unknown exponents."""


@dataclass(eq=False)
class Atom:
    """A set of indices."""

    size: int
    parent: Optional[Atom] = None  # noqa: UP045  (a string would not do in a dataclass that names itself)
    frozen: str | None = None  # why it may not be permuted
    rigid: bool = False  # whether more than linear maps happen to it
    orthogonal: bool = False  # whether only orthogonal maps pass
    same: Optional[Atom] = None  # noqa: UP045
    factors: list[Atom] | None = None
    parts: list[list[Atom]] | None = None

    @property
    def leaf(self) -> bool:
        """Whether nothing smaller is known."""
        return self.factors is None and self.parts is None


@dataclass(eq=False)
class Node:
    """An occurrence of an atom: how a scale, a sign and a linear map of it act there."""

    atom: Atom
    scale: Combination = field(default_factory=dict)
    sign: frozenset[int] = frozenset()
    linear: tuple[int, int] | None = None  # a class of occurrences, and on which side of a map this one is
    parts: list[list[Node]] | None = None

    @property
    def size(self) -> int:
        """How many indices."""
        return self.atom.size


Axis = list[Node]


def find(atom: Atom) -> Atom:
    """What an atom has been unified with."""
    while atom.same is not None:
        atom = atom.same
    return atom


def leaves(atom: Atom) -> Iterator[Atom]:
    """The leaves of an atom."""
    atom = find(atom)
    if atom.factors is not None:
        for a in atom.factors:
            yield from leaves(a)
    elif atom.parts is not None:
        for part in atom.parts:
            for a in part:
                yield from leaves(a)
    else:
        yield atom


def above(atom: Atom) -> list[Atom]:
    """The leaves that an atom lies under, outermost first."""
    found = list[Atom]()
    while parents := over(atom):
        found, atom = [*parents, *found], parents[0]
    return found


def over(atom: Atom) -> list[Atom]:
    """The leaves that it lies under at once."""
    return list(leaves(atom.parent)) if atom.parent is not None else []


def released(tensors: Sequence[Sequence[Axis]]) -> None:
    """Let atoms lie under nothing that occur in a tensor without what they lie under, or lie under themselves.

    Either is found of all before any is released, so that it does not matter in which order they are met.
    """
    there = [{leaf for axis in axes for node in axis for leaf in leaves(node.atom)} for axes in tensors]
    for atom in {atom for own in there for atom in own if not own.issuperset(over(atom))}:
        atom.parent = None
    # What is left lies under atoms of the same tensors alone.
    atoms = {atom for own in there for atom in own}
    for atom in [atom for atom in atoms if atom in _reached(atom)]:
        atom.parent = None


def _reached(atom: Atom) -> set[Atom]:
    found, waiting = set[Atom](), over(atom)
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting += over(at)
    return found


def nodes_in(axis: Axis) -> Iterator[Node]:
    """The occurrences of leaves, in order."""
    for node in expanded(axis):
        if node.parts is None:
            yield node
        else:
            for part in node.parts:
                yield from nodes_in(part)


def freeze(axis: Union[Axis, Sequence[Atom]], reason: str) -> None:  # noqa: UP007
    """Let no permutation move an axis."""
    for item in axis:
        for leaf in leaves(item.atom if isinstance(item, Node) else item):
            leaf.frozen = leaf.frozen or reason


def is_frozen(axis: Axis) -> bool:
    """Whether no leaf of it may be permuted."""
    return all(leaf.frozen for node in axis for leaf in leaves(node.atom))


def why_frozen(axis: Axis, otherwise: str = "") -> str:
    """Why an axis is frozen, where it is."""
    return next((leaf.frozen for node in axis for leaf in leaves(node.atom) if leaf.frozen), otherwise)


def whole(size: int, **known: object) -> Axis:
    """An axis of one atom; none of a single index."""
    return [] if size == 1 else [Node(Atom(size, **known))]  # type: ignore[arg-type]


def length(axis: Axis) -> int:
    """How many indices."""
    return math.prod(node.size for node in axis)


def expanded(axis: Axis) -> Axis:
    """The same axis, by what its atoms have turned out to be."""
    found = Axis()
    for node in axis:
        atom = find(node.atom)
        if atom.factors is not None:
            found += expanded([Node(a) for a in atom.factors])
        elif atom.parts is not None:
            found.append(node if node.parts else Node(atom, parts=[[Node(a) for a in part] for part in atom.parts]))
        else:
            node.atom = atom
            found.append(node)
    return found


def divide(atom: Atom, outer: int) -> None:
    """Turn a leaf into a product, of which the first factor has this size."""
    first = Atom(outer, atom.parent, atom.frozen, atom.rigid)
    second = Atom(atom.size // outer, first, atom.frozen, atom.rigid)
    atom.factors = [first, second]


def cut(atom: Atom, sizes: Sequence[int]) -> None:
    """Turn a leaf into a direct sum."""
    atom.parts = [[Atom(n, atom.parent, atom.frozen, atom.rigid)] if n > 1 else [] for n in sizes if n]


def joined(axes: Sequence[Axis]) -> Axis:
    """The direct sum of axes."""
    parts = [expanded(axis) for axis in axes if length(axis)]
    if len(parts) == 1:
        return parts[0]
    size = sum(length(axis) for axis in parts)
    return [Node(Atom(size, parts=[[n.atom for n in part] for part in parts]), parts=parts)]


def sliced(axis: Axis, start: int, stop: int) -> Axis | None:
    """A range of an axis; None where it does not fall between atoms (these are then frozen)."""
    axis = expanded(axis)
    if (start, stop) == (0, length(axis)):
        return axis
    if not axis:
        return None
    first, rest = axis[0], axis[1:]
    inner = length(rest)
    if start % inner or stop % inner:
        freeze(axis, "a range of indices that lies across others")
        return None
    start, stop = start // inner, stop // inner
    if first.parts is None:
        if find(first.atom).frozen:
            return None
        cut(find(first.atom), (start, stop - start, first.size - stop))
        first = expanded([first])[0]
    found, place = list[Axis](), 0
    for part in first.parts or ():
        low, high = max(start, place), min(stop, place + length(part))
        if low < high:
            piece = sliced(part, low - place, high - place)
            if piece is None:
                return None
            found.append(piece)
        place += length(part)
    return joined(found) + rest


def reshaped(axes: Sequence[Axis], shape: Sequence[int]) -> list[Axis]:
    """Axes of another shape over the same numbers, in row-major order."""
    left = [node for axis in axes for node in expanded(axis)][::-1]
    found = list[Axis]()
    for size in shape:
        axis, need = Axis(), size
        while need > 1:
            node = left.pop()
            if need % node.size == 0:
                axis.append(node)
                need //= node.size
            elif node.size % need == 0 and find(node.atom).leaf:
                divide(find(node.atom), need)
                left += expanded([node])[::-1]
            elif node.size % need == 0 and is_frozen([node]):
                left.append(Node(Atom(node.size, frozen=why_frozen([node]))))
            else:
                return [whole(n, frozen="a view across axes") for n in _given_up([node, *left, *axis], found, shape)]
        found.append(axis)
    return found


def _given_up(left: Axis, found: Sequence[Axis], shape: Sequence[int]) -> Sequence[int]:
    freeze([*left, *(node for axis in found for node in axis)], "a view across axes")
    return shape


def unify(one: Axis, other: Axis) -> None:
    """Let two axes be the same."""
    a, b = expanded(one)[::-1], expanded(other)[::-1]
    while a and b:
        x, y = a.pop(), b.pop()
        if x.size == y.size:
            _join(x, y)
            continue
        if x.size < y.size:
            x, y, a, b = y, x, b, a
        large, small = find(x.atom), find(y.atom)
        if large.leaf and large.size % small.size == 0:
            divide(large, small.size)
        elif not (large.leaf or small.leaf) or not _common(large, small):
            freeze([x, y, *a, *b], "axes that do not line up")
            return
        a += expanded([x])[::-1]
        b += expanded([y])[::-1]


def _common(large: Atom, small: Atom) -> bool:
    # Divide by the largest common factor that both allow.
    g = math.gcd(large.size, small.size)
    if g == 1 or not large.leaf or (small.size != g and not small.leaf):
        return False
    for atom in (large, small):
        if atom.size != g:
            divide(atom, g)
    return True


def _join(x: Node, y: Node) -> None:
    a, b = find(x.atom), find(y.atom)
    if a is b:
        return
    if not a.leaf and b.leaf:
        a, b = b, a
    if a.leaf:
        for leaf in leaves(b):
            leaf.frozen = leaf.frozen or a.frozen
            leaf.rigid |= a.rigid
        if b.leaf:
            b.parent = b.parent or a.parent
        a.same = b
        return
    _align(expanded([Node(a)])[0].parts or [], expanded([Node(b)])[0].parts or [])


def _align(one: list[Axis], other: list[Axis]) -> None:
    # Direct sums of the same size: cut where either is cut.
    a, b = one[::-1], other[::-1]
    while a and b:
        x, y = a.pop(), b.pop()
        if length(x) > length(y):
            x, y, a, b = y, x, b, a
        n = length(x)
        if n < length(y):
            piece, rest = sliced(y, 0, n), sliced(y, n, length(y))
            if piece is None or rest is None:
                for axis in (x, y, *a, *b):
                    freeze(axis, "axes that do not line up")
                return
            b.append(rest)
            y = piece
        unify(x, y)
