"""The nearest element of a network's symmetries, by one group after another while the others stay.

What is minimised is the distance of the weights, ``Σ ‖w_a − T w_b‖²`` (Ainsworth and others, 2022):

    permutations   the assignment that maximises ``Σ_i S_{i, π(i)}``, ``S_ij`` the inner product of all that the i-th
                   unit of the one and the j-th of the other hold; with signs, of its size;
    heads          the same, where a pair is worth as much as its best alignment within;
    scales, signs  of each unit, by least squares, and by the sign of ``S_ii``;
    rotations      of each pair by the angle of ``Σ x · ȳ``, pairs as complex numbers;
    orthogonal     Procrustes: ``M = U Vᵀ`` of ``Σ R_a R_bᵀ``;
    invertible     both sides are balanced, ``C R₀ R₀ᵀ Cᵀ = C⁻ᵀ R₁ R₁ᵀ C⁻¹``, which leaves an orthogonal map:
                   ``M = C_a⁻¹ O C_b``.

A group is tried again only after weights that it moves have changed.

References:
    Git Re-Basin. S. K. Ainsworth, J. Hayase, S. Srinivasa, 2022. arXiv:2209.04836.
    A generalized solution of the orthogonal Procrustes problem. P. H. Schönemann, 1966.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from novacula.paths.symmetries.axes import above
from novacula.paths.symmetries.groups import Element, Group, key_of, occurrences, planes
from novacula.paths.symmetries.result import Symmetries

SWEEPS, _LEAST = 200, 2000  # at most
GAIN, _SWEEP = 1e-10, 5e-4  # of the distance, below which a step gains nothing, and a sweep too little to go on
Weights = Mapping[str, Tensor]


def distance(a: Weights, b: Weights, names: Iterable[str] | None = None) -> float:
    """``Σ ‖w_a − w_b‖²`` of all weights, or of these."""
    return sum(float((a[k] - b[k]).abs().square().sum()) for k in (a if names is None else names))


def acted(weights: Weights, elements: Sequence[Element], symmetries: Symmetries) -> dict[str, Tensor]:
    """The weights after elements, one after another."""
    found = dict(weights)
    for element in elements:
        found = element.act(found, symmetries.axes)
    return found


def descend(
    a: Weights, b: Weights, symmetries: Symmetries, rng: torch.Generator, *, sweeps: int = SWEEPS
) -> tuple[list[Element], dict[str, Tensor]]:
    """One group after another, until nothing is gained: the elements, and b after them."""
    groups, elements, b = symmetries.groups, list[Element](), dict(b)
    names = [_reached(group, groups) for group in groups]
    changes, seen = Counter[str](), dict[int, list[int]]()
    left = distance(a, b)
    for _ in range(sweeps):
        gained = 0.0
        for i in torch.randperm(len(groups), generator=rng).tolist():
            if seen.get(i) == [changes[n] for n in names[i]]:
                continue
            step = _step(groups[i], a, b, symmetries, groups)
            tried = acted(b, step, symmetries)
            gain = distance(a, b, names[i]) - distance(a, tried, names[i])
            if gain > GAIN * left:
                b, gained = tried, gained + gain
                elements += step
                changes.update(names[i])
            seen[i] = [changes[n] for n in names[i]]
        left -= gained
        if gained <= _SWEEP * left:
            break
    return elements, b


def _reached(group: Group, groups: Sequence[Group]) -> list[str]:
    # All weights that a step of the group may change.
    own = [g for g in groups if g.atom is group.atom or group.atom in above(g.atom)]
    names = [name for g in own for name, _ in g.weights]
    return list(dict.fromkeys(names + [n for g in own for name, into in g.absorbed for n in (name, *dict(into))]))


def _step(
    group: Group,
    a: Weights,
    b: Weights,
    symmetries: Symmetries,
    groups: Sequence[Group],
) -> list[Element]:
    # The best element of a group (and of what lies under it) while the others stay.
    if group.kind == "permutation":
        inner = [g for g in groups if group.atom in above(g.atom)[-1:]]
        worth = _pairs(group, a, b, symmetries)
        worth = worth.abs() if any(g.kind == "sign" and g.atom is group.atom for g in groups) else worth
        for g in inner:
            worth = worth + _within(g, a, b, symmetries)
        steps = [Element(group, _assigned(worth))]
        inner += [g for g in groups if g.kind == "sign" and g.atom is group.atom]
        if inner:
            moved = acted(b, steps, symmetries)
            steps += [step for g in inner for step in _step(g, a, moved, symmetries, groups)]
        return steps
    if group.kind == "rotation":
        pairs = zip(*(_turned(group, w, symmetries) for w in (a, b)), strict=True)
        return [Element(group, torch.as_tensor(sum((x * y.conj()).sum(-1) for x, y in pairs)).angle())]
    rows = _rows(group, a, b, symmetries)
    if group.kind == "scale":
        return [_nearest_scale(group, rows)]
    if group.kind == "sign":
        same = sum((x * y).sum(-1) for node, x, y in rows if group.powers.get(key_of(node)))
        return [Element(group, torch.where(torch.as_tensor(same) < 0, -1.0, 1.0).double())]
    if group.kind == "orthogonal":
        factors = tuple(a[name] for name, _ in group.absorbed)
        return [Element(group, _procrustes(_absorbing(group, a, b, symmetries)), factors)]
    sides = [[(x, y) for node, x, y in rows if group.sides[key_of(node)] == side] for side in (0, 1)]
    (a0, b0), (a1, b1) = ([torch.cat(list(z), -1) for z in zip(*side, strict=True)] for side in sides)
    ca, cb = _balance(a0, a1), _balance(b0, b1)
    turned = [(ca @ a0, cb @ b0), (torch.linalg.inv(ca).mT @ a1, torch.linalg.inv(cb).mT @ b1)]
    return [Element(group, torch.linalg.solve(ca, _procrustes(turned) @ cb))]


def _rows(
    group: Group, a: Weights, b: Weights, symmetries: Symmetries, without: Collection[str] = ()
) -> list[tuple[Any, Tensor, Tensor]]:
    # At every occurrence, what both networks hold there.
    found = list[tuple[Any, Tensor, Tensor]]()
    for name in dict.fromkeys(name for name, _ in group.weights if name not in without):
        axes = symmetries.axes[name]
        pairs = zip(occurrences(a[name], axes, group.atom), occurrences(b[name], axes, group.atom), strict=True)
        found += [(node, x, y) for (node, x), (_, y) in pairs]
    return found


def _turned(group: Group, weights: Weights, symmetries: Symmetries) -> list[Tensor]:
    names = dict.fromkeys(name for name, _ in group.weights)
    return [z for name in names for z in planes(weights[name], symmetries.axes[name], group)]


def _pairs(group: Group, a: Weights, b: Weights, symmetries: Symmetries) -> Tensor:
    # ``S_ij`` of all pairs of units; where others lie under them, only of what has none of these.
    inner = {g.atom for g in symmetries.groups if group.atom in above(g.atom)[-1:]}
    names = {name for g in symmetries.groups if g.atom in inner for name, _ in g.weights}
    rows = _rows(group, a, b, symmetries, without=names)
    shape = [s.size for s in above(group.atom)]
    zero = torch.zeros(*shape, group.size, group.size, dtype=torch.float64)
    # Single precision suffices to compare, and takes half the time.
    return sum((x.float() @ y.float().mT for _, x, y in rows), zero)


def _within(group: Group, a: Weights, b: Weights, symmetries: Symmetries) -> Tensor:
    # What each pair of heads is worth, at the best alignment of what lies within: ``(…, H, H)``.
    if group.kind == "rotation":
        pairs = zip(*(_turned(group, w, symmetries) for w in (a, b)), strict=True)
        products = sum(torch.einsum("...hir,...gir->...hgi", x, y.conj()) for x, y in pairs)
        return torch.as_tensor(products).abs().sum(-1)
    rows = _rows(group, a, b, symmetries)
    if group.kind == "permutation":
        all_pairs = sum(torch.einsum("...hir,...gjr->...hgij", x, y) for _, x, y in rows)
        table = torch.as_tensor(all_pairs)
        best = [float(t[range(len(t)), best_order(t)].sum()) for t in table.reshape(-1, group.size, group.size)]
        return torch.tensor(best, dtype=torch.float64).reshape(table.shape[:-2])
    if group.kind in ("sign", "scale"):
        return torch.zeros((), dtype=torch.float64)
    if group.kind == "orthogonal":
        table = torch.as_tensor(sum(torch.einsum("...hir,...gjr->...hgij", x, y) for _, x, y in rows))
        return torch.linalg.svdvals(table).sum(-1)
    # Invertible maps leave the product of both sides as it is.
    made = list[Tensor]()
    for which in (1, 2):
        zero, one = (
            torch.cat([row[which] for row in rows if group.sides[key_of(row[0])] == side], -1) for side in (0, 1)
        )
        product = (zero.mT @ one).flatten(-2)
        made.append(product / product.norm(dim=-1, keepdim=True).clamp(min=1e-300).sqrt())
    return made[0] @ made[1].mT


def best_order(worth: Tensor) -> Tensor:
    """The order that makes the sum of worths largest."""
    return torch.from_numpy(linear_sum_assignment(worth.numpy(), maximize=True)[1])


def _assigned(worth: Tensor) -> Tensor:
    flat = worth.reshape(-1, *worth.shape[-2:])
    return torch.stack([best_order(t) for t in flat]).reshape(worth.shape[:-1])


def _procrustes(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    return rotation(sum((x @ y.mT for x, y in pairs[1:]), pairs[0][0] @ pairs[0][1].mT))


def rotation(products: Tensor) -> Tensor:
    """The orthogonal map whose inner product with a matrix is largest."""
    u, _, v = torch.linalg.svd(products)
    return u @ v


def _absorbing(group: Group, a: Weights, b: Weights, symmetries: Symmetries) -> list[tuple[Tensor, Tensor]]:
    # The rows of both networks with their factors absorbed.
    still = group.identity()
    x, y = (still.act(dict(w), symmetries.axes) for w in (a, b))
    return [(p, q) for _, p, q in _rows(group, x, y, symmetries)]


def _balance(zero: Tensor, one: Tensor) -> Tensor:
    # C with C R0 R0ᵀ Cᵀ = C⁻ᵀ R1 R1ᵀ C⁻¹: the root of the geometric mean of the second and the first's inverse.
    g0, g1 = zero @ zero.mT, one @ one.mT
    eye = torch.eye(g0.shape[-1], dtype=g0.dtype)
    tiny = 1e-10 * torch.stack([torch.diagonal(g, dim1=-2, dim2=-1).mean(-1) for g in (g0, g1)]).clamp(min=1e-30)
    g0, g1 = (g + t[..., None, None] * eye for g, t in zip((g0, g1), tiny, strict=True))
    root = _power(g0, 0.5)
    back = _power(g0, -0.5)
    return _power(back @ _power(root @ g1 @ root, 0.5) @ back, 0.5)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return (vectors * values.clamp(min=1e-300).pow(exponent).unsqueeze(-2)) @ vectors.mT


def _nearest_scale(group: Group, rows: Sequence[tuple[Any, Tensor, Tensor]]) -> Element:
    # Of each unit the scale s = e^t that minimises ``Σ_o ‖a_o − s^p b_o‖²``: on a grid, and then by Newton's method.
    used = dict[float, Tensor]()  # of each power, ``(2, …, n)``: products with a, and squares of b
    for node, x, y in rows:
        power = float(group.powers.get(key_of(node), 0))
        if power:
            own = torch.stack([(x * y).sum(-1), y.square().sum(-1)])
            used[power] = used[power] + own if power in used else own
    p = torch.tensor(list(used), dtype=torch.float64)
    ab, bb = torch.stack(list(used.values()), -1)

    def raised(t: Tensor) -> tuple[Tensor, Tensor]:
        pt = p * t[..., None]
        return (2 * pt).exp() * bb, pt.exp() * ab

    grid = torch.linspace(-4, 4, 41, dtype=torch.float64)
    values = torch.stack([(square - 2 * product).sum(-1) for square, product in map(raised, grid)])
    t = grid[values.argmin(0)]
    for _ in range(12):
        square, product = raised(t)
        step = (2 * p * (square - product)).sum(-1) / (bend := (2 * p * p * (2 * square - product)).sum(-1))
        t = torch.where(torch.isfinite(step) & (bend > 0), t - step.clamp(-0.2, 0.2), t)
    return Element(group, t.exp())


def balancing(
    weights: Weights, symmetries: Symmetries, *, least: bool = False, without: Collection[str] = ()
) -> list[Element]:
    """Scales by which logarithms of a unit's norms, weighted by their powers, sum to nought, or the norm is least."""
    scales = [g for g in symmetries.groups if g.kind == "scale"]
    found, current = {id(g): g.identity().values for g in scales}, dict(weights)
    for _ in range(_LEAST if least else SWEEPS):
        largest = 0.0
        for group in scales:
            rows = [
                (group.powers.get(key_of(n), 0), x) for n, x, _ in _rows(group, current, current, symmetries, without)
            ]
            if not (held := [(float(power), x.norm(dim=-1)) for power, x in rows if power]):
                continue
            power = torch.tensor([power for power, _ in held], dtype=torch.float64)
            norms = torch.stack([norm for _, norm in held], -1)
            logs = (power * norms.clamp(min=1e-150).log() * (norms > 0)).sum(-1)
            step = -logs / power.square().sum()
            if least:
                often = max(Counter(name for name, _ in group.weights).values())
                step = _least(power, norms.square(), step) / often  # a mean of moves that each bring the norm down
            largest = max(largest, float(step.abs().max()))
            found[id(group)] = found[id(group)] * step.exp()
            current = Element(group, step.exp()).act(current, symmetries.axes)
        if largest < 1e-12:
            break
    return [Element(g, found[id(g)]) for g in scales]


def _least(power: Tensor, squares: Tensor, otherwise: Tensor) -> Tensor:
    # The minimum over t of ``Σ_o e^{2 p_o t} ‖w_o‖²``, by Newton's method; none is there where powers have one sign.
    held, t = squares > 0, torch.zeros_like(otherwise)
    for _ in range(20):
        e = (2 * power * t[..., None]).exp() * squares
        t = t - (power * e).sum(-1) / (2 * (power.square() * e).sum(-1)).clamp(min=1e-300)
    return torch.where((held & (power > 0)).any(-1) & (held & (power < 0)).any(-1), t, otherwise)


def inverse(elements: Sequence[Element]) -> list[Element]:
    """The elements of scales that undo these."""
    return [Element(e.group, 1 / e.values) for e in reversed(elements)]
