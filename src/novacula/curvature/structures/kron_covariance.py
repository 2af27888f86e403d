"""``(scale·H + Λ)⁻¹`` for a block-diagonal H: sampling, solving and the variance of the network's linearisation.

The predictive variance ``J Σ Jᵀ`` is exact for this Σ, with every example's own Jacobian. A weight's share is

    Σ_oi J̃_coi J̃_c'oi / (scale μ_o λ_i + δ),    J̃_coi = Σ_t b̃_cot ã_ti,

in the eigenbasis of its factors: ``ã = Uᵀ a``, ``b̃ = Vᵀ b``. Rotating layer inputs and cotangents before they are
multiplied is cheaper than rotating Jacobians wherever an example has fewer positions than the factor has sides. With
few positions J̃ is never formed: for T = 1 and ``q_o = Σ_i ã_i² / (…)`` the share is ``Σ_o b̃_co q_o b̃_c'o``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.params import Params, flatten, unflatten
from novacula.curvature.gradients.capture import Captured, Coverage, capture, fallback_jacobian, output_gradients
from novacula.curvature.gradients.sites import merge
from novacula.curvature.structures.kron_blocks import Block, Dense, Diagonal, Product, constant, uniform

_FLOATS_RECORDED = 8_000_000
_FLOATS_MULTIPLIED = 2_000_000
"""How many numbers `KronCovariance.variance` holds at a time. Passes through the network are faster the larger they
are; products are fastest while they fit in a cache."""


@dataclass(frozen=True, eq=False)
class Rotated:
    """One block's covariance ``⊕_g (V ⊗ U) diag(variances) (V ⊗ U)ᵀ``."""

    left: Tensor  # V, shape ``(G, O, O)``
    right: Tensor  # U, shape ``(G, I, I)``
    variances: Tensor  # shape ``(G, O, I)``

    def apply(self, v: Tensor, *, root: bool = False) -> Tensor:
        """Multiply by the covariance, or map standard normal numbers to samples, ``(n, *shape)``."""
        x = v.reshape(len(v), *self.variances.shape)
        x = x * self.variances.sqrt() if root else self.left.mT @ x @ self.right * self.variances
        return (self.left @ x @ self.right.mT).reshape(v.shape)


@dataclass(frozen=True, eq=False)
class Rooted:
    """One block's covariance ``root · rootᵀ``; root ``(P, P)``."""

    root: Tensor  # shape ``(P, P)``

    def apply(self, v: Tensor, *, root: bool = False) -> Tensor:
        """Multiply by the covariance, or map standard normal numbers to samples, ``(n, *shape)``."""
        x = v.reshape(len(v), -1)
        return ((x if root else x @ self.root) @ self.root.mT).reshape(v.shape)

    def quadratic(self, jacobian: Tensor) -> Tensor:
        """``J Σ Jᵀ`` of each example: jacobian ``(B, C, *shape)`` to ``(B, C, C)``."""
        j = jacobian.reshape(jacobian.shape[0] * jacobian.shape[1], -1) @ self.root
        return _outer(j.unflatten(0, jacobian.shape[:2]))


@dataclass(frozen=True, eq=False)
class Independent:
    """A diagonal covariance."""

    variances: Tensor  # shaped like the parameter

    def apply(self, v: Tensor, *, root: bool = False) -> Tensor:
        """Multiply by the covariance, or map standard normal numbers to samples, ``(n, *shape)``."""
        return v * (self.variances.sqrt() if root else self.variances)

    def quadratic(self, jacobian: Tensor) -> Tensor:
        """``J Σ Jᵀ`` of each example: jacobian ``(B, C, *shape)`` to ``(B, C, C)``."""
        return _outer((jacobian * self.variances.sqrt()).reshape(*jacobian.shape[:2], self.variances.numel()))


BlockCovariance: TypeAlias = Rotated | Rooted | Independent


