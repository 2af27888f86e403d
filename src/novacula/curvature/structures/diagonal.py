"""The exact diagonal of the GGN: sums of squared per-example gradients, ``H_pp = Σ_n Σ_k g_nk,p²``.

All K columns of the factor are used, so there is no sampling noise, and every parameter of any layer is covered. What
the structure leaves out is correlation: ``log |diag(H) + Λ| ≥ log |H + Λ|`` (Hadamard), so its evidence is too low for
curvature that is far from diagonal.

References:
    Optimal brain damage. Y. LeCun, J. Denker, S. Solla, 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.params import Params, flatten, unflatten
from novacula.curvature.gradients.jacobian import BUDGET, Plan, jacobian, plan, rows_by_name
from novacula.curvature.precision import check_precision, precision_vector
from novacula.curvature.problem import Leverage, LogDet, Problem


@dataclass(frozen=True, eq=False)
class Diagonal:
    """The diagonal of the GGN.

    Args:
        plan: How the rows are computed.
        values: The diagonal by parameter, in float64; includes ``problem.scale``.
        structure: The structure's name.
        fallback: Empty: every parameter is covered.
        warnings: Reservations.
    """

    leverage: ClassVar[Leverage] = "approximate"
    plan: Plan
    values: Params
    structure: str = "diag"
    fallback: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are covered: all."""
        return tuple(self.values)

    def log_det(self, precision: Params, *, scale: float | Tensor = 1.0) -> LogDet:
        """``Σ_p log(1 + scale·H_pp / λ_p)``."""
        checked = check_precision(precision, self.plan.problem.params, self.names)
        terms = [torch.log1p(scale * h / checked[name]).sum() for name, h in self.values.items()]
        return LogDet(torch.stack(terms).sum(), 0.0)

    @torch.no_grad()
    def covariance(self, precision: Params, *, scale: float = 1.0) -> DiagonalCovariance:
        """Invert ``scale·diag(H) + Λ``."""
        vector = precision_vector(precision, self.plan.problem.params, self.names)
        return DiagonalCovariance(self.plan, 1 / (scale * flatten(self.values) + vector))

    def diagonal(self) -> Params:
        """The diagonal."""
        return dict(self.values)

    def eigenvalues(self, precision: Params) -> dict[tuple[str, ...], Tensor]:
        """The diagonal itself, by parameter."""
        return {(k,): (h.double() / precision[k]).flatten() for k, h in self.values.items()}

    def dense(self) -> Tensor:
        """The diagonal as a matrix, ``(P, P)``."""
        return torch.diag(flatten(self.values))


@dataclass(frozen=True, eq=False)
class DiagonalCovariance:
    """Independent variances of the weights.

    Args:
        plan: How Jacobians are computed.
        values: Variances, shape ``(P,)``, float64.
    """

    plan: Plan
    values: Tensor

    __repr__ = brief

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw deviations, ``(n, *shape)``."""
        e = torch.randn((n, len(self.values)), generator=rng, dtype=torch.float64, device=rng.device)
        return self._unflatten(e.to(self.values) * self.values.sqrt())

    def solve(self, v: Params) -> Params:
        """Apply the covariance."""
        return self._unflatten(flatten({k: v[k] for k in self.plan.names}) * self.values)

    def apply(self, vectors: Tensor) -> Tensor:
        """Apply the covariance to many vectors, ``(n, P)``."""
        return vectors.double() * self.values

    @torch.no_grad()
    def variance(self, xs: Tensor) -> Tensor:
        """``J Σ Jᵀ``: xs ``(B, S, …)`` to ``(B, C, C)``."""
        sd = self.values.sqrt().to(self.plan.dtype)
        size = max(1, BUDGET // (8 * self.plan.outputs * len(sd)))
        halves = (jacobian(self.plan, x) * sd for x in xs.split(size))
        return torch.cat([half @ half.mT for half in halves])

    def _unflatten(self, vector: Tensor) -> Params:
        like = {name: self.plan.problem.params[name] for name in self.plan.names}
        return {k: v.to(like[k].dtype) for k, v in unflatten(vector, like).items()}


def diagonal(problem: Problem) -> Diagonal:
    """The diagonal of the GGN of all parameters.

    Args:
        problem: The problem.

    Returns:
        The curvature, with gradients where the problem is differentiable.
    """
    made = plan(problem)

    def chunk(xs: Tensor, y: Tensor) -> list[Tensor]:
        return [g.double().square().sum((0, 1)) for g in rows_by_name(made, xs, y).values()]

    values = made.reduce(chunk)
    return Diagonal(made, {name: v * problem.scale for name, v in zip(made.names, values, strict=True)})
