"""Curvature through products with vectors alone: for networks whose GGN is too large for any matrix.

With ``B = I + Λ^-½ s·H Λ^-½``, conjugate gradients on ``B u = z`` give the solution u and, from their coefficients, the
Lanczos tridiagonal T of B on z, so that for random signs z

    log |B| = E zᵀ log(B) z ≈ mean_z P · e₁ᵀ log(T) e₁,        ∂ log |B| = E uᵀ ∂B z.

The value is an estimate with a standard error from the spread over probes. Its gradient is that of ``uᵀ B z`` with u
held fixed, which is unbiased for each probe.

References:
    Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. S. Ubaru, J. Chen, Y. Saad, 2017.
    GPyTorch: blackbox matrix-matrix Gaussian process inference with GPU acceleration. J. Gardner, G. Pleiss, D. Bindel,
    K. Weinberger, A. G. Wilson, 2018. arXiv:1809.11165.
    Sampling-based inference for large linear models, with application to linearised Laplace. J. Antorán, S. Padhy,
    R. Barbano, E. Nalisnick, D. Janz, J. M. Hernández-Lobato, 2023. arXiv:2210.04994.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.params import Params, flatten, unflatten
from novacula.core.rng import generator
from novacula.curvature.gradients.jacobian import Plan, jacobian, plan
from novacula.curvature.gradients.products import linearise, ready
from novacula.curvature.precision import precision_vector
from novacula.curvature.problem import Leverage, LogDet, Problem
from novacula.curvature.structures.diagonal import diagonal
from novacula.curvature.structures.exact import exact
from novacula.curvature.structures.lanczos import Apply, conjugate_gradients

GROUP = 2**24
"""Entries of the probes that are worked on at once; conjugate gradients keep about six vectors for each probe."""


@dataclass(frozen=True, eq=False)
class MatrixFree:
    """The full GGN of all parameters, known by its products.

    Args:
        plan: How the network is linearised.
        probes: Random vectors of the log-determinant.
        iterations: At most so many iterations of conjugate gradients.
        tolerance: They stop at this residual, relative to the right-hand side.
        seed: Seed of the probes: the same for every call, so that differences between precisions are smooth.
        structure: The structure's name.
        fallback: Empty: every parameter is covered.
        warnings: Reservations.
    """

    leverage: ClassVar[Leverage] = "solved"
    plan: Plan
    probes: int
    iterations: int
    tolerance: float
    seed: int
    structure: str = "matrix_free"
    fallback: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are covered: all."""
        return self.plan.names

    def log_det(self, precision: Params, *, scale: float | Tensor = 1.0) -> LogDet:
        """``log |scale·H + Λ| − log |Λ|`` by stochastic Lanczos quadrature."""
        rng = generator(self.seed, "probes")
        signs = torch.randint(0, 2, (self.probes, self.plan.weights), generator=rng, dtype=torch.int8)
        z = (2 * signs - 1).to(self.plan.leaves[self.names[0]].device)
        vector = precision_vector(precision, self.plan.problem.params, self.names)
        return estimate(self.plan, vector, scale, z, self.iterations, self.tolerance)

    @torch.no_grad()
    def covariance(self, precision: Params, *, scale: float = 1.0) -> MatrixFreeCovariance:
        """Ready ``(scale·H + Λ)⁻¹`` for solves."""
        vector = precision_vector(precision, self.plan.problem.params, self.names)
        return MatrixFreeCovariance(self.plan, vector.rsqrt(), float(scale), self.iterations, self.tolerance)

    def product(self, vectors: Tensor) -> Tensor:
        """``H v`` for several v.

        Args:
            vectors: Shape ``(n, P)``, flat in the order of ``names``.

        Returns:
            Shape ``(n, P)``, float64, without a graph.
        """
        return product(self.plan, vectors)

    def diagonal(self) -> Params:
        """The diagonal of H, exactly, by one pass over all rows."""
        return diagonal(self.plan.problem).values

    def eigenvalues(self, precision: Params) -> None:
        """None: H is never made."""

    def dense(self) -> Tensor:
        """H itself, ``(P, P)``."""
        return exact(self.plan.problem).dense()


