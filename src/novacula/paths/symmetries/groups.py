"""Groups of transformations of weights that leave a network's function as it is, and their elements.

Each group acts on one atom, wherever it occurs. An atom that lies under others has an element for each of their
indices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.paths.symmetries.axes import Atom, Axis, Node, above, expanded, find, length

Kind = Literal["permutation", "scale", "sign", "rotation", "orthogonal", "invertible"]
LINEAR: tuple[Kind, ...] = ("invertible", "orthogonal", "permutation")
"""Maps, each kind of which holds the next."""


@dataclass(frozen=True, eq=False)
class Group:
    """One group.

    Attributes:
        kind: ``"permutation"``, ``"scale"`` (by positive numbers), ``"sign"``, ``"rotation"`` (of each index's two
            numbers, by an angle of its own), ``"orthogonal"`` or ``"invertible"``.
        size: How many indices it acts on.
        copies: How many such groups there are side by side: one for each index of what the atom lies under (heads).
        weights: The weights that it moves: names with dimensions.
        atom: What it acts on.
        powers: Of a scale or a sign, the power at each occurrence.
        sides: Of a linear map, the occurrences that it acts on by ``M`` (0) and by its inverse transpose (1). Of a
            rotation, the halves of an axis in which first (0) and second numbers (1) lie; elsewhere they lie side by
            side.
        absorbed: Of a linear map, factors along the atom that are first multiplied into what follows.
    """

    kind: Kind
    size: int
    copies: int
    weights: tuple[tuple[str, int], ...]
    atom: Atom = field(repr=False)
    powers: Mapping[int, Fraction] = field(default_factory=dict, repr=False)
    sides: Mapping[int, int] = field(default_factory=dict, repr=False)
    absorbed: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = field(default=(), repr=False)

    __repr__ = brief

    @property
    def log_order(self) -> float:
        """The logarithm of how many elements there are: ``copies · log size!`` of permutations; infinity of scales."""
        if self.kind == "permutation":
            return self.copies * math.lgamma(self.size + 1)
        return self.copies * self.size * math.log(2) if self.kind == "sign" else math.inf

    def within(self, kind: Kind) -> Group:
        """Its subgroup of a kind; permutations move factors instead of absorbing them."""
        if kind == self.kind:
            return self
        if kind != "permutation":
            return dataclasses.replace(self, kind=kind)
        factors = tuple((name, 0) for name, _ in self.absorbed)
        return dataclasses.replace(self, kind=kind, weights=(*self.weights, *factors), sides={}, absorbed=())

    def random(self, rng: torch.Generator, *, moving: bool = False) -> Element:
        """An element: permutations are uniform, scales log-normal, maps Haar or near it; if ``moving``, none is 1."""
        shape = [a.size for a in above(self.atom)]
        draw = torch.randn([*shape, self.size], generator=rng, dtype=torch.float64)
        if self.kind == "permutation":
            order, still = draw.argsort(-1), torch.arange(self.size)
            trivial = (order == still).all(-1, keepdim=True) & moving
            return Element(self, torch.where(trivial, still.roll(1), order))
        if self.kind in ("scale", "rotation"):
            return Element(self, (0.5 * draw).exp() if self.kind == "scale" else math.pi * draw)
        if self.kind == "sign":
            signs = torch.where(draw < 0, -1.0, 1.0).double()
            trivial = (signs > 0).all(-1, keepdim=True) & moving
            return Element(self, torch.where(trivial, -signs, signs))
        square = torch.randn([*shape, self.size, self.size], generator=rng, dtype=torch.float64)
        q, r = torch.linalg.qr(square)
        q = q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)
        if self.kind == "orthogonal":
            return Element(self, q)
        spread = (0.3 * draw).exp()
        return Element(self, (q * spread.unsqueeze(-2)) @ q.roll(1, -1).mT)

    def identity(self) -> Element:
        """The element that changes nothing."""
        shape = [a.size for a in above(self.atom)]
        if self.kind == "permutation":
            return Element(self, torch.arange(self.size).expand(*shape, -1))
        if self.kind in ("scale", "sign", "rotation"):
            return Element(self, torch.full((*shape, self.size), float(self.kind != "rotation"), dtype=torch.float64))
        return Element(self, torch.eye(self.size, dtype=torch.float64).expand(*shape, -1, -1))


@dataclass(frozen=True, eq=False)
class Element:
    """An element of a group.

    Attributes:
        group: The group.
        values: Of a permutation, old indices in the new order, ``(…, n)``; numbers or angles ``(…, n)``; or maps
            ``(…, n, n)``.
            The leading axes are those of what the atom lies under.
        factors: Of a linear map, what the factors that it absorbs are afterwards; ones by default.
    """

    group: Group
    values: Tensor
    factors: tuple[Tensor, ...] = ()

    __repr__ = brief

    def act(self, weights: dict[str, Tensor], axes: Mapping[str, list[Axis]]) -> dict[str, Tensor]:
        """The transformed weights; those that it does not touch are the same tensors."""
        found = dict(weights)
        for name, into in self.group.absorbed:
            found |= _absorbed(found, name, into, torch.ones_like(found[name]))
        for name in dict.fromkeys(name for name, _ in self.group.weights):
            if name in found:
                found[name] = _through(found[name], axes[name], self)
        for (name, into), factor in zip(self.group.absorbed, self.factors, strict=bool(self.factors)):
            found |= _absorbed(found, name, into, factor.to(found[name]))
        return found


def _absorbed(
    weights: Mapping[str, Tensor], name: str, into: tuple[tuple[str, int], ...], factor: Tensor
) -> dict[str, Tensor]:
    # Another factor along an axis, and what follows multiplied by what it was and divided by what it is.
    ratio, found = weights[name] / factor, {name: factor}
    for other, dim in into:
        shape = [-1 if d == dim else 1 for d in range(weights[other].ndim)]
        found[other] = found.get(other, weights[other]) * ratio.view(shape)
    return found


def _through(weight: Tensor, axes: list[Axis], element: Element) -> Tensor:
    # Let an element act on every occurrence of its atom in a weight.
    out = weight.clone(memory_format=torch.contiguous_format)
    if element.group.kind == "rotation":
        for one, other, flat, p in _planes(out, axes, element.group):
            x, y, angle = one.clone(), other.clone(), _along(element.values, flat, p, element.group).to(one)
            one.copy_(angle.cos() * x - angle.sin() * y)
            other.copy_(angle.sin() * x + angle.cos() * y)
        return out
    for view, flat, p in views(out, axes, element.group.atom):
        # Of a copy, since gradients of the element need what it acted on.
        view.copy_(_at(view.clone(), flat, p, flat[p], element))
    return out


def occurrences(weight: Tensor, axes: list[Axis], atom: Atom) -> list[tuple[Node, Tensor]]:
    """Where an atom occurs in a weight: what is there as ``(…, n, rest)``, led by what the atom lies under."""
    return [(flat[p], _led(view, flat, p, atom)) for view, flat, p in views(weight, axes, atom)]


def planes(weight: Tensor, axes: list[Axis], group: Group) -> list[Tensor]:
    """Where a rotation acts on a weight: what is there in the same order, as complex numbers."""
    found = _planes(weight, axes, group)
    return [torch.complex(*(_led(view, flat, p, group.atom) for view in pair)) for *pair, flat, p in found]


def _planes(weight: Tensor, axes: list[Axis], group: Group) -> Iterator[tuple[Tensor, Tensor, list[Node], int]]:
    # Views of the first and the second numbers.
    found = views(weight, axes, group.atom)
    for view, flat, p in found:
        if key_of(flat[p]) in group.sides:
            yield view, next(found)[0], flat, p
        else:
            yield view.select(p + 1, 0), view.select(p + 1, 1), [*flat[: p + 1], *flat[p + 2 :]], p


def _led(view: Tensor, flat: list[Node], p: int, atom: Atom) -> Tensor:
    places = _outer(flat, atom)
    rest = [q for q in range(view.ndim) if q not in (*places, p)]
    wide = view.permute([*places, p, *rest])
    return wide.reshape(*wide.shape[: len(places) + 1], -1)


def views(weight: Tensor, axes: list[Axis], atom: Atom) -> Iterator[tuple[Tensor, list[Node], int]]:
    """Where an atom occurs in a weight that is contiguous: a view of it, its nodes, and the position of the one."""
    wide = [expanded(axis) for axis in axes]
    flat, start = [node for axis in wide for node in axis], 0
    for axis in wide:
        own = range(start, start + len(axis))
        yield from _walk(weight.reshape([node.size for node in flat]), flat, own, own, atom)
        start = own.stop


def _walk(
    t: Tensor, flat: list[Node], own: range, positions: range, atom: Atom
) -> Iterator[tuple[Tensor, list[Node], int]]:
    # ``own`` are the positions of one axis.
    for p in positions:
        if flat[p].parts is None:
            if find(flat[p].atom) is atom:
                yield t, _apart(flat, own), p
            continue
        start = 0
        for part in flat[p].parts or ():
            inner, piece = expanded(part), t.narrow(p, start, length(part))
            start += length(part)
            wide = piece.unflatten(p, [n.size for n in inner]) if inner else piece.squeeze(p)
            more, grown = [*flat[:p], *inner, *flat[p + 1 :]], range(own.start, own.stop + len(inner) - 1)
            yield from _walk(wide, more, grown, range(p, p + len(inner)), atom)


def _apart(flat: list[Node], own: range) -> list[Node]:
    # Units lie under what their own axis has of it: what another axis has of the same is hidden.
    here = {find(flat[p].atom) for p in own}
    return [n if p in own or find(n.atom) not in here else Node(Atom(n.size)) for p, n in enumerate(flat)]


def _at(t: Tensor, flat: list[Node], p: int, node: Node, element: Element) -> Tensor:
    group = element.group
    if group.kind in ("orthogonal", "invertible"):
        return _mapped(t, p, _outer(flat, group.atom), node, element)
    table = _along(element.values, flat, p, group)
    if group.kind == "permutation":
        return t.take_along_dim(table.to(t.device), p)
    power = group.powers.get(key_of(node), Fraction(0))
    return t if not power else t * table.to(t) ** float(power)


class NotThereError(LookupError):
    """A group was proposed for a weight that has not all that its units lie under."""


def _outer(flat: list[Node], atom: Atom) -> list[int]:
    # Where what an atom lies under comes first.
    found, over = {find(node.atom): q for q, node in reversed([*enumerate(flat)])}, above(atom)
    if missing := [a for a in over if a not in found]:
        raise NotThereError(f"{len(missing)} of {len(over)} axes above units are not there")
    return [found[a] for a in over]


def _along(values: Tensor, flat: list[Node], p: int, group: Group) -> Tensor:
    # The table of values along its own dimension and those of what it lies under, to be broadcast.
    places = [*_outer(flat, group.atom), p]
    order = sorted(places)
    table = values.permute([places.index(q) for q in order])
    return table.reshape([values.shape[places.index(q)] if q in order else 1 for q in range(len(flat))])


def _mapped(t: Tensor, p: int, places: list[int], node: Node, element: Element) -> Tensor:
    side = element.group.sides.get(key_of(node))
    if side is None:
        return t
    m = element.values.to(t)
    m = torch.linalg.inv(m).mT if side else m
    letters = "abcdefghijklmnop"
    own, lead = letters[: t.ndim], "".join(letters[q] for q in places)
    return torch.einsum(f"{lead}z{letters[p]},{own}->{own.replace(letters[p], 'z')}", m, t)


def key_of(node: Node) -> int:
    """The unknown of an occurrence in a weight, which is its own."""
    return next(iter(node.scale))
