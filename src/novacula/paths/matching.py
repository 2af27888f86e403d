"""Two networks of one kind, brought into the same order: `match` finds the symmetry that takes one towards the other.

What is minimised is the distance of the weights, ``Σ ‖w_a − T w_b‖²``, by one group after another while the others stay
(Ainsworth and others, 2022):

    permutations   the assignment that maximises ``Σ_i S_{i, π(i)}``, ``S_ij`` the inner product of all that the i-th
                   unit of the one and the j-th of the other hold; with signs, of its size;
    heads          the same, where a pair is worth as much as its best alignment within;
    scales, signs  of each unit, by least squares, and by the sign of ``S_ii``;
    orthogonal     Procrustes: ``M = U Vᵀ`` of ``Σ R_a R_bᵀ``;
    invertible     both sides are balanced, ``C R₀ R₀ᵀ Cᵀ = C⁻ᵀ R₁ R₁ᵀ C⁻¹``, which leaves an orthogonal map:
                   ``M = C_a⁻¹ O C_b``.

This is a local optimum; the best of several starts is taken. Every second one begins with the scales of ``a``'s units,
so that a network is found again under any of its symmetries.

References:
    Git Re-Basin. S. K. Ainsworth, J. Hayase, S. Srinivasa, 2022. arXiv:2209.04836.
    Generalized linear mode connectivity for transformers. A. Theus and others, 2025. arXiv:2506.22712.
    A generalized solution of the orthogonal Procrustes problem. P. H. Schönemann, 1966.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.paths.symmetries.axes import above
from novacula.paths.symmetries.groups import Element, Group, key_of, occurrences
from novacula.paths.symmetries.result import Symmetries, Transformation
from novacula.posteriors.base import Learned, Posterior, weights_of

_SWEEPS = 50
_GAIN = 1e-10  # of the distance, below which a step gains nothing
Weights = Mapping[str, Tensor]


def match(
    module: nn.Module,
    a: Params | Posterior | Learned,
    b: Params | Posterior | Learned,
    symmetries: Symmetries,
    *,
    restarts: int = 3,
    seed: int = 0,
) -> Transformation:
    """The symmetry that takes a network's weights towards another's.

    Args:
        module: The network.
        a: The weights to come near to: a state dictionary, a posterior (its mode) or a result of `novacula.learn`.
        b: The weights to transform.
        symmetries: What `symmetries` has found for the module.
        restarts: Random starts beside the first one, from where the networks are.
        seed: Seed of starts and of the order of groups.

    Returns:
        A transformation; ``.apply(b)`` computes what ``b`` computes, and lies nearer to ``a``.

    Raises:
        InputError: If the weights are not those of the network, or not finite.

    Example:
        >>> from novacula.paths import symmetries
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> found = symmetries(net, torch.zeros(4, 3))
        >>> there = found.random(1).apply(net.state_dict())
        >>> back = match(net, net.state_dict(), there, found).apply(there)
        >>> max(float((v - back[k]).abs().max()) for k, v in net.state_dict().items()) < 1e-6
        True
    """
    check_whole("restarts", restarts, least=0)
    check_whole("seed", seed, least=0)
    first, second = (_state(module, symmetries, given) for given in (a, b))
    found, least = symmetries.of(()), distance(first, second)
    alike = [*_balancing(second, symmetries), *_inverse(_balancing(first, symmetries))]
    for start in range(restarts + 1):
        rng = generator(seed, "match", start)
        elements = [] if start < 2 else [g.random(rng) for g in symmetries.groups if g.kind == "permutation"]
        tried = _descend(first, second, symmetries, [*elements, *(alike if start % 2 else ())], rng)
        left = distance(first, _acted(second, tried, symmetries))
        if left < least * (1 - _GAIN):
            found, least = symmetries.of(tried), left
        if least <= _GAIN * distance(first, dict.fromkeys(first, torch.zeros(()))):
            break
    return found


def distance(a: Weights, b: Weights) -> float:
    """``Σ ‖w_a − w_b‖²`` of all weights."""
    return sum(float((v - b[k]).abs().square().sum()) for k, v in a.items())


def _state(module: nn.Module, symmetries: Symmetries, given: Any) -> dict[str, Tensor]:
    own, weights = module.state_dict(), weights_of(given)
    found = dict[str, Tensor]()
    for name in symmetries.axes:
        value = weights.get(name, own.get(name) if name not in dict(module.named_parameters()) else None)
        if value is None or value.shape != own[name].shape:
            hint = "pass the state dictionaries of two networks of the module's kind"
            raise InputError(f"weights {name!r} of shape {tuple(own[name].shape)}", "none, or of another shape", hint)
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"finite weights {name!r}", "NaN or infinity", "look at the run that left them")
        found[name] = value.detach().to(torch.promote_types(value.dtype, torch.float64))
    return found


def _acted(weights: Weights, elements: Sequence[Element], symmetries: Symmetries) -> dict[str, Tensor]:
    found = dict(weights)
    for element in elements:
        found = element.act(found, symmetries.axes)
    return found


def _descend(
    a: dict[str, Tensor], b: dict[str, Tensor], symmetries: Symmetries, elements: list[Element], rng: torch.Generator
) -> list[Element]:
    # One group after another, from where elements have taken b, until nothing is gained.
    groups, elements = symmetries.groups, list(elements)
    b = _acted(b, elements, symmetries)
    least = distance(a, b)
    for _ in range(_SWEEPS):
        before = least
        for i in torch.randperm(len(groups), generator=rng).tolist():
            step = _step(groups[i], a, b, symmetries, groups)
            tried = _acted(b, step, symmetries)
            left = distance(a, tried)
            if left < least - _GAIN * least:
                b, least = tried, left
                elements += step
        if least >= before * (1 - 1e-4):
            break
    return elements


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
            moved = _acted(b, steps, symmetries)
            steps += [step for g in inner for step in _step(g, a, moved, symmetries, groups)]
        return steps
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


def _pairs(group: Group, a: Weights, b: Weights, symmetries: Symmetries) -> Tensor:
    # ``S_ij`` of all pairs of units; where others lie under them, only of what has none of these.
    inner = {g.atom for g in symmetries.groups if group.atom in above(g.atom)[-1:]}
    names = {name for g in symmetries.groups if g.atom in inner for name, _ in g.weights}
    rows = _rows(group, a, b, symmetries, without=names)
    shape = [s.size for s in above(group.atom)]
    zero = torch.zeros(*shape, group.size, group.size, dtype=torch.float64)
    return sum((x @ y.mT for _, x, y in rows), zero)


def _within(group: Group, a: Weights, b: Weights, symmetries: Symmetries) -> Tensor:
    # What each pair of heads is worth, at the best alignment of what lies within: ``(…, H, H)``.
    rows = _rows(group, a, b, symmetries)
    if group.kind == "permutation":
        all_pairs = sum(torch.einsum("...hir,...gjr->...hgij", x, y) for _, x, y in rows)
        table = torch.as_tensor(all_pairs)
        best = [float(t[range(len(t)), _order(t)].sum()) for t in table.reshape(-1, group.size, group.size)]
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


def _order(worth: Tensor) -> np.ndarray:
    return linear_sum_assignment(worth.numpy(), maximize=True)[1]


def _assigned(worth: Tensor) -> Tensor:
    flat = worth.reshape(-1, *worth.shape[-2:])
    return torch.stack([torch.from_numpy(_order(t)) for t in flat]).reshape(worth.shape[:-1])


def _procrustes(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    total = sum((x @ y.mT for x, y in pairs[1:]), pairs[0][0] @ pairs[0][1].mT)
    u, _, v = torch.linalg.svd(total)
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
    powers = [float(group.powers.get(key_of(node), 0)) for node, _, _ in rows]
    used = [(p, (x * y).sum(-1), y.square().sum(-1)) for p, (_, x, y) in zip(powers, rows, strict=True) if p]

    def value(t: Tensor) -> Tensor:
        return torch.stack([(2 * p * t).exp() * bb - 2 * (p * t).exp() * ab for p, ab, bb in used]).sum(0)

    grid = torch.linspace(-4, 4, 81, dtype=torch.float64)
    t = grid[torch.stack([value(g.expand_as(used[0][1])) for g in grid]).argmin(0)]
    for _ in range(30):
        slope = sum(2 * p * ((2 * p * t).exp() * bb - (p * t).exp() * ab) for p, ab, bb in used)
        bend = sum(2 * p * p * (2 * (2 * p * t).exp() * bb - (p * t).exp() * ab) for p, ab, bb in used)
        step = torch.as_tensor(slope) / torch.as_tensor(bend)
        t = torch.where(torch.isfinite(step) & (torch.as_tensor(bend) > 0), t - step.clamp(-0.2, 0.2), t)
    return Element(group, t.exp())


def _balancing(weights: Weights, symmetries: Symmetries) -> list[Element]:
    # Scales by which the logarithms of a unit's norms at its occurrences, weighted by their powers, sum to nought.
    scales = [g for g in symmetries.groups if g.kind == "scale"]
    found, current = {id(g): g.identity().values for g in scales}, dict(weights)
    for _ in range(_SWEEPS):
        largest = 0.0
        for group in scales:
            logs, squares = torch.zeros((), dtype=torch.float64), 0.0
            for node, x, _ in _rows(group, current, current, symmetries):
                power, norms = float(group.powers.get(key_of(node), 0)), x.norm(dim=-1)
                logs = logs - power * norms.clamp(min=1e-150).log() * (norms > 0)
                squares += power * power
            step = logs / squares
            largest = max(largest, float(step.abs().max()))
            found[id(group)] = found[id(group)] * step.exp()
            current = Element(group, step.exp()).act(current, symmetries.axes)
        if largest < 1e-12:
            break
    return [Element(g, found[id(g)]) for g in scales]


def _inverse(elements: Sequence[Element]) -> list[Element]:
    return [Element(e.group, 1 / e.values) for e in reversed(elements)]
