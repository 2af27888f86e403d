"""What a curvature needs to know, and what it gives back.

All structures approximate the generalised Gauss–Newton matrix of the negative log-likelihood at one point ``w``,

    H = Σ_n J_nᵀ L_n L_nᵀ J_n,        J_n = ∂f̄(w, x_n)/∂w  (C, P),   L_n L_nᵀ = −E ∂² log p(y|f)/∂f²  (C, C),

where ``f̄`` averages the outputs over the S transformed copies of an input. For the likelihoods of exponential families
H is the Fisher information. The matrix is symmetric and positive semi-definite by construction.

References:
    New insights and perspectives on the natural gradient method. J. Martens, 2020. arXiv:1412.1193.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.forward import Forward
from novacula.core.params import Params
from novacula.core.rng import generator

Mix: TypeAlias = Callable[[int], Tensor]
"""The weights ``E (B, K, k)`` of combinations of a factor's K columns, given K."""
Leverage = Literal["whole", "part", "solved", "approximate"]
"""What variances say of single examples: they are those of the exact matrix of all weights (``"whole"``) or of some
(``"part"``), of all weights at the price of solves for each example (``"solved"``), or of no exact matrix."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, a point and the data, as the curvature sees them.

    Args:
        forward: The network as a function.
        params: The point ``w``; detached.
        batches: Called anew for every pass over the data; yields ``(xs, y)`` with ``xs`` of shape ``(B, S, …)``, the
            same values every time. ``xs`` may carry a graph to invariance extents.
        factor: Maps outputs and labels ``(f (B, C), y)`` to ``L`` of shape ``(B, C, K)``. May carry a graph to the
            likelihood's parameters.
        size: The number of examples that one pass yields.
        scale: H is multiplied by this (``N/M`` for a subset of M out of N examples).
        differentiable: Whether results must carry gradients to whatever ``batches`` and ``factor`` depend on. When
            false, nothing is recorded.
        combined: Combinations ``L E`` of the columns of ``factor``, where they are to be had for less than L.
    """

    forward: Forward
    params: Params
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]]
    factor: Callable[[Tensor, Tensor], Tensor]
    size: int
    scale: float = 1.0
    differentiable: bool = False
    combined: Callable[[Tensor, Tensor, Mix], Tensor] | None = None

    __repr__ = brief

    def sketched(self, columns: int | Callable[[int], int], seed: int) -> Problem:
        """The problem with random combinations of the columns of the Fisher factors, ``L E`` with ``E Eᵀ ≈ I``.

        Args:
            columns: How many combinations, with random signs, or how many for C outputs; factors with no more columns
                stay as they are.
            seed: Seed of the signs.

        Returns:
            A problem whose H has the same expectation.
        """
        return replace(self, factor=_Combined(self.factor, self.combined, columns, seed), combined=None)


@dataclass(frozen=True)
class _Combined:
    """Combinations of a factor's columns; no closure, so that a curvature that needs them can be pickled."""

    factor: Callable[[Tensor, Tensor], Tensor]
    combined: Callable[[Tensor, Tensor, Mix], Tensor] | None
    columns: int | Callable[[int], int]
    seed: int

    def __call__(self, f: Tensor, y: Tensor) -> Tensor:
        most = self.columns if isinstance(self.columns, int) else self.columns(f.shape[1])

        def signs(width: int) -> Tensor:
            # The same signs whenever the same batch comes.
            drawn = torch.randint(2, (len(f), width, most), generator=generator(self.seed, "columns", len(f)))
            return (drawn * 2 - 1).to(f) / most**0.5

        if self.combined is not None and f.shape[1] > most:
            return self.combined(f, y, signs)
        whole = self.factor(f, y)
        return whole if whole.shape[2] <= most else whole @ signs(whole.shape[2])


class LogDet(NamedTuple):
    """A log-determinant and the standard error of its estimate (0 where it is computed, not estimated)."""

    value: Tensor
    stderr: float


class Covariance(Protocol):
    """``(scale·H + Λ)⁻¹``, the covariance of a Gaussian over weights."""

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw ``n`` zero-mean deviations; tensors of shape ``(n, *shape)`` for the parameters covered."""
        ...

    def solve(self, v: Params) -> Params:
        """Apply the covariance to one vector."""
        ...

    def apply(self, vectors: Tensor) -> Tensor:
        """Apply the covariance to many flat vectors in the order of the names, ``(n, P)``."""
        ...

    def variance(self, xs: Tensor) -> Tensor:
        """``J Σ Jᵀ`` of the averaged outputs at inputs ``xs (B, S, …)``; shape ``(B, C, C)``."""
        ...


class Curvature(Protocol):
    """An approximation of H. ``precision`` is the prior's, by parameter name, each broadcastable to its parameter.

    Attributes:
        structure: The structure's name, e.g. ``"kron"``.
        leverage: What its variances say of single examples.
        names: The parameters that are covered.
        fallback: Parameters not covered by the structure's own approximation, with what was used instead.
        warnings: Reservations a reader must know.
    """

    leverage: ClassVar[Leverage]

    @property
    def structure(self) -> str: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def fallback(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def warnings(self) -> tuple[str, ...]: ...  # noqa: D102

    def log_det(self, precision: Params, *, scale: float | Tensor = 1.0) -> LogDet:
        """``log |scale·H + Λ| − log |Λ|`` over the covered parameters; differentiable in all it depends on."""
        ...

    def covariance(self, precision: Params, *, scale: float = 1.0) -> Covariance:
        """Factorise ``scale·H + Λ`` once, for sampling, solving and predicting; carries no gradient."""
        ...

    def diagonal(self) -> Params:
        """The diagonal of H, by parameter."""
        ...

    def eigenvalues(self, precision: Params) -> dict[tuple[str, ...], Tensor] | None:
        """Eigenvalues of H in units of the precision, flat float64; None where there are none to be had.

        By the smallest groups of parameters that H ties together: precisions of two groups may change by two factors.
        """
        ...

    def dense(self) -> Tensor:
        """H as a dense ``(P, P)`` matrix in the order of ``names`` (small networks: tests and self-checks)."""
        ...
