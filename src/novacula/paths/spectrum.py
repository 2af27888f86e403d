"""The eigenvalues of the loss's curvature around trained weights, by products with vectors alone.

Lanczos' method from a random direction z gives a tridiagonal matrix whose eigenvalues θ and first components τ are a
Gauss quadrature of the spectral measure of z, so that for random signs z

    tr f(H) = E zᵀ f(H) z ≈ P · mean_z Σ_i τ_i² f(θ_i),

with a standard error from the spread over z. All vectors are kept and made orthogonal again in every step: without,
eigenvalues that were found come back as ghosts. Each θ has an eigenvalue of H within its residual ``|β_m s_mi|``, and
those at the ends converge first. The effective dimension ``Σ λ/(λ + α)`` counts directions that data determine more
than a prior of precision α.

References:
    Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. S. Ubaru, J. Chen, Y. Saad, 2017.
    An investigation into neural net optimization via Hessian eigenvalue density. B. Ghorbani, S. Krishnan, Y. Xiao,
    2019. arXiv:1901.10159.
    Bayesian interpolation. D. J. C. MacKay, 1992 (the effective number of parameters).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from novacula.core.attention import plain_attention
from novacula.core.brief import brief
from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError, NonFiniteError
from novacula.core.params import Params, flatten
from novacula.core.rng import generator
from novacula.curvature import Problem, matrix_free
from novacula.data.given import DataLike
from novacula.paths.barrier import point_of
from novacula.posteriors.base import Learned, Posterior
from novacula.target import Target
from novacula.target.given import TargetLike, prepared

_CONVERGED = 1e-3  # residual of an eigenvalue that counts as found, of the largest


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of the curvature of ``Σ_n ℓ_n``, as far as they are known.

    Attributes:
        nodes: θ of each probe, in ascending order, shape ``(K, M)``, float64.
        masses: τ² of each, which sum to one for a probe, ``(K, M)``.
        residuals: How far from each θ there is an eigenvalue at most, ``(K, M)``.
        weights: P.
        matrix: ``"ggn"`` or ``"hessian"``.
    """

    nodes: np.ndarray
    masses: np.ndarray
    residuals: np.ndarray
    weights: int
    matrix: str

    __repr__ = brief

    def sum(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        """``Σ f(λ)`` over all eigenvalues.

        Args:
            function: f, of an array.

        Returns:
            The estimate and its standard error over probes; NaN for a single one.
        """
        found = self.weights * (self.masses * function(self.nodes)).sum(1)
        many = len(found)
        return float(found.mean()), float(found.std(ddof=1)) / many**0.5 if many > 1 else float("nan")

    @property
    def trace(self) -> tuple[float, float]:
        """``Σ λ`` and its standard error."""
        return self.sum(lambda v: v)

    def effective_dimension(self, precision: float = 1.0) -> tuple[float, float]:
        """``Σ λ/(λ + α)`` of the eigenvalues above nought, and its standard error.

        Args:
            precision: α, that of the prior.

        Returns:
            Both.
        """
        check_positive("precision", precision)
        return self.sum(lambda v: np.maximum(v, 0) / (np.maximum(v, 0) + precision))

    @property
    def largest(self) -> tuple[tuple[float, float], ...]:
        """The largest eigenvalues that have converged, in descending order, each with its error, of the best probe."""
        return self._ends(-1)

    @property
    def smallest(self) -> tuple[tuple[float, float], ...]:
        """The smallest that have converged, in ascending order: below nought where a Hessian has such."""
        return self._ends(1)

    def _ends(self, way: int) -> tuple[tuple[float, float], ...]:
        good = self.residuals <= _CONVERGED * np.abs(self.nodes).max()
        runs = [np.minimum.accumulate(row[::way]).sum() for row in good]  # converged from this end on
        best = int(np.argmax(runs))
        pairs = zip(self.nodes[best][::way], self.residuals[best][::way], strict=True)
        return tuple((float(v), float(r)) for v, r in list(pairs)[: runs[best]])


def spectrum(
    target: TargetLike,
    data: DataLike,
    start: Params | Posterior | Learned | None = None,
    *,
    matrix: Literal["ggn", "hessian"] = "ggn",
    probes: int = 4,
    steps: int = 60,
    seed: int = 0,
) -> Spectrum:
    """Look at the eigenvalues of the curvature of the training loss, a sum over examples in nats, without the prior.

    Args:
        target: The network, or a target; its likelihood gives the loss.
        data: The training data.
        start: The weights; the network's own by default.
        matrix: ``"ggn"``, the generalised Gauss–Newton matrix, which has no negative eigenvalues, or ``"hessian"``.
        probes: K random directions.
        steps: M, products with the matrix for each; at most P.
        seed: Seed of directions and of transformed copies.

    Returns:
        The spectrum: sums of functions with errors, the ends with bounds.

    Raises:
        InputError: If the data do not fit the network, or the matrix is unknown.
        NonFiniteError: If a product with the matrix is NaN or infinite.

    Example:
        >>> import novacula as nv
        >>> line = nv.Target(torch.nn.Linear(2, 1, bias=False), nv.Normal(sigma=1.0))
        >>> data = nv.Data([[3.0, 0.0], [0.0, 2.0]], [0.0, 0.0])
        >>> [round(v, 3) for v, _ in spectrum(line, data).largest]
        [9.0, 4.0]
    """
    if matrix not in {"ggn", "hessian"}:
        raise InputError("matrix='ggn' or 'hessian'", repr(matrix), "leave it out")
    for name, value in (("probes", probes), ("steps", steps)):
        check_whole(name, value)
    made, rows = prepared(target, data)
    there, point = made.at(made.params() if start is None else point_of(made, start))
    problem = there.problem(point, rows, seed=seed)
    apply = matrix_free(problem).product if matrix == "ggn" else _hessian(there, problem)
    count, rng = sum(w.numel() for w in problem.params.values()), generator(seed, "directions")
    found = [_lanczos(apply, count, min(steps, count), rng) for _ in range(probes)]
    longest = max(len(values) for values, _, _ in found)
    found = [_padded(f, longest - len(f[0])) for f in found]
    nodes, masses, residuals = (np.stack(part) for part in zip(*found, strict=True))
    return Spectrum(nodes, masses, residuals, count, matrix)


def _lanczos(
    apply: Callable[[Tensor], Tensor], count: int, steps: int, rng: torch.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Nodes, squares of first components, residuals.
    z = (2 * torch.randint(2, (count,), generator=rng) - 1).double()
    basis, alpha, beta = [z / z.norm()], list[float](), list[float]()
    for _ in range(steps):
        v = apply(basis[-1][None])[0].double().cpu()
        if not bool(torch.isfinite(v).all()):
            raise NonFiniteError("finite products with the curvature", "NaN or infinity", "check weights and inputs")
        alpha.append(float(v @ basis[-1]))
        kept = torch.stack(basis)
        for _ in range(2):
            v = v - kept.T @ (kept @ v)
        beta.append(float(v.norm()))
        if beta[-1] <= 1e-10 * max(map(abs, alpha)):
            beta[-1] = 0.0
            break
        basis.append(v / beta[-1])
    tridiagonal = np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    values, vectors = np.linalg.eigh(tridiagonal)
    return values, vectors[0] ** 2, np.abs(beta[-1] * vectors[-1])


def _padded(found: tuple[np.ndarray, ...], more: int) -> tuple[np.ndarray, ...]:
    # A direction that had nothing left to find ends early: its largest node again, with no mass.
    return tuple(np.append(part, [end] * more) for part, end in zip(found, (found[0][-1], 0.0, np.inf), strict=True))


def _hessian(target: Target, problem: Problem) -> Callable[[Tensor], Tensor]:
    # Products with the Hessian of the loss, by two passes of autograd.
    leaves = {k: w.detach().requires_grad_() for k, w in problem.params.items()}

    def slopes(of: Tensor, more: bool) -> Params:
        found = torch.autograd.grad(
            of, [*leaves.values()], retain_graph=True, create_graph=more, allow_unused=True, materialize_grads=True
        )
        return dict(zip(leaves, found, strict=True))

    def apply(vectors: Tensor) -> Tensor:
        total = torch.zeros_like(vectors)
        for xs, y in problem.batches():
            with torch.enable_grad(), plain_attention():
                loss = -target.likelihood.log_prob(problem.forward.average(leaves, xs), y).sum() * problem.scale
                first = flatten(slopes(loss, True))
                for i, v in enumerate(vectors):
                    total[i] += flatten(slopes(first @ v.to(first), False)).to(total)
        return total

    return apply
