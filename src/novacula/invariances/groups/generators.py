"""`Generators`: random maps along generators that are learned themselves, not chosen from a list.

A one-parameter group of affine maps is ``exp(u G)``, with G its generator. Here the entries of G are the extents,

    T_u = exp(Σ_k u_k G_k),        u_k ~ p(u),

so that learning finds in which directions of the space of all affine maps (six for images, D² for rows of D numbers)
the data are symmetric, and how far. A generator's length says how far: a rotation by θ radians has
``G = θ [[0, −1], [1, 0]]``. Noise is symmetric, so that G and −G are the same.

References:
    Augerino: learning invariances in neural networks. G. Benton, M. Finzi, P. Izmailov, A. G. Wilson, 2020.
    arXiv:2010.11882.
    Learning infinitesimal generators of continuous symmetries from data. G. Ko, H. Kim, J. Lee, 2024.
    arXiv:2410.21853.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.invariances import checks
from novacula.invariances.noise import DISTRIBUTIONS, Distribution, symmetric, working_dtype
from novacula.invariances.warp import PADDINGS, Padding, affine_warp

_WIDEST = 64  # numbers that a general linear map takes to as many


@dataclass(frozen=True, eq=False)
class Generators:
    """Random maps ``exp(Σ_k u_k G_k)`` of images, rows or signals, whose generators are learned.

    Args:
        shape: The shape of one input. Of images ``(C, H, W)``, positions are mapped: each G is 2×3, in units of half
            the side (of the geometric mean of both), x to the right and y down, from the middle. Of rows ``(D,)`` and
            signals ``(C, D)``, with D up to 64, values are: each G is D×D.
        count: K, how many generators.
        eta: Their entries one after another, shape ``(K·6,)`` or ``(K·D²,)``.
        init: The root of the mean square of all entries at the start, when ``eta`` is absent.
        seed: Seed of the first directions.
        distribution: ``"uniform"`` in ±1, or ``"gaussian"`` with the same standard deviation, 1/√3.
        padding: What lies outside an image.

    Raises:
        InputError: If an argument is not as described.

    Example:
        >>> turn = Generators((2,), eta=torch.tensor([0.0, -1.0, 1.0, 0.0]) * torch.pi / 2)
        >>> turn(torch.tensor([[1.0, 0.0]]), torch.ones(1, 1)).round(decimals=3)
        tensor([[0., 1.]])
    """

    shape: tuple[int, ...]
    count: int = 1
    eta: Tensor = None  # type: ignore[assignment]  # filled in below
    init: float = 0.1
    seed: int = 0
    distribution: Distribution = "uniform"
    padding: Padding = "zeros"
    learnable: ClassVar[tuple[str, ...]] = ("eta",)
    averages_predictions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("count", self.count)
        checks.option("distribution", self.distribution, DISTRIBUTIONS)
        checks.option("padding", self.padding, PADDINGS)
        shape = tuple(self.shape)
        if len(shape) not in (1, 2, 3) or (len(shape) < 3 and shape[len(shape) - 1] > _WIDEST):
            hint = "pass data.x_shape of images, or of rows or signals of up to 64 numbers"
            raise InputError("the shape (C, H, W), (C, D) or (D,) of one input", f"{self.shape}", hint)
        object.__setattr__(self, "shape", shape)
        drawn = torch.randn(len(self.names), generator=generator(self.seed, "generators"))
        first = self.init * drawn / drawn.square().mean().sqrt()
        object.__setattr__(self, "eta", checks.extents(self.eta, first.tolist(), self.names))

    @property
    def _sides(self) -> tuple[int, int]:
        return (2, 3) if len(self.shape) == 3 else (self.shape[-1], self.shape[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each entry."""
        rows, columns = self._sides
        return tuple(
            f"generator_{k}_{i}{j}" if max(rows, columns) < 10 else f"generator_{k}_{i}_{j}"
            for k in range(self.count)
            for i in range(rows)
            for j in range(columns)
        )

    @property
    def matrices(self) -> Tensor:
        """The generators, ``(K, 2, 3)`` or ``(K, D, D)``."""
        return self.eta.view(self.count, *self._sides)

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw the randomness of ``n`` maps: x ``(N, …)`` to ``(n, K)``."""
        return symmetric(n, (self.count,), x, rng, self.distribution)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """Map each input; x ``(n, …)``, noise ``(n, K)``."""
        if tuple(x.shape[1:]) != self.shape:
            raise InputError(f"inputs (n, {', '.join(map(str, self.shape))})", f"shape {tuple(x.shape)}", "data.x")
        checks.noise(noise, (x.shape[0], self.count))
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            flow = torch.einsum("nk,kij->nij", noise.to(x.device, dtype), self.matrices.to(x.device, dtype))
            if len(self.shape) == 3:
                return affine_warp(x, *self._maps(flow), self.padding)
            return torch.einsum("nij,n...j->n...i", torch.linalg.matrix_exp(flow), x.to(dtype)).to(x.dtype)

    def project(self, eta: Tensor) -> Tensor:
        """Rotations of no more than a whole turn: generators no longer than ``π √2``, eta ``(K·L,)``."""
        each = eta.view(self.count, -1)
        length = each.norm(dim=1, keepdim=True)
        return (each * (math.pi * math.sqrt(2) / length.clamp(min=1e-12)).clamp(max=1)).flatten()

    def magnitude(self, eta: Tensor) -> Tensor:
        """Of G and −G that whose largest entry is positive; eta ``(K·L,)``."""
        each = eta.view(self.count, -1)
        largest = each.gather(1, each.abs().argmax(1, keepdim=True))
        return torch.where(largest < 0, -each, each).flatten()

    def describe(self) -> dict[str, float]:
        """The entries by name."""
        return dict(zip(self.names, self.eta.detach().tolist(), strict=True))

    def metric(self, x: Tensor) -> Tensor:
        """How far maps move contents, as a quadratic form of a generator's entries.

        Args:
            x: Inputs ``(N, …)``. Of images, only the shape counts: positions of all pixels are moved.

        Returns:
            ``E p pᵀ`` for each row of G, shape ``(L, L)``, in units in which contents have a mean square of one.
        """
        if len(self.shape) == 3:
            places = _places(*self.shape[1:])
            moved = torch.cat([places, torch.ones(len(places), 1, dtype=places.dtype)], 1)
        else:
            places = moved = x.reshape(-1, self.shape[-1]).double().cpu()
        gram = moved.T @ moved / places.square().sum()
        return torch.block_diag(*[gram] * self._sides[0])

    def displacement(self, x: Tensor) -> float:
        """How far a map moves contents at u = 1: a root mean square, over that of their distance from the middle.

        Args:
            x: Inputs ``(N, …)``.

        Returns:
            ``√(E ‖G p‖² / E ‖p‖²)``, of the generator that moves most.
        """
        each = self.eta.detach().double().cpu().view(self.count, -1)
        return float((each @ self.metric(x) * each).sum(1).max().sqrt())

    def angle(self, other: Tensor) -> float:
        """The angle between a generator and the span of these, in degrees.

        Args:
            other: A generator, ``(2, 3)`` or ``(D, D)``.

        Returns:
            Between 0 and 90.

        Raises:
            InputError: If it has another shape.
        """
        if tuple(other.shape) != self._sides:
            raise InputError(f"a generator of shape {self._sides}", f"{tuple(other.shape)}", "pass a matrix")
        basis = torch.linalg.qr(self.matrices.detach().double().flatten(1).T).Q
        unit = other.double().flatten() / other.double().norm()
        return math.degrees(math.atan2(float((unit - basis @ (basis.T @ unit)).norm()), float((basis.T @ unit).norm())))

    def _maps(self, flow: Tensor) -> tuple[Tensor, Tensor]:
        # A⁻¹ (n, 2, 2), and t (n, 2) in halves of width and height, of flows (n, 2, 3).
        height, width = self.shape[1:]
        side = math.sqrt(height * width)
        whole = torch.cat([flow, torch.zeros_like(flow[:, :1])], 1)
        scale = flow.new_tensor([side / width, side / height])
        return torch.linalg.matrix_exp(-whole)[:, :2, :2], torch.linalg.matrix_exp(whole)[:, :2, 2] * scale


def _places(height: int, width: int) -> Tensor:
    # Pixel centres (H·W, 2), in halves of the mean side.
    side = math.sqrt(height * width)
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) * 2 / side for n in (height, width))
    return torch.cartesian_prod(y, x).flip(1)
