"""The sums over the data from which Kronecker factors and exact blocks are made; see `kron` for the formulas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.curvature.gradients.capture import Captured, Coverage, capture, fallback_jacobian, output_gradients
from novacula.curvature.gradients.recompute import leaves_of
from novacula.curvature.problem import Problem
from novacula.curvature.structures.kron_blocks import Block, Dense, Diagonal, Product

Sharing: TypeAlias = Literal["expand", "reduce"]
Kind: TypeAlias = Literal["product", "exact", "diagonal"]


@dataclass(frozen=True, eq=False)
class Layout:
    """What to accumulate for each parameter; factors ``(G, O, I)``."""

    problem: Problem  # the problem
    coverage: Coverage  # what `cover` found out
    kinds: Mapping[str, Kind]  # the kind of every parameter's block
    factors: Mapping[str, tuple[int, int, int]]  # for products, ``(G, O, I)``
    biases: frozenset[str]  # the biases of linear and convolution layers
    sharing: Sharing  # how positions are treated

    def factors_of_batch(self, xs: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        """One batch's share of all factors; a pure function, whose results are to be summed over batches."""
        graph = self.problem.differentiable and torch.is_grad_enabled()
        captured = capture(self.coverage, self._params, xs if graph else xs.detach())
        # The network may hold tensors of the user's own, so what the outputs depend on is read off their graph.
        deep = graph and any(leaf is not self.coverage.anchor for leaf in leaves_of([captured.outputs]))
        with torch.set_grad_enabled(graph):
            f = captured.outputs if deep else captured.outputs.detach()
            factor = self.problem.factor(f, y)
            inputs = self._inputs(captured)
            others: dict[str, Tensor] = {}
            for gradients in _columns(captured, factor, deep=deep):
                rows = self._column(captured, gradients, others)
                for name, row in rows.items():
                    self._accumulate(others, name, row)
            jacobian = fallback_jacobian(self.coverage, self._params, xs, self.coverage.uncovered, create_graph=deep)
            for name, j in jacobian.items():
                self._accumulate(
                    others, name, torch.einsum("bck,bcp->bkp", factor, j.reshape(*j.shape[:2], -1)).flatten(0, 1)
                )
        found = [(inputs, others) if kind == "product" else (others,) for kind in self.kinds.values()]
        return tuple(
            sums[name] if name in sums else factor.new_zeros(self._shape(name, sums is inputs))  # a layer not called
            for name, parts in zip(self.kinds, found, strict=True)
            for sums in parts
        )

    def blocks(self, sums: tuple[Tensor, ...]) -> dict[str, Block]:
        """Normalise the sums over the data."""
        left = iter(sums)
        scale, size = self.problem.scale, self.problem.size
        blocks: dict[str, Block] = {}
        for name, kind in self.kinds.items():
            shape = self._params[name].shape
            if kind == "product":
                blocks[name] = Product(next(left) / size, next(left) * scale, shape)
            elif kind == "exact":
                blocks[name] = Dense(next(left) * scale, shape)
            else:
                blocks[name] = Diagonal((next(left) * scale).reshape(shape))
        return blocks

    @property
    def _params(self) -> Params:
        return self.problem.params

    def _positions(self, x: Tensor, *, mean: bool) -> Tensor:
        # (B, 1, G, T, ·) → (B, G, T, ·), or one position where they are reduced.
        x = x.squeeze(1)
        if self.sharing == "expand":
            return x
        return x.mean(2, keepdim=True) if mean else x.sum(2, keepdim=True)

    def _shape(self, name: str, inputs: bool) -> tuple[int, ...]:
        if name in self.factors:
            g, o, i = self.factors[name]
            return (g, i, i) if inputs else (g, o, o)
        size = self._params[name].numel()
        return (size, size) if self.kinds[name] == "exact" else (size,)

    def _inputs(self, captured: Captured) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        positions: dict[str, int] = {}
        for site in captured.sites:
            name = site.weight
            if name is not None and self.kinds[name] == "product":
                a = self._positions(site.inputs(average=True), mean=True)
                _add(sums, name, _second_moment(a))
                positions[name] = positions.get(name, 0) + a.shape[2]
        return {name: total / positions[name] for name, total in sums.items()}

    def _column(self, captured: Captured, gradients: list[Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
        # Adds to the output factors; returns the per-example gradients (B, P) of the parameters without.
        rows: dict[str, Tensor] = {}
        for site, gradient in zip(captured.sites, gradients, strict=True):
            if site.weight is not None:
                if self.kinds[site.weight] == "product":
                    b = self._positions(site.cotangents(gradient, total=True), mean=False)
                    _add(others, site.weight, _second_moment(b))
                else:
                    _add(rows, site.weight, site.weight_gradients([gradient]).flatten(1))
            if site.bias is not None:
                _add(rows, site.bias, site.bias_gradients([gradient]).flatten(1))
        return rows

    def _accumulate(self, others: dict[str, Tensor], name: str, rows: Tensor) -> None:
        _add(others, name, rows.T @ rows if self.kinds[name] == "exact" else rows.square().sum(0))


def plan(
    problem: Problem,
    coverage: Coverage,
    xs: Tensor,
    *,
    sharing: Sharing,
    fallback: Literal["exact", "diagonal"],
    exact_up_to: int,
    factors_up_to: int,
) -> Layout:
    """Decide what to accumulate for each parameter; xs ``(B, S, …)``."""
    sites = capture(coverage, problem.params, xs.detach()).sites
    biases = frozenset(s.bias for s in sites if s.bias is not None and s.product)
    kinds: dict[str, Kind] = {}
    factors: dict[str, tuple[int, int, int]] = {}
    for name, w in problem.params.items():
        shapes = {s.factors if s.product else None for s in sites if s.weight == name}
        elsewhere = any(s.bias == name for s in sites)
        exact = w.numel() <= exact_up_to and (fallback == "exact" or name in biases)
        shape = next(iter(shapes)) if len(shapes) == 1 else None
        if name in coverage.covered and not elsewhere and shape is not None and max(shape) <= factors_up_to:
            kinds[name], factors[name] = "product", shape
        else:
            kinds[name] = "exact" if exact else "diagonal"
    return Layout(problem, coverage, kinds, factors, biases, sharing)


def _columns(captured: Captured, factor: Tensor, *, deep: bool) -> Iterator[list[Tensor]]:
    # The gradients to every site, for one column of L after the other. Where only L carries a graph, backward passes
    # for the unit vectors, without a graph, and a combination replace the passes for the columns.
    if deep or not factor.requires_grad:
        for column in factor.unbind(-1):
            yield output_gradients(captured, column if deep else column.detach(), create_graph=deep)
        return
    b, c, _ = factor.shape
    eye = torch.eye(c, dtype=factor.dtype, device=factor.device)
    units = [output_gradients(captured, row.expand(b, c)) for row in eye]
    for column in factor.unbind(-1):
        yield [_combine(column, [unit[i] for unit in units]) for i in range(len(captured.sites))]


def _combine(column: Tensor, gradients: list[Tensor]) -> Tensor:
    # Σ_c column[n, c] · gradients[c], the rows of example n scaled alike.
    rows = len(gradients[0]) // len(column)
    scaled = (
        v.repeat_interleave(rows).reshape(-1, *[1] * (g.ndim - 1)) * g
        for v, g in zip(column.unbind(-1), gradients, strict=True)
    )
    return torch.stack(list(scaled)).sum(0)


def _second_moment(x: Tensor) -> Tensor:
    # (B, G, T, D) → Σ_bt x xᵀ (G, D, D).
    flat = x.transpose(0, 1).flatten(1, 2)
    return flat.transpose(1, 2) @ flat


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value
