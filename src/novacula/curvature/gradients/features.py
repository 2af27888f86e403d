"""What Gram matrices of per-example gradients are made of: rows, or for large layers the two factors of the rows.

A linear or convolution layer's gradient is a sum of outer products over T positions, ``g = Σ_t b_t a_tᵀ``, so that
inner products between gradients need not form them:

    <g, g'> = Σ_tt' (a_t·a'_t') (b_t·b'_t').

That costs (R T)² (I + O) operations for R rows instead of R² I O, and no memory for rows: it wins for wide layers with
few positions, and is chosen by count.

References:
    Efficient per-example gradient computations. I. Goodfellow, 2015. arXiv:1510.01799.
    Scalable and efficient training of large convolutional neural networks with differential privacy. Z. Bu, J. Mao,
    S. Xu, 2022. arXiv:2205.10683.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.curvature.gradients.capture import Captured, capture, output_gradients
from novacula.curvature.gradients.jacobian import Plan, uncovered_rows
from novacula.curvature.gradients.sites import Site, merge

Feature: TypeAlias = tuple[Tensor, ...]
"""Rows ``(B, K, P_t)``, or inputs ``(B, G, T, I)`` and cotangents ``(B, K, G, T, O)``."""

POSITIONS = 2**24
"""Entries that a matrix between positions may have."""


def choose(made: Plan, xs: Tensor, rows: int) -> frozenset[str]:
    """The weights whose Gram matrix is cheaper from positions than from rows; xs ``(1, S, …)``."""
    positions: dict[str, int] = {}
    groups: dict[str, int] = {}
    excluded = set()
    for site in capture(made.coverage, made.problem.params, xs.detach()[:1]).sites:
        if site.weight is None or not site.product:
            excluded.add(site.weight)
            continue
        shape = site.cotangents(site.output.detach()).shape
        if groups.setdefault(site.weight, shape[2]) != shape[2]:
            excluded.add(site.weight)
        positions[site.weight] = positions.get(site.weight, 0) + shape[1] * shape[3]
    m, chosen = made.problem.size, set()
    for name in (n for n in positions if n not in excluded):  # in the order of the calls, whatever the hash seed
        w, t, r = made.problem.params[name], positions[name], rows * made.problem.size
        per_group = w.flatten(1).shape[1] * m**2 + w.shape[0] // groups[name] * r**2
        cost_positions = groups[name] * t**2 * per_group
        cost_rows = w.numel() * (r * t + r**2)
        if groups[name] * (r * t) ** 2 <= POSITIONS and cost_positions < cost_rows:
            chosen.add(name)
    return frozenset(chosen)


def features(made: Plan, captured: Captured, v: Tensor, xs: Tensor, by_position: frozenset[str]) -> dict[str, Feature]:
    """What each tensor's Gram matrix needs of a chunk of examples; v ``(B, C, K)``, xs ``(B, S, …)``."""
    graph = made.problem.differentiable and torch.is_grad_enabled()
    found: dict[str, Feature] = {name: (g.flatten(2),) for name, g in _at_least_3d(uncovered_rows(made, xs, v)).items()}
    columns = [output_gradients(captured, c, create_graph=graph) for c in v.unbind(-1)] if captured.sites else []
    pieces: dict[str, list[Feature]] = {}
    with torch.set_grad_enabled(graph):
        for i, site in enumerate(captured.sites):
            gradients = [column[i] for column in columns]
            if site.bias is not None and site.bias in made.names:
                pieces.setdefault(site.bias, []).append((site.bias_gradients(gradients).flatten(2),))
            if site.weight is not None and site.weight in by_position:
                pieces.setdefault(site.weight, []).append(_by_position(site, gradients))
            elif site.weight is not None and site.weight in made.names:
                pieces.setdefault(site.weight, []).append((site.weight_gradients(gradients).flatten(2),))
        for name, parts in pieces.items():
            if name in by_position:  # positions of all calls stand side by side
                found[name] = tuple(torch.cat(column, -2) for column in zip(*parts, strict=True))
            else:
                found[name] = (sum((part[0] for part in parts[1:]), parts[0][0]),)
    shape = (v.shape[0], v.shape[2])
    return {n: found[n] if n in found else (v.new_zeros(*shape, made.problem.params[n].numel()),) for n in made.names}


def join(parts: Sequence[dict[str, Feature]]) -> dict[str, Feature]:
    """Put the features of several chunks together."""
    if len(parts) == 1:
        return parts[0]
    return {k: tuple(torch.cat(column) for column in zip(*(p[k] for p in parts), strict=True)) for k in parts[0]}


def cross(one: Feature, other: Feature) -> Tensor:
    """Inner products between gradients of two sets of examples, ``(B · K, B' · K)``."""
    if len(one) == 1:
        return one[0].flatten(0, 1) @ other[0].flatten(0, 1).T
    (a, b), (a_, b_) = one, other
    k, groups, t, t_ = b.shape[1], a.shape[1], a.shape[2], a_.shape[2]
    total: Tensor | None = None
    for g in range(groups):
        inputs = a[:, g].flatten(0, 1) @ a_[:, g].flatten(0, 1).T
        outputs = b[:, :, g].flatten(0, 2) @ b_[:, :, g].flatten(0, 2).T
        inputs = inputs.reshape(len(a), 1, t, len(a_), 1, t_)
        outputs = outputs.reshape(len(a), k, t, len(a_), k, t_)
        part = (inputs * outputs).sum((2, 5))
        total = part if total is None else total + part
    assert total is not None  # there is at least one group
    return total.reshape(len(a) * k, len(a_) * k)


def weight(feature: Feature, pattern: Tensor) -> Feature:
    """Divide rows by the square roots of precisions; feature ``(B, K, P_t)``."""
    return (feature[0] * pattern.rsqrt().to(feature[0].dtype),)


def _by_position(site: Site, gradients: Sequence[Tensor]) -> Feature:
    return merge(site.inputs()), torch.stack([merge(site.cotangents(g)) for g in gradients], 1)


def _at_least_3d(rows: Params) -> Params:
    # A 0-d parameter's rows have no third axis.
    return {name: g if g.ndim > 2 else g.unsqueeze(2) for name, g in rows.items()}
