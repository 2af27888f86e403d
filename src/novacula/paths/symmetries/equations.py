"""What an operation says of the axes of its operands, by one description of all operations.

An operation is written like an Einstein sum: a label for each axis, and how numbers combine. From that follow

    permutations   axes of one label are the same axis;
    scales         ``x ↦ s x`` along an atom: exponents add in products, agree in sums, vanish where labels are summed
                   over and where a function is neither linear nor homogeneous; unknowns are those of the weights;
    signs          the same with s = −1, which pass odd functions and not homogeneous ones;
    linear maps    ``x ↦ M x``, and M⁻ᵀ on the other side of a sum over the label; nothing but linear maps lets them
                   pass (others make an atom *rigid*). Where an atom would have to be on both sides, M is orthogonal.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from novacula.paths.symmetries.axes import (
    Atom,
    Axis,
    Combination,
    Node,
    expanded,
    leaves,
    length,
    nodes_in,
    unify,
    whole,
)

LINEAR, HOMOGENEOUS, EVEN, ODD, ANY = "linear", "homogeneous", "even", "odd", "any"


@dataclass(eq=False)
class Equations:
    """What is known of a network's axes, and the unknowns of its weights."""

    fine: bool = False  # whether axes are known, so that scales, signs and maps can be followed
    # combinations that must vanish, with the atom along which they act
    scales: list[tuple[Atom, Combination]] = field(default_factory=list)
    signs: list[tuple[Atom, frozenset[int]]] = field(default_factory=list)  # the same of signs, modulo 2
    unknowns: int = 0
    sides: list[tuple[int, int]] = field(default_factory=list)  # union–find of occurrences, with sides
    seen: list[list[Axis]] = field(default_factory=list)  # the axes of every tensor
    made: dict[Hashable, Axis] = field(default_factory=dict)

    def fresh(self, key: Hashable, size: int, **known: object) -> Axis:
        """An axis that a place in the network makes, the same whenever it is asked for."""
        if key not in self.made:
            self.made[key] = whole(size, **known)
        return [Node(node.atom) for node in self.made[key]]

    def unknown(self, axis: Axis) -> Axis:
        """An axis with a scale, a sign and a map of its own at every leaf, as a weight's has."""
        found = Axis()
        for node in expanded(axis):
            if node.parts is not None:
                found.append(Node(node.atom, parts=[self.unknown(part) for part in node.parts]))
                continue
            self.unknowns += 1
            self.sides.append((len(self.sides), 0))
            one = {self.unknowns: Fraction(1)}
            found.append(Node(node.atom, one, frozenset({self.unknowns}), (len(self.sides) - 1, 0)))
        return found

    def side(self, place: tuple[int, int]) -> tuple[int, int]:
        """The class of an occurrence, and on which side of a map it is."""
        k, flips = place
        while self.sides[k][0] != k:
            k, more = self.sides[k]
            flips ^= more
        return k, flips

    def equal(self, atom: Atom, one: Node, other: Node, flip: int = 0) -> None:
        """Let two occurrences be on the same side of a map, or on opposite ones."""
        if one.linear is None or other.linear is None:
            atom.rigid = True
            return
        (a, s), (b, t) = self.side(one.linear), self.side(other.linear)
        if a != b:
            self.sides[a] = (b, s ^ t ^ flip)
        elif s ^ t != flip:
            atom.orthogonal = True

    def vanish(self, axis: Axis, *, maps: bool = True) -> None:
        """Let no scale, sign or (where ``maps``) linear map reach an axis."""
        for node in nodes_in(axis):
            self.scales.append((node.atom, node.scale))
            self.signs.append((node.atom, node.sign))
            node.atom.rigid |= maps

    def equation(
        self,
        kind: str,
        operands: Sequence[Sequence[Axis]],
        labels: Sequence[Sequence[Hashable]],
        out: Sequence[Hashable],
        *,
        power: Sequence[Fraction] = (),
        through: Sequence[Hashable] = (),
        squared: Sequence[Hashable] = (),
    ) -> list[Axis]:
        """The axes of a result.

        Args:
            kind: ``"product"`` of operands (summed over labels that are not in the result), ``"sum"`` of them, or a
                function of one: linear, homogeneous (for positive factors), even and homogeneous, odd, or any.
            operands: Axes of each operand.
            labels: Their labels. Axes of a single index are broadcast.
            out: Labels of the result.
            power: Powers of the factors of a product; ones by default.
            through: Labels along which a product is no hindrance for linear maps (what multiplies is absorbed).
            squared: Labels along which a square will be summed, so that orthogonal maps pass.

        Returns:
            Axes in the order of ``out``.
        """
        found = dict[Hashable, Axis]()
        for label in dict.fromkeys(label for own in labels for label in own):
            axes = [
                next((axis for axis, other in zip(axes, own, strict=True) if other == label), [])
                for axes, own in zip(operands, labels, strict=True)
            ]
            wide = [axis for axis in axes if length(axis) > 1]
            if not wide:
                found[label] = []
                continue
            if not self.fine:
                for axis in wide[1:]:
                    unify(wide[0], axis)
                found[label] = expanded(wide[0])
                continue
            kept = label in out
            found[label] = self._followed(kind, axes, wide[0], kept, power, label in through, label in squared)
        return [found.get(label, []) for label in out]

    def _followed(
        self,
        kind: str,
        axes: list[Axis],
        like: Axis,
        kept: bool,
        power: Sequence[Fraction],
        through: bool,
        squared: bool,
    ) -> Axis:
        # Position by position: the leaves of all axes are the same.
        columns = [list(nodes_in(axis)) if length(axis) > 1 else None for axis in axes]
        if any(c is not None and len(c) != len(list(nodes_in(like))) for c in columns):
            for axis in axes:  # structure that was not known before: nothing passes
                self.vanish(axis)
            return _renewed(like, iter(()))
        out = list[Node]()
        for i, model in enumerate(nodes_in(like)):
            row = [None if c is None else c[i] for c in columns]
            out.append(self._leaf(kind, row, model.atom, kept, power, through, squared))
        return _renewed(like, iter(out))

    def _leaf(
        self,
        kind: str,
        row: list[Node | None],
        atom: Atom,
        kept: bool,
        power: Sequence[Fraction],
        through: bool,
        squared: bool,
    ) -> Node:
        there = [node for node in row if node is not None]
        if kind == "sum":
            for node in there[1:]:
                self.scales.append((atom, plus(there[0].scale, node.scale, -1)))
                self.signs.append((atom, there[0].sign ^ node.sign))
                self.equal(atom, there[0], node)
            if len(there) < len(row):
                self.vanish(there[:1])
            return Node(atom, there[0].scale, there[0].sign, there[0].linear)
        if kind == "product":
            return self._product(row, atom, kept, power, through, squared)
        node = there[0]
        if kind != LINEAR and not squared:
            atom.rigid = True
        if squared:
            self.equal(atom, node, node, flip=1)
        passes = {
            LINEAR: (True, True),
            HOMOGENEOUS: (True, False),
            EVEN: (True, False),
            ODD: (False, True),
            ANY: (False, False),
        }[kind]
        if not passes[0] or not kept:
            self.scales.append((atom, node.scale))
        if kind != EVEN and (not passes[1] or not kept):
            self.signs.append((atom, node.sign))
        if not (kept or squared):
            atom.rigid = True
        return Node(atom, node.scale if passes[0] else {}, node.sign if passes[1] else frozenset(), node.linear)

    def _product(
        self, row: list[Node | None], atom: Atom, kept: bool, power: Sequence[Fraction], through: bool, squared: bool
    ) -> Node:
        powers = power or [Fraction(1)] * len(row)
        scale, sign = Combination(), frozenset[int]()
        for node, p in zip(row, powers, strict=True):
            if node is None:
                continue
            scale = plus(scale, node.scale, p)
            if p.denominator > 1:
                self.signs.append((atom, node.sign))
            elif p.numerator % 2:
                sign ^= node.sign
        there = [node for node in row if node is not None]
        if not kept:
            self.scales.append((atom, scale))
            self.signs.append((atom, sign))
            if len(there) == 2:
                self.equal(atom, there[0], there[1], flip=1)
            else:
                atom.rigid = True
        elif squared:
            self.equal(atom, there[0], there[0], flip=1)
        elif (len(there) > 1 and not through) or any(p != 1 for p in powers):
            atom.rigid = True
        return Node(atom, scale, sign, there[0].linear)


def plus(one: Combination, other: Combination, factor: Fraction | int = 1) -> Combination:
    """A combination plus a multiple of another."""
    found = dict(one)
    for k, v in other.items():
        found[k] = found.get(k, Fraction(0)) + factor * v
    return {k: v for k, v in found.items() if v}


def _renewed(like: Axis, nodes: object) -> Axis:
    # The same structure with other leaves; blank ones where there are none left.
    found = Axis()
    for node in expanded(like):
        if node.parts is not None:
            found.append(Node(node.atom, parts=[_renewed(part, nodes) for part in node.parts]))
        else:
            found.append(next(nodes, Node(node.atom)))  # type: ignore[call-overload]
    return found


def blank(axis: Axis) -> Axis:
    """The same axis with nothing that acts on it, for instance along which a result is new."""
    return _renewed(axis, iter(()))


def rigid(axis: Axis) -> None:
    """Let no linear map pass an axis."""
    for node in axis:
        for leaf in leaves(node.atom):
            leaf.rigid = True
