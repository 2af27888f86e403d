"""From what scales, signs and maps must obey to the groups that there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

from novacula.paths.symmetries.axes import Atom, Axis, Combination, Node, above, expanded, find, nodes_in
from novacula.paths.symmetries.equations import plus
from novacula.paths.symmetries.groups import Group, Kind, key_of
from novacula.paths.symmetries.trace import Traced


def groups_of(found: Traced) -> list[Group]:
    """The groups that a traced network may have; none has been verified."""
    places = dict[Atom, list[tuple[str, int, Node]]]()
    for name, own in found.axes.items():
        if name in found.unused:
            continue
        for dim, axis in enumerate(own):
            for node in nodes_in(axis):
                places.setdefault(find(node.atom), []).append((name, dim, node))
    scales, signs = dict[Atom, list[Combination]](), dict[Atom, list[frozenset[int]]]()
    for atom, combination in found.equations.scales:
        scales.setdefault(find(atom), []).append(combination)
    for atom, odd in found.equations.signs:
        signs.setdefault(find(atom), []).append(odd)
    groups, covered, turned = list[Group](), _covered(places), dict[Atom, list[int | None]]()
    for name, own in found.axes.items():
        for axis in own if name not in found.unused else ():
            for node, half in _planes(axis):
                turned.setdefault(find(node.atom), []).append(half)
    for atom, there in places.items():
        if atom.size < 2:
            continue
        linear = _linear(atom, there, found)
        if linear is not None:
            groups.append(linear)
            continue
        if not atom.frozen:
            groups.append(_group("permutation", atom, there))
        if atom in covered:
            continue
        halves = turned.get(atom, [])
        if len(halves) == len(there):
            sides = {key_of(node): half for (_, _, node), half in zip(there, halves, strict=True) if half is not None}
            groups.append(_group("rotation", atom, there, sides=sides))
        unknowns = [key_of(node) for _, _, node in there]
        for powers in null_space(scales.get(atom, []), unknowns):
            groups.append(_group("scale", atom, there, powers))
        for chosen in null_space_of_two(signs.get(atom, []), unknowns):
            groups.append(_group("sign", atom, there, {k: Fraction(1) for k in chosen}))
    return groups


def _planes(axis: Axis) -> Iterator[tuple[Node, int | None]]:
    # Where each index of an atom may hold a plane, as before rotary embeddings: what turns it by an angle of the index
    # commutes with its turning by positions. Its two numbers lie in the two halves of an axis (the half is told), or
    # next to each other.
    nodes = expanded(axis)
    for node, after in zip(nodes, [*nodes[1:], None], strict=False):
        parts = node.parts or []
        halves = [part[0] for part in parts if len(part) == 1 and part[0].parts is None]
        if len(halves) == len(parts) == 2 and find(halves[0].atom) is find(halves[1].atom):
            yield from zip(halves, (0, 1), strict=True)
        elif parts:
            for part in parts:
                yield from _planes(part)
        elif after is not None and after.size == 2:
            yield node, None


def _covered(places: dict[Atom, list[tuple[str, int, Node]]]) -> set[Atom]:
    # Atoms whose scales are among those of an atom that lies under them wherever they occur.
    spots = {atom: {(name, dim) for name, dim, _ in there} for atom, there in places.items()}
    return {a for atom in places for a in above(atom) if spots.get(a, set()) <= spots[atom]}


def _group(
    kind: Kind,
    atom: Atom,
    there: Sequence[tuple[str, int, Node]],
    powers: dict[int, Fraction] | None = None,
    **known: object,
) -> Group:
    moved = [(n, d) for n, d, node in there if powers is None or powers.get(key_of(node))]
    copies = math.prod(a.size for a in above(atom))
    return Group(kind, atom.size, copies, tuple(dict.fromkeys(moved)), atom, powers or {}, **known)  # type: ignore[arg-type]


def _linear(atom: Atom, there: Sequence[tuple[str, int, Node]], found: Traced) -> Group | None:
    if atom.rigid or atom.frozen:
        return None
    factors = {n: into for n, into in found.absorbed.items() if any(n == name for name, _, _ in there)}
    acting = [(n, d, node) for n, d, node in there if n not in factors]
    sides, classes = dict[int, int](), set[int]()
    for _, _, node in acting:
        assert node.linear is not None
        k, side = found.equations.side(node.linear)
        classes.add(k)
        sides[key_of(node)] = side
    if len(classes) != 1 or len(sides) < 2:
        return None
    kind: Kind = "orthogonal" if atom.orthogonal else "invertible"
    absorbed = tuple((n, tuple(into)) for n, into in factors.items())
    return _group(kind, atom, acting, sides=sides, absorbed=absorbed)


def null_space(rows: Sequence[Combination], unknowns: Sequence[int]) -> list[dict[int, Fraction]]:
    """Integer solutions that span all of ``Σ row_k x_k = 0``, by elimination."""
    pivots = dict[int, Combination]()
    for row in rows:
        row = dict(row)
        for k, pivot in pivots.items():
            if k in row:
                row = plus(row, pivot, -row[k])
        if not row:
            continue
        k = min(row)
        row = {j: v / row[k] for j, v in row.items()}
        pivots = {j: plus(p, row, -p[k]) if k in p else p for j, p in pivots.items()} | {k: row}
    found = list[dict[int, Fraction]]()
    for free in (k for k in unknowns if k not in pivots):
        solution = {free: Fraction(1)} | {k: -p[free] for k, p in pivots.items() if free in p}
        common = math.lcm(*(v.denominator for v in solution.values()))
        found.append({k: v * common for k, v in sorted(solution.items())})
    return found


def null_space_of_two(rows: Sequence[frozenset[int]], unknowns: Sequence[int]) -> list[frozenset[int]]:
    """The same of sums modulo 2: sets of unknowns that are odd."""
    pivots = dict[int, frozenset[int]]()
    for row in rows:
        for k, pivot in pivots.items():
            if k in row:
                row ^= pivot
        if not row:
            continue
        k = min(row)
        pivots = {j: p ^ row if k in p else p for j, p in pivots.items()} | {k: row}
    return [frozenset({free} | {k for k, p in pivots.items() if free in p}) for free in unknowns if free not in pivots]