@dataclass(frozen=True, eq=False)
class MatrixFreeCovariance:
    """``(scale·H + Λ)⁻¹``, by conjugate gradients preconditioned with the prior.

    Args:
        plan: How the network is linearised.
        sd: ``Λ^-½`` as a vector.
        scale: The factor of H.
        iterations: At most so many iterations.
        tolerance: Relative residual to stop at.
    """

    plan: Plan
    sd: Tensor
    scale: float
    iterations: int
    tolerance: float

    __repr__ = brief

    @torch.no_grad()
    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw deviations, exactly up to the tolerance of the solves.

        ``Λ^½ e₁ + Gᵀ e₂`` has covariance ``H + Λ``, and so the solution of the system with it has its inverse.

        Returns:
            Tensors ``(n, *shape)``.
        """
        total = _normal((n, len(self.sd)), rng, self.sd)
        problem = self.plan.problem
        root = (self.scale * problem.scale) ** 0.5
        for xs, y in self.plan.chunks():
            tangent = linearise(self.plan, xs)
            factor = problem.factor(tangent.outputs.detach(), y)
            e = _normal((n, len(factor), factor.shape[2]), rng, factor)
            pulled = tangent.pull(torch.einsum("bck,nbk->nbc", factor, e).unbind(0))
            total += root * pulled.to(total) * self.sd
        return self._unflatten(self._solve(total) * self.sd)

    def solve(self, v: Params) -> Params:
        """Apply the covariance."""
        flat = flatten({k: v[k] for k in self.plan.names}).to(self.sd)
        return self._unflatten((self._solve((flat * self.sd).unsqueeze(0)) * self.sd)[0])

    def apply(self, vectors: Tensor) -> Tensor:
        """Apply the covariance to many vectors, ``(n, P)``, one after another."""
        found = (self.solve(self._unflatten(v)) for v in vectors)
        return torch.stack([flatten({k: v[k] for k in self.plan.names}) for v in found])

    @torch.no_grad()
    def variance(self, xs: Tensor) -> Tensor:
        """``J Σ Jᵀ``, by C solves for each input: xs ``(B, S, …)`` to ``(B, C, C)``."""
        found = []
        for x in xs.split(max(1, 64 // self.plan.outputs)):
            j = jacobian(self.plan, x)
            half = j.flatten(0, 1).to(self.sd) * self.sd
            v = half.unflatten(0, j.shape[:2]) @ self._solve(half).unflatten(0, j.shape[:2]).mT
            found.append(((v + v.mT) / 2).to(j.dtype))
        return torch.cat(found)

    def _solve(self, z: Tensor) -> Tensor:
        u, _, residual = conjugate_gradients(
            _whitened_product(self.plan, self.sd, self.scale), z, self.iterations, self.tolerance
        )
        _warn(residual, self.tolerance, self.iterations)
        return u

    def _unflatten(self, vector: Tensor) -> Params:
        like = {name: self.plan.problem.params[name] for name in self.plan.names}
        return {k: v.to(like[k].dtype) for k, v in unflatten(vector, like).items()}


def matrix_free(
    problem: Problem, *, probes: int = 16, iterations: int = 200, tolerance: float = 1e-3, seed: int = 0
) -> MatrixFree:
    """The GGN of all parameters as an operator.

    Args:
        problem: The problem.
        probes: Random vectors of the log-determinant; the standard error falls with their square root.
        iterations: At most so many products for each probe or solve.
        tolerance: Relative residual at which a solve ends.
        seed: Seed of the probes.

    Returns:
        The curvature, with gradients where the problem is differentiable.

    Raises:
        InputError: If there are fewer than two probes or one iteration.
    """
    if probes < 2 or iterations < 1 or not 0 < tolerance < 1:
        raise InputError(
            "two probes or more, an iteration or more, and a tolerance between 0 and 1",
            f"{probes}, {iterations} and {tolerance}",
            "leave the defaults",
        )
    made = plan(problem, columns=1, budget=2**62)  # no rows are formed, so the problem's own batches fit
    return MatrixFree(ready(made), probes, iterations, tolerance, seed)


def product(made: Plan, vectors: Tensor) -> Tensor:
    """``H v`` for several v, batch by batch: vectors ``(n, P)`` to ``(n, P)``."""

    def chunk(xs: Tensor, y: Tensor) -> tuple[Tensor]:
        tangent = linearise(made, xs)
        factor = made.problem.factor(tangent.outputs.detach(), y)
        pushed = tangent.push(vectors)
        cotangents = torch.einsum("bck,bdk,nbd->nbc", factor, factor, pushed)
        return (tangent.pull(cotangents.unbind(0)).double(),)

    with torch.no_grad():
        (total,) = made.reduce(chunk)
    return total * made.problem.scale


def estimate(
    made: Plan, precision: Tensor, scale: float | Tensor, z: Tensor, iterations: int, tolerance: float
) -> LogDet:
    """The log-determinant of ``B`` from given probes; precision ``(P,)``, z ``(n, P)``."""
    sd = precision.rsqrt()
    factor = float(scale.detach()) if isinstance(scale, Tensor) else scale
    apply = _whitened_product(made, sd.detach(), factor)
    forms, surrogates, residuals = [], [], []
    for part in z.split(max(1, GROUP // z.shape[1])):
        part = part.to(sd.dtype)
        with torch.no_grad():
            u, quadratic, residual = conjugate_gradients(apply, part, iterations, tolerance)
        forms.append(quadratic)
        residuals.append(residual)
        if torch.is_grad_enabled():
            surrogates.append(_bilinear(made, u * sd, part * sd))
    _warn(torch.cat(residuals), tolerance, iterations)
    quadratic = torch.cat(forms)
    value = quadratic.mean()
    stderr = float(quadratic.std() / math.sqrt(len(z))) if len(z) > 1 else math.nan
    if surrogates:
        surrogate = scale * torch.stack(surrogates).sum() / len(z)
        value = value + (surrogate - surrogate.detach())
    return LogDet(value, stderr)


def _bilinear(made: Plan, a: Tensor, b: Tensor) -> Tensor:
    """``Σ_i a_iᵀ H b_i``, with gradients to a, b and whatever H depends on.

    With ``q = L Lᵀ J b`` and so on held fixed, the differential is that of ``a·∇_w<f, q_b> + b·∇_w<f, q_a>`` plus that
    of the factor between fixed vectors, so that no more than two derivatives of the network are ever taken.

    Returns:
        A scalar.
    """
    if not made.problem.differentiable:
        with torch.no_grad():
            ha, hb = product(made, torch.cat([a, b])).split(len(a))
            value = (a * hb).sum()
        return (a * hb).sum() + (b * ha).sum() - value

    def chunk(xs: Tensor, y: Tensor) -> tuple[Tensor]:
        graph = torch.is_grad_enabled()
        tangent = linearise(made, xs, keep=graph)
        pushed = tangent.push(torch.cat([a, b]))
        ja, jb = pushed.split(len(a))
        # The weights are leaves of this graph, and must not be mistaken for something the factor depends on.
        factor = made.problem.factor(tangent.outputs, y)
        la, lb = torch.einsum("bck,nbc->nbk", factor, ja), torch.einsum("bck,nbc->nbk", factor, jb)
        between = (la * lb).sum()
        with torch.no_grad():
            qa, qb = torch.einsum("bck,nbk->nbc", factor, la), torch.einsum("bck,nbk->nbc", factor, lb)
        pulled = tangent.pull([*qb, *qa], create_graph=graph)
        moved = (torch.cat([a, b]) * pulled.to(a)).sum()
        return (moved + between.double() - 2 * between.detach().double(),)

    (total,) = made.reduce(chunk)
    return total * made.problem.scale


def _whitened_product(made: Plan, sd: Tensor, scale: float) -> Apply:
    return lambda v: v + scale * sd * product(made, v * sd)


def _warn(residual: Tensor, tolerance: float, iterations: int) -> None:
    worst = float(residual.max())
    if worst > max(10 * tolerance, 1e-2):
        warnings.warn(
            f"conjugate gradients stopped after {iterations} iterations at a relative residual of {worst:.1g}:"
            " the result is biased; allow more iterations",
            NovaculaWarning,
            stacklevel=3,
        )


def _normal(shape: tuple[int, ...], rng: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=like.dtype, device=rng.device).to(like)
