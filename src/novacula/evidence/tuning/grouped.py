"""The objective of `spectral` from the whole matrix: exact where groups of weights are correlated.

With ``H̃ = Λ^-½ H Λ^-½`` at the start, ``D = diag(e^(a_g))`` and ``M(a, b) = H̃ e^(−b) + D``,

    F(a, b) = −½ [log |M| − Σ_g n_g a_g] − 1/(2T) [Σ_g q_g e^(a_g) + R e^(−b) + N D b].

``log |Σ_i e^(x_i) A_i|`` of positive semi-definite matrices is convex in x, and so F is concave here too. With
``Σ = M⁻¹``, ``u_g = e^(a_g) tr Σ_gg`` and ``W_gh = e^(a_g + a_h) ‖Σ_gh‖²``: ``γ_g = n_g − u_g``,
``∂u_g/∂a_h = δ_gh u_g − W_gh`` and ``∂u_g/∂b = u_g − Σ_h W_gh``. A step costs a factorisation, ``O(P³)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from novacula.evidence.tuning.spectral import Floats, Scales


@dataclass(frozen=True, eq=False)
class Grouped:
    """F of a whole matrix."""

    matrix: Floats  # ``H̃ (P, P)``
    group: NDArray[np.int_]  # the group of each weight, ``(P,)``
    scales: Scales  # the terms that do not depend on H

    @property
    def learned(self) -> NDArray[np.bool_]:
        """Which coordinates are free."""
        return self.scales.learned

    def without(self, fixed: NDArray[np.bool_]) -> Grouped:
        """The same with some coordinates held, ``(G + 1,)``."""
        return replace(self, scales=self.scales.without(fixed))

    def value(self, x: Floats) -> float:
        """F; x ``(a_1 … a_G, b)``."""
        factor, _ = cho_factor(self._moved(x), lower=True)
        occam = 2 * float(np.log(np.diag(factor)).sum()) - float(x[:-1][self.group].sum())
        return -occam / 2 + self.scales.value(x)

    def gamma(self, x: Floats) -> Floats:
        """How many parameters of each group are determined, ``(G,)``."""
        inverse = cho_solve(cho_factor(self._moved(x), lower=True), np.eye(len(self.group)))
        member = np.eye(len(x) - 1)[self.group]
        return member.sum(0) - member.T @ (np.exp(x[:-1])[self.group] * np.diag(inverse))

    def derivatives(self, x: Floats) -> tuple[Floats, Floats]:
        """Gradient and Hessian of F in the free coordinates: x ``(a_1 … a_G, b)`` to ``(k,)``."""
        inverse = cho_solve(cho_factor(self._moved(x), lower=True), np.eye(len(self.group)))
        size, groups = np.exp(x[:-1])[self.group], len(x) - 1
        member = np.eye(groups)[self.group]  # (P, G)
        u = member.T @ (size * np.diag(inverse))
        w = member.T @ (size[:, None] * inverse**2 * size) @ member
        gamma = member.sum(0) - u
        slope = np.zeros((groups + 1, groups + 1))
        slope[:-1, :-1] = np.diag(u) - w
        slope[:-1, -1] = slope[-1, :-1] = u - w.sum(1)
        slope[-1, -1] = float((u - w.sum(1)).sum())
        return self.scales.complete(x, gamma, slope)

    def _moved(self, x: Floats) -> Floats:
        moved = self.matrix * np.exp(-x[-1])
        moved[np.diag_indices_from(moved)] += np.exp(x[:-1])[self.group]
        return moved
