"""``(scale·H + Λ)⁻¹`` for a block-diagonal H: sampling, solving and the variance of the network's linearisation.

The predictive variance ``J Σ Jᵀ`` is exact for this Σ, with every example's own Jacobian. A weight's share is

    Σ_oi J̃_coi J̃_c'oi / (scale μ_o λ_i + δ),    J̃_coi = Σ_t b̃_cot ã_ti,

in the eigenbasis of its factors: ``ã = Uᵀ a``, ``b̃ = Vᵀ b``. Rotating layer inputs and cotangents before they are
multiplied is cheaper than rotating Jacobians wherever an example has fewer positions than the factor has sides. With
few positions J̃ is never formed: for T = 1 and ``q_o = Σ_i ã_i² / (…)`` the share is ``Σ_o b̃_co q_o b̃_c'o``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.params import Params
from novacula.curvature.capture import Captured, Coverage, capture, fallback_jacobian, output_gradients
from novacula.curvature.kron_blocks import Block, Dense, Diagonal, Product, constant, uniform
from novacula.curvature.sites import merge

_FLOATS_AT_ONCE = 4_000_000
"""How many numbers `KronCovariance.variance` holds at a time; more are not faster, as they leave the cache."""


@dataclass(frozen=True, eq=False)
class Rotated:
    """One block's covariance ``⊕_g (V ⊗ U) diag(variances) (V ⊗ U)ᵀ``.

    Args:
        left: V, shape ``(G, O, O)``.
        right: U, shape ``(G, I, I)``.
        variances: Shape ``(G, O, I)``.
    """

    left: Tensor
    right: Tensor
    variances: Tensor

    def apply(self, v: Tensor, *, root: bool = False) -> Tensor:
        """Multiply by the covariance, or map standard normal numbers to samples.

        Args:
            v: Shape ``(n, *shape)``.
            root: Whether to multiply by the factor ``(V ⊗ U) diag(√variances)``.

        Returns:
            Shape ``(n, *shape)``.
        """
        x = v.reshape(len(v), *self.variances.shape)
        x = x * self.variances.sqrt() if root else self.rotate(x) * self.variances
        return (self.left @ x @ self.right.mT).reshape(v.shape)

    def rotate(self, v: Tensor) -> Tensor:
        """Coordinates in the eigenbasis.

        Args:
            v: Shape ``(…, G, O, I)``.

        Returns:
            The same shape.
        """
        return self.left.mT @ v @ self.right

    def quadratic(self, jacobian: Tensor) -> Tensor:
        """``J Σ Jᵀ`` of each example.

        Args:
            jacobian: Shape ``(B, C, *shape)``.

        Returns:
            Shape ``(B, C, C)``.
        """
        j = self.rotate(jacobian.reshape(*jacobian.shape[:2], *self.variances.shape))
        return _outer((j * self.variances.sqrt()).flatten(2))


@dataclass(frozen=True, eq=False)
class Independent:
    """A diagonal covariance.

    Args:
        variances: Shaped like the parameter.
    """

    variances: Tensor

    def apply(self, v: Tensor, *, root: bool = False) -> Tensor:
        """Multiply by the covariance, or map standard normal numbers to samples.

        Args:
            v: Shape ``(n, *shape)``.
            root: Whether to multiply by the square root.

        Returns:
            Shape ``(n, *shape)``.
        """
        return v * (self.variances.sqrt() if root else self.variances)

    def quadratic(self, jacobian: Tensor) -> Tensor:
        """``J Σ Jᵀ`` of each example.

        Args:
            jacobian: Shape ``(B, C, *shape)``.

        Returns:
            Shape ``(B, C, C)``.
        """
        return _outer((jacobian * self.variances.sqrt()).flatten(2))


BlockCovariance: TypeAlias = Rotated | Independent


@dataclass(frozen=True, eq=False)
class KronCovariance:
    """A Gaussian's covariance with independent blocks; made by `Kron.covariance`.

    Args:
        coverage: What `cover` found out about the network.
        params: The point ``w``.
        blocks: One covariance for each parameter.
        products: The parameters with Kronecker products.
    """

    coverage: Coverage
    params: Params
    blocks: Mapping[str, BlockCovariance]
    products: frozenset[str]

    @classmethod
    def build(
        cls, coverage: Coverage, params: Params, blocks: Mapping[str, Block], precision: Params, scale: float
    ) -> KronCovariance:
        """Invert every block.

        Args:
            coverage: What `cover` found out about the network.
            params: The point ``w``.
            blocks: H.
            precision: The prior's precision for each parameter.
            scale: Multiplies H.

        Returns:
            The covariance, in the weights' dtype.
        """
        found: dict[str, BlockCovariance] = {}
        with torch.no_grad():
            for name, block in blocks.items():
                found[name] = _invert(block, precision[name], scale, name, params[name])
        products = frozenset(name for name, block in blocks.items() if isinstance(block, Product))
        return cls(coverage, params, found, products)

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw ``n`` zero-mean deviations.

        Args:
            n: How many.
            rng: The generator to draw from.

        Returns:
            Tensors ``(n, *shape)``.
        """
        draws: Params = {}
        for name, block in self.blocks.items():
            w = self.params[name]
            noise = torch.randn((n, *w.shape), generator=rng, dtype=w.dtype, device=rng.device).to(w.device)
            draws[name] = block.apply(noise, root=True)
        return draws

    def solve(self, v: Params) -> Params:
        """Apply the covariance to one vector.

        Args:
            v: Shaped like the parameters.

        Returns:
            Shaped like the parameters.
        """
        return {name: block.apply(v[name].unsqueeze(0))[0] for name, block in self.blocks.items()}

    def variance(self, xs: Tensor) -> Tensor:
        """``J Σ Jᵀ`` of the averaged outputs; as many backward passes as outputs, in chunks of bounded memory.

        Args:
            xs: Inputs ``(B, S, …)``.

        Returns:
            Shape ``(B, C, C)``, without a graph.
        """
        xs = xs.detach()
        chunk = self._chunk(xs)
        return torch.cat([self._variance(part) for part in xs.split(chunk)])

    def _chunk(self, xs: Tensor) -> int:
        # How many examples keep a chunk's tensors within bounds: cotangents, patches and the largest Jacobian.
        captured = capture(self.coverage, self.params, xs[:1])
        c = captured.outputs.shape[1]
        held = largest = 1
        for site in captured.sites:
            positions = site.output.numel() // site.module.weight.shape[0] if site.product else 1
            patches = positions * site.factors[2] if site.product else site.input.numel()
            held += (c + 1) * site.output.numel()
            gram = site.product and _prefers_gram(positions, c, *site.factors[1:])
            weight = 0 if site.weight is None else site.module.weight.numel()
            largest = max(largest, 2 * patches + (positions * patches if gram else 2 * c * weight))
        others = sum(self.params[name].numel() for name in self.coverage.uncovered)
        return max(1, _FLOATS_AT_ONCE // (held + max(largest, c * others)))

    def _variance(self, xs: Tensor) -> Tensor:
        captured = capture(self.coverage, self.params, xs)
        with torch.no_grad():
            b, c = captured.outputs.shape
            eye = torch.eye(c, dtype=captured.outputs.dtype, device=xs.device)
            columns = [output_gradients(captured, row.expand(b, c)) for row in eye]
            gradients = [[column[i] for column in columns] for i in range(len(captured.sites))]
            total = captured.outputs.new_zeros(b, c, c)
            jacobians: Params = {}
            for name in self.coverage.covered:
                if name in self.products:
                    total = total + self._product(captured, name, gradients)
            for site, g in zip(captured.sites, gradients, strict=True):
                if site.weight is not None and site.weight not in self.products:
                    _add(jacobians, site.weight, site.weight_gradients(g))
                if site.bias is not None:
                    _add(jacobians, site.bias, site.bias_gradients(g))
            jacobians |= fallback_jacobian(self.coverage, self.params, xs, self.coverage.uncovered)
            for name, jacobian in jacobians.items():
                total = total + self.blocks[name].quadratic(jacobian)
        return total

    def _product(self, captured: Captured, name: str, gradients: Sequence[Sequence[Tensor]]) -> Tensor:
        # One weight's share of the variance; the calls of tied or repeated layers are further positions.
        block = self.blocks[name]
        calls = [(site, g) for site, g in zip(captured.sites, gradients, strict=True) if site.weight == name]
        if not isinstance(block, Rotated) or not calls:
            return captured.outputs.new_zeros(())
        a = torch.cat([merge(site.inputs()) for site, _ in calls], 2)  # (B, G, T, I)
        b = torch.cat([torch.stack([merge(site.cotangents(u)).mT for u in g], 2) for site, g in calls], -1)
        b_count, g_count, c, o, t = b.shape
        i = a.shape[-1]
        if _prefers_gram(t, c, o, i):
            return _gram(block.left.mT.unsqueeze(1) @ b, a @ block.right, block.variances)
        early = t <= i  # whether rotating cotangents is cheaper than rotating the Jacobian's rows
        if early:
            b = block.left.mT.unsqueeze(1) @ b
        j = (b.reshape(b_count, g_count, c * o, t) @ (a @ block.right)).unflatten(2, (c, o))
        if not early:
            j = block.left.mT.unsqueeze(1) @ j
        return _outer((j * block.variances.sqrt().unsqueeze(1)).transpose(1, 2).flatten(2))


def _prefers_gram(t: int, c: int, o: int, i: int) -> bool:
    # Whether pairs of positions are cheaper than Jacobians, in multiplications.
    return t * t * o * (i + c) + c * c * o * t < c * o * t * i + c * c * o * i


def _gram(b: Tensor, a: Tensor, variances: Tensor) -> Tensor:
    # Σ_gott' b_cot K_ott' b_c'ot' (B, C, C), K_ott' = Σ_i a_ti a_t'i v_oi, for rotated cotangents b (B, G, C, O, T),
    # rotated layer inputs a (B, G, T, I) and variances v (G, O, I).
    t = a.shape[2]
    if t == 1:
        q = a.squeeze(2).square().unsqueeze(2) @ variances.mT  # (B, G, 1, O)
        return _outer((b.squeeze(-1) * q.sqrt()).transpose(1, 2).flatten(2))
    pairs = (a.unsqueeze(3) * a.unsqueeze(2)).flatten(2, 3) @ variances.mT  # (B, G, T·T, O)
    kernel = pairs.unflatten(2, (t, t)).permute(0, 1, 4, 2, 3)  # (B, G, O, T, T)
    left = (b.transpose(2, 3) @ kernel).permute(0, 3, 1, 2, 4).flatten(2)
    right = b.permute(0, 2, 1, 3, 4).flatten(2)
    return left @ right.mT


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
            one = torch.ones((1, 1, 1)).to(like)
            return Rotated(one, vectors.unsqueeze(0).to(like), variances.reshape(1, 1, -1).to(like))


def _outer(x: Tensor) -> Tensor:
    return x @ x.mT


def _add(sums: Params, name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value
