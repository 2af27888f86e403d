"""The blocks of a block-diagonal H: Kronecker products, dense matrices and diagonals, one for each parameter.

Every block gives its log-determinant against a prior precision δ from its eigenvalues h, in units of δ,

    log |s·H + δ I| − log |δ I| = Σ log(1 + s h / δ),

so that one eigendecomposition serves all precisions and scales. Only eigenvalues carry gradients: theirs are well
defined where eigenvalues coincide, unlike those of eigenvectors.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from novacula.core.errors import NovaculaWarning


@dataclass(frozen=True, eq=False)
class Product:
    """A weight's block ``⊕_g outputs_g ⊗ inputs_g``; one group, but for grouped convolutions."""

    inputs: Tensor  # ``A (G, I, I)``
    outputs: Tensor  # ``B (G, O, O)``
    shape: torch.Size  # the weight's shape, ``G · O`` rows and ``I`` columns as a matrix

    @cached_property
    def basis(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Eigenvalues ``(G, I)``, ``(G, O)`` with their graph and eigenvectors ``(G, I, I)``, ``(G, O, O)`` without."""
        (low_a, u), (low_b, v) = _eigh(self.inputs), _eigh(self.outputs)
        return low_a, low_b, u, v

    @property
    def eigenvalues(self) -> Tensor:
        """All eigenvalues, ``(G, O, I)`` in the eigenbasis."""
        a, b, _, _ = self.basis
        return b.unsqueeze(-1) * a.unsqueeze(-2)

    def relative(self, precision: Tensor, name: str) -> Tensor:
        """Eigenvalues in units of δ, the mean precision."""
        return self.eigenvalues / uniform(precision, name)

    def diagonal(self) -> Tensor:
        """The diagonal."""
        a, b = (m.diagonal(dim1=-2, dim2=-1) for m in (self.inputs, self.outputs))
        return (b.unsqueeze(-1) * a.unsqueeze(-2)).reshape(self.shape)

    def dense(self) -> Tensor:
        """The block as a matrix, in the order of the flattened weight, ``(P, P)``."""
        return torch.block_diag(*(torch.kron(b, a) for a, b in zip(self.inputs, self.outputs, strict=True)))


@dataclass(frozen=True, eq=False)
class Dense:
    """The exact block of a small parameter; matrix ``(P, P)``."""

    matrix: Tensor  # shape ``(P, P)``
    shape: torch.Size  # the parameter's shape

    @cached_property
    def basis(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues ``(P,)`` with their graph, and eigenvectors ``(P, P)`` without."""
        return _eigh(self.matrix)

    @property
    def eigenvalues(self) -> Tensor:
        """All eigenvalues, ``(P,)``."""
        return self.basis[0]

    def relative(self, precision: Tensor, name: str) -> Tensor:
        """Eigenvalues of ``Λ^-½ H Λ^-½``, for any diagonal Λ."""
        if constant(precision):
            return self.eigenvalues / uniform(precision, name)
        whiten = precision.double().expand(self.shape).flatten().rsqrt()
        return _eigh(whiten.unsqueeze(1) * self.matrix.double() * whiten)[0]

    def diagonal(self) -> Tensor:
        """The diagonal."""
        return self.matrix.diagonal().reshape(self.shape)

    def dense(self) -> Tensor:
        """The block as a matrix, ``(P, P)``."""
        return self.matrix


@dataclass(frozen=True, eq=False)
class Diagonal:
    """The exact diagonal of a large parameter's block."""

    entries: Tensor  # shaped like the parameter

    @property
    def eigenvalues(self) -> Tensor:
        """All eigenvalues, shaped like the parameter."""
        return self.entries.double()

    def relative(self, precision: Tensor, name: str) -> Tensor:
        """Eigenvalues of ``Λ^-½ H Λ^-½``, for any diagonal Λ."""
        return self.eigenvalues / precision.double()

    def diagonal(self) -> Tensor:
        """The diagonal."""
        return self.entries

    def dense(self) -> Tensor:
        """The block as a matrix, ``(P, P)``."""
        return self.entries.flatten().diag()


Block: TypeAlias = Product | Dense | Diagonal


def constant(precision: Tensor) -> bool:
    """Whether all of a tensor's precisions are one number."""
    return precision.numel() == 1 or bool((precision == precision.flatten()[0]).all())


def uniform(precision: Tensor, name: str) -> Tensor:
    """One precision for a tensor: the mean, with a warning where that is an approximation."""
    if not constant(precision):
        warnings.warn(
            f"the Kronecker block of {name!r} takes one prior precision: the mean of {precision.numel()} is used",
            NovaculaWarning,
            stacklevel=4,
        )
    return precision.double().mean()


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    # Rounding leaves eigenvalues of a semi-definite matrix a little below zero.
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp(min=0), vectors.detach()
