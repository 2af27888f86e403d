"""The whole generalised Gauss–Newton matrix, from whichever side is smaller.

With all rows ``g_nk`` stacked to ``G (R, P)``, R = N·K, there are two forms of one number,

    log |H + Λ| − log |Λ| = log |I_P + Λ^-½ Gᵀ G Λ^-½| = log |I_R + G Λ⁻¹ Gᵀ|.

The primal needs ``H = GᵀG`` once and then P³ operations, the dual R³. Both are exact.

References:
    Laplace redux: effortless Bayesian deep learning. E. Daxberger, A. Kristiadi, A. Immer, R. Eschenhagen, M. Bauer,
    P. Hennig, 2021. arXiv:2106.14806.
    Pathwise conditioning of Gaussian processes. J. Wilson, V. Borovitskiy, A. Terenin, P. Mostowsky, M. Deisenroth,
    2021. arXiv:2011.04026.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.params import Params, flatten, unflatten
from novacula.curvature.gradients.jacobian import BUDGET, Plan, jacobian, plan, rows
from novacula.curvature.precision import precision_vector
from novacula.curvature.problem import Leverage, LogDet, Problem

LIMIT = 2**33
"""Bytes that the dense matrix or the rows may take."""

Rows = Callable[[Tensor, Tensor], Tensor]
Jacobian = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Exact:
    """The GGN of some parameters, all of it.

    Args:
        params: The weights that are covered.
        side: Which form is kept.
        matrix: ``H (P, P)`` in float64 for the primal, ``G (R, P)`` for the dual; both include ``problem.scale``.
        jacobian: From inputs ``(B, S, …)`` to ``(B, C, P)``.
        structure: The structure's name.
        fallback: Empty: everything in ``params`` is covered as the structure promises.
        warnings: Reservations.
    """

    leverage: ClassVar[Leverage] = "whole"
    params: Params
    side: Literal["primal", "dual"]
    matrix: Tensor
    jacobian: Jacobian
    structure: str = "exact"
    fallback: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are covered."""
        return tuple(self.params)

    def log_det(self, precision: Params, *, scale: float | Tensor = 1.0) -> LogDet:
        """``log |scale·H + Λ| − log |Λ|``, by a Cholesky factorisation in float64."""
        whitened = self._whitened(precision_vector(precision, self.params, self.names))
        return LogDet(_log_det(whitened, scale), 0.0)

    def spectrum(self, pattern: Params) -> Spectrum:
        """Everything that ``log_det`` needs for all precisions ``c · pattern``: one eigendecomposition, however many c.

        Args:
            pattern: Precisions Λ₀ by name.

        Returns:
            The eigenvalues of ``Λ₀^-½ H Λ₀^-½``; without gradients to what H depends on.
        """
        with torch.no_grad():
            values = torch.linalg.eigvalsh(self._whitened(precision_vector(pattern, self.params, self.names)))
        return Spectrum(values.clamp(min=0))  # rounding may push zeros below

    def eigenvalues(self, precision: Params) -> dict[tuple[str, ...], Tensor]:
        """Those of all parameters together."""
        return {self.names: self.spectrum(precision).values}

    @torch.no_grad()
    def covariance(self, precision: Params, *, scale: float = 1.0) -> ExactCovariance:
        """Factorise ``scale·H + Λ``."""
        vector = precision_vector(precision, self.params, self.names)
        rows_ = self.matrix.double() * scale**0.5 if self.side == "dual" else None
        return ExactCovariance(
            self.params, vector.rsqrt(), _cholesky(self._whitened(vector), scale), rows_, self.jacobian
        )

    def diagonal(self) -> Params:
        """The diagonal of H."""
        if self.side == "primal":
            return unflatten(self.matrix.diagonal(), self.params)
        return unflatten(self.matrix.double().square().sum(0), self.params)

    def dense(self) -> Tensor:
        """H itself, ``(P, P)``."""
        return self.matrix if self.side == "primal" else self.matrix.double().T @ self.matrix.double()

    def _whitened(self, precision: Tensor) -> Tensor:
        # Λ^-½ H Λ^-½, or the dual's Gram matrix G Λ⁻¹ Gᵀ, which has the same eigenvalues but for zeros.
        d = precision.rsqrt()
        if self.side == "primal":
            return d.unsqueeze(1) * self.matrix * d
        g = self.matrix.double() * d
        return g @ g.T


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The eigenvalues of H in units of a precision pattern Λ₀.

    Args:
        values: Eigenvalues of ``Λ₀^-½ H Λ₀^-½``, ascending and not negative; zeros may be missing.
    """

    values: Tensor

    def log_det(self, factor: float | Tensor = 1.0, *, scale: float | Tensor = 1.0) -> LogDet:
        """``log |scale·H + c Λ₀| − log |c Λ₀|``."""
        return LogDet(torch.log1p(self.values * (scale / factor)).sum(), 0.0)


@dataclass(frozen=True, eq=False)
class ExactCovariance:
    """``(scale·H + Λ)⁻¹``, factorised.

    Args:
        params: The weights that are covered.
        sd: ``Λ^-½`` as a vector.
        factor: The Cholesky factor of ``I + Λ^-½ scale·H Λ^-½``, or of ``I + G Λ⁻¹ Gᵀ``.
        rows: ``G (R, P)`` of the dual form; None for the primal.
        jacobian: From inputs to ``(B, C, P)``.
    """

    params: Params
    sd: Tensor
    factor: Tensor
    rows: Tensor | None
    jacobian: Jacobian

    __repr__ = brief

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw deviations.

        The primal form applies the factor; the dual draws from the prior and corrects by what the data say (Matheron).

        Returns:
            Tensors ``(n, *shape)``.
        """
        e = _normal((n, len(self.sd)), rng).to(self.sd)
        if self.rows is None:
            return self._unflatten(torch.linalg.solve_triangular(self.factor.T, e.T, upper=True).T * self.sd)
        u = e * self.sd
        residual = _normal((n, len(self.rows)), rng).to(u) - u @ self.rows.T
        return self._unflatten(u + torch.cholesky_solve(residual.T, self.factor).T @ self.rows * self.sd.square())

    def solve(self, v: Params) -> Params:
        """Apply the covariance."""
        return self._unflatten(self.apply(flatten({k: v[k] for k in self.params}).to(self.sd).unsqueeze(0))[0])

    def variance(self, xs: Tensor) -> Tensor:
        """``J Σ Jᵀ``: xs ``(B, S, …)`` to ``(B, C, C)``."""
        with torch.no_grad():
            size = max(1, BUDGET // (8 * len(self.sd) * 64))
            return torch.cat([self._variance(x) for x in xs.split(size)])

    def apply(self, vectors: Tensor) -> Tensor:
        """Apply the covariance to many vectors: vectors ``(n, P)`` to ``(n, P)``."""
        vectors = vectors.to(self.sd)
        if self.rows is None:
            return torch.cholesky_solve((vectors * self.sd).T, self.factor).T * self.sd
        prior = vectors * self.sd.square()
        return prior - torch.cholesky_solve(self.rows @ prior.T, self.factor).T @ self.rows * self.sd.square()

    def matrix(self) -> Tensor:
        """The covariance as a matrix.

        Returns:
            Shape ``(P, P)``, float64.
        """
        return self.apply(torch.eye(len(self.sd), dtype=self.sd.dtype, device=self.sd.device))

    def _variance(self, xs: Tensor) -> Tensor:
        j = self.jacobian(xs)
        flat = j.flatten(0, 1).to(self.sd) * self.sd
        projected = flat if self.rows is None else flat @ (self.rows * self.sd).T
        # Half of the solve is enough, and keeps the result symmetric and positive.
        half = torch.linalg.solve_triangular(self.factor, projected.T, upper=False).T.unflatten(0, j.shape[:2])
        v = half @ half.mT
        if self.rows is not None:
            prior = flat.unflatten(0, j.shape[:2])
            v = prior @ prior.mT - v
        return v.to(j.dtype)

    def _unflatten(self, vector: Tensor) -> Params:
        return {k: v.to(self.params[k].dtype) for k, v in unflatten(vector, self.params).items()}


def exact(problem: Problem, *, side: Literal["auto", "primal", "dual"] = "auto") -> Exact:
    """The full GGN of all parameters.

    Args:
        problem: The problem.
        side: Which form to keep; by default the smaller.

    Returns:
        The curvature, with gradients where the problem is differentiable.

    Raises:
        InputError: If ``side`` is none of these, or the matrix would not fit.
    """
    made = plan(problem)
    return assemble(made, partial(rows, made), partial(jacobian, made), side=side)


def assemble(
    made: Plan,
    rows_: Rows,
    jacobian_: Jacobian,
    *,
    side: str = "auto",
    structure: str = "exact",
    warnings: tuple[str, ...] = (),
    gram: Callable[[], Tensor] | None = None,
) -> Exact:
    """Build the matrix from its rows; rows_ ``(xs, y)``, jacobian_ ``(B, C, P)``; or from a faster ``Gᵀ G``."""
    chosen = affordable(made, side)

    def chunk(xs: Tensor, y: Tensor) -> tuple[Tensor]:
        g = rows_(xs, y).flatten(0, 1)
        if chosen == "dual":
            return (g,)
        g = g.double()  # products in single precision would make small eigenvalues negative
        return (g.T @ g,)

    if gram is not None and chosen == "primal":
        matrix = gram()
    else:
        (matrix,) = made.reduce(chunk, "sum" if chosen == "primal" else "cat")
    scale = made.problem.scale
    matrix = matrix if scale == 1 else matrix * (scale if chosen == "primal" else scale**0.5)
    params = {name: made.problem.params[name] for name in made.names}
    return Exact(params, chosen, matrix, jacobian_, structure, {}, warnings)


def affordable(made: Plan, side: str = "auto") -> Literal["primal", "dual"]:
    """The side from which a matrix is made, or a refusal by its size."""
    p, r = made.weights, made.problem.size * made.columns
    if side not in {"auto", "primal", "dual"}:
        raise InputError("side 'auto', 'primal' or 'dual'", repr(side), "leave it at 'auto'")
    chosen: Literal["primal", "dual"] = "primal" if side == "primal" or (side == "auto" and p <= r) else "dual"
    size = 8 * (p * p if chosen == "primal" else r * max(p, r))
    if size > LIMIT:
        raise InputError(
            f"a matrix of at most {LIMIT / 2**30:.0f} GiB",
            f"{p:,} weights and {r:,} rows of the data, {size / 2**30:.0f} GiB",
            "use structure='kron' or 'matrix_free', or a subset of the data",
        )
    return chosen


def _log_det(whitened: Tensor, scale: float | Tensor) -> Tensor:
    # log |I + scale·W|; of eigenvalues alone the gradient is finite where some are equal.
    factor, info = torch.linalg.cholesky_ex(_identity(whitened) + whitened * scale)
    if not int(info):
        return 2 * factor.diagonal().log().sum()
    _check_finite(whitened)
    return torch.log1p(_told(torch.linalg.eigvalsh(whitened * scale))).sum()


def _cholesky(whitened: Tensor, scale: float) -> Tensor:
    # The lower factor of I + scale·W.
    factor, info = torch.linalg.cholesky_ex(_identity(whitened) + whitened * scale)
    if not int(info):
        return factor
    _check_finite(whitened)
    values, vectors = torch.linalg.eigh(whitened * scale)
    upper = torch.linalg.qr((1 + _told(values)).sqrt().unsqueeze(1) * vectors.T).R
    return upper.T * upper.diagonal().sign()


def _told(values: Tensor) -> Tensor:
    # Eigenvalues of W where its rounding errors hide I: those that rounding made, of either sign, are nought, so that
    # the prior holds there.
    noise = float(values.detach().abs().max()) * torch.finfo(values.dtype).eps * len(values)
    few = values > noise
    warnings.warn(
        f"the prior is so wide that rounding hides it: {len(values) - int(few.sum()):,} of {len(values):,} directions "
        "of the posterior were taken as the prior has them",
        NovaculaWarning,
        stacklevel=4,
    )
    return torch.where(few, values, 0.0)


def _check_finite(whitened: Tensor) -> None:
    if not bool(torch.isfinite(whitened).all()):
        raise NonFiniteError(
            "a finite posterior precision",
            "a matrix with NaN or infinite numbers",
            "check the weights and the outputs for NaN, and the prior's precisions for values that are too small",
        )


def _identity(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)


def _normal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64, device=rng.device)