@dataclass(frozen=True, eq=False)
class KronCovariance:
    """A Gaussian's covariance with independent blocks; made by `Kron.covariance`."""

    coverage: Coverage  # what `cover` found out about the network
    params: Params  # the point ``w``
    blocks: Mapping[str, BlockCovariance]  # one covariance for each parameter
    products: tuple[str, ...]  # the parameters with Kronecker products, in the network's order

    __repr__ = brief

    @classmethod
    def build(
        cls, coverage: Coverage, params: Params, blocks: Mapping[str, Block], precision: Params, scale: float
    ) -> KronCovariance:
        """Invert every block."""
        found: dict[str, BlockCovariance] = {}
        with torch.no_grad():
            for name, block in blocks.items():
                found[name] = _invert(block, precision[name], scale, name, params[name])
        products = tuple(name for name, block in blocks.items() if isinstance(block, Product))
        return cls(coverage, params, found, products)

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw ``n`` zero-mean deviations, ``(n, *shape)``."""
        draws: Params = {}
        for name, block in self.blocks.items():
            w = self.params[name]
            noise = torch.randn((n, *w.shape), generator=rng, dtype=w.dtype, device=rng.device).to(w.device)
            draws[name] = block.apply(noise, root=True)
        return draws

    def solve(self, v: Params) -> Params:
        """Apply the covariance to one vector."""
        return {name: block.apply(v[name].unsqueeze(0))[0] for name, block in self.blocks.items()}

    def apply(self, vectors: Tensor) -> Tensor:
        """Apply the covariance to many vectors, ``(n, P)``."""
        found = unflatten(vectors, {name: self.params[name] for name in self.blocks})
        return flatten({name: block.apply(found[name]) for name, block in self.blocks.items()}, batch_dims=1)

    def variance(self, xs: Tensor) -> Tensor:
        """``J Σ Jᵀ`` of the averaged outputs; as many backward passes as outputs, in chunks of bounded memory."""
        xs = xs.detach()
        if len(xs) == 0:
            with torch.no_grad():
                f = self.coverage.forward.average(self.params, xs)
            return f.new_zeros(0, f.shape[1], f.shape[1])
        return torch.cat([self._variance(part) for part in xs.split(_fit(_FLOATS_RECORDED, self._size(xs[:1])))])

    def _size(self, xs: Tensor) -> int:
        # How many numbers one example takes: what is recorded, cotangents, patches, and Jacobians outside of products.
        captured = capture(self.coverage, self.params, xs)
        c = captured.outputs.shape[1]
        size = 2 * c * sum(self.params[name].numel() for name in self.blocks if name not in self.products)
        for site in captured.sites:
            size += site.input.numel() + (c + 1) * site.output.numel()
            if site.product:
                _, rows, width = site.factors
                size += 2 * site.output.numel() // rows * width
        return size

    def _variance(self, xs: Tensor) -> Tensor:
        captured = capture(self.coverage, self.params, xs)
        with torch.no_grad():
            b, c = captured.outputs.shape
            eye = torch.eye(c, dtype=captured.outputs.dtype, device=xs.device)
            columns = [output_gradients(captured, row.expand(b, c)) for row in eye]
            gradients = [list(g) for g in zip(*columns, strict=True)]
            total = captured.outputs.new_zeros(b, c, c)
            jacobians: Params = {}
            for name in self.products:
                total += self._product(captured, name, gradients)
            for site, g in zip(captured.sites, gradients, strict=True):
                if site.weight is not None and site.weight not in self.products:
                    _add(jacobians, site.weight, site.weight_gradients(g))
                if site.bias is not None:
                    _add(jacobians, site.bias, site.bias_gradients(g))
            jacobians |= fallback_jacobian(self.coverage, self.params, xs, self.coverage.uncovered)
            for name, jacobian in jacobians.items():
                block = self.blocks[name]
                if not isinstance(block, Rotated):
                    total += block.quadratic(jacobian)
        return total

    def _product(self, captured: Captured, name: str, gradients: Sequence[Sequence[Tensor]]) -> Tensor:
        # One weight's share of the variance; the calls of tied or repeated layers are further positions.
        block = self.blocks[name]
        calls = [(site, g) for site, g in zip(captured.sites, gradients, strict=True) if site.weight == name]
        if not isinstance(block, Rotated) or not calls:
            return captured.outputs.new_zeros(())
        a = _join([merge(site.inputs()).mT for site, _ in calls])  # (B, G, I, T)
        b = [_join([merge(site.cotangents(g[k])).mT for site, g in calls]) for k in range(len(gradients[0]))]
        shape = (a.shape[3], len(b), b[0].shape[2], a.shape[2])
        run, floats = _choose(*shape)
        size = _fit(_FLOATS_MULTIPLIED, a.shape[1] * floats)
        parts = zip(a.split(size), *(column.split(size) for column in b), strict=True)
        return torch.cat([run(part, columns, block) for part, *columns in parts])


def _fit(floats: int, each: int) -> int:
    return max(1, floats // max(1, each))


def _choose(t: int, c: int, o: int, i: int) -> tuple[Callable[[Tensor, list[Tensor], Rotated], Tensor], int]:
    # The way with the fewest multiplications, and how many numbers it holds for an example and group. The products of
    # thin matrices run at a quarter of the speed of the others.
    if t == 1:
        return _one_position, i + 3 * c * o
    if t * t * o * (i + 4 * c) + 4 * c * c * o * t < c * o * t * i + 4 * c * c * o * i:
        return _pairs, t * t * (i + o) + 3 * c * o * t
    return _jacobian, c * o * (i + 2 * t) + t * i


def _one_position(a: Tensor, columns: list[Tensor], block: Rotated) -> Tensor:
    # Σ_go b_goc q_go b_goc' with q_go = Σ_i a_gi² v_goi, in the eigenbasis; a (B, G, I, 1), C times b (B, G, O, 1).
    q = _right(_right(a.squeeze(3), block.right).square(), block.variances.mT)
    b = _right(torch.cat(columns).squeeze(3), block.left).unflatten(0, (-1, len(q)))  # (C, B, G, O)
    return _outer((b * q.sqrt()).flatten(2).transpose(0, 1))


def _pairs(a: Tensor, columns: list[Tensor], block: Rotated) -> Tensor:
    # Σ_gott' b_goct K_gott' b_goc't' with K_gott' = Σ_i a_git a_git' v_goi, in the eigenbasis.
    a, b = _left(block.right.mT, a), _left(block.left.mT, torch.stack(columns, 3))
    kernel = _left(block.variances, a.unsqueeze(-1) * a.unsqueeze(-2))  # (B, G, O, T, T)
    left = (b @ kernel).movedim(3, 1).flatten(2)
    return left @ b.movedim(3, 1).flatten(2).mT


def _jacobian(a: Tensor, columns: list[Tensor], block: Rotated) -> Tensor:
    # Σ_goi J_goci v_goi J_goc'i with J = Σ_t b_goct a_git, in the eigenbasis.
    a, c, (o, t) = _left(block.right.mT, a), len(columns), columns[0].shape[2:]
    if t <= a.shape[2]:  # Rotating cotangents is cheaper than rotating the Jacobian's rows.
        b = _left(block.left.mT, torch.stack(columns, 3)).transpose(2, 3).flatten(2, 3)
        j = (b @ a.mT).unflatten(2, (c, o)).mul_(block.variances.sqrt().unsqueeze(1))  # (B, G, C, O, I)
        return _outer(j.transpose(1, 2).flatten(2))
    b = torch.stack(columns, 2).flatten(2, 3)
    j = (a @ b.mT).unflatten(3, (c, o)).transpose(1, 2)  # (B, I, G, C, O)
    j = _right(j.movedim(2, 3).flatten(0, 2), block.left).unflatten(0, (len(a), -1, c))  # (B, I, C, G, O)
    return _outer((j * block.variances.permute(2, 0, 1).sqrt().unsqueeze(1)).transpose(1, 2).flatten(2))


def _left(m: Tensor, x: Tensor) -> Tensor:
    # Multiply (G, X, Y) and (B, G, Y, …), group by group, from the left.
    flat = x.flatten(3)
    product = (m[0] @ flat[:, 0]).unsqueeze(1) if len(m) == 1 else torch.einsum("gxy,bgyz->bgxz", m, flat)
    return product.unflatten(3, x.shape[3:])


def _right(x: Tensor, m: Tensor) -> Tensor:
    # Multiply (B, G, X) and (G, X, Y), group by group.
    return (x[:, 0] @ m[0]).unsqueeze(1) if len(m) == 1 else torch.einsum("bgx,gxy->bgy", x, m)


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _invert(block: Block, precision: Tensor, scale: float, name: str, like: Tensor) -> BlockCovariance:
    match block:
        case Diagonal():
            return Independent((1 / (scale * block.eigenvalues + precision.double())).to(like))
        case Product():
            _, _, u, v = block.basis
            return Rotated(
                v.to(like), u.to(like), (1 / (scale * block.eigenvalues + uniform(precision, name))).to(like)
            )
        case Dense():
            if constant(precision):
                values, vectors = block.basis
                variances = 1 / (scale * values + uniform(precision, name))
            else:
                lam = precision.double().expand(block.shape).flatten()
                values, vectors = torch.linalg.eigh(scale * block.matrix.double() + lam.diag())
                variances = 1 / values
            return Rooted((vectors * variances.sqrt()).to(like))


def _outer(x: Tensor) -> Tensor:
    return x @ x.mT


def _add(sums: Params, name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value
