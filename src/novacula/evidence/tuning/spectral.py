"""The Laplace evidence at fixed weights as a function of precisions and noise, through eigenvalues alone.

Precisions are moved in groups g by factors ``e^(a_g)`` and the noise variance by ``e^b``. With the eigenvalues ``h`` of
``Λ^-½ H Λ^-½`` at the start, ``q_g = w_gᵀ Λ w_g`` and R the sum of squared residuals over σ², the evidence is, but for
a constant,

    F(a, b) = −½ Σ_g Σ_i log(1 + h_gi e^(−a_g − b)) − 1/(2T) [Σ_g q_g e^(a_g) + R e^(−b) + N D b].

Each term is concave in (a, b), and so is F. Its derivatives are sums over the eigenvalues:
``∂F/∂a_g = ½ (γ_g − q_g e^(a_g)/T)`` with ``γ_g = Σ_i h_gi/(h_gi + e^(a_g + b))``.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOLERANCE = 1e-8
"""The largest derivative, in nats per unit of a logarithm, at which the maximum counts as found."""


class Objective(Protocol):
    """F, with everything it needs as numbers (of NumPy, as threads do not pay for a few thousand of them)."""

    @property
    def scales(self) -> Scales:
        """What does not depend on the curvature."""
        ...

    @property
    def learned(self) -> NDArray[np.bool_]:
        """Which of the coordinates ``(a_1 … a_G, b)`` are free, shape ``(G + 1,)``."""
        ...

    def without(self, fixed: NDArray[np.bool_]) -> Objective:
        """The same with some coordinates held, ``(G + 1,)``."""
        ...

    def value(self, x: Floats) -> float:
        """F; x ``(a_1 … a_G, b)``."""
        ...

    def gamma(self, x: Floats) -> Floats:
        """How many parameters of each group are determined, ``(G,)``."""
        ...

    def derivatives(self, x: Floats) -> tuple[Floats, Floats]:
        """Gradient and Hessian of F in the free coordinates: x ``(a_1 … a_G, b)`` to ``(k,)``."""
        ...


@dataclass(frozen=True, eq=False)
class Scales:
    """The terms of F that do not depend on the curvature, ``−1/(2T) [Σ_g q_g e^(a_g) + R e^(−b) + N D b]``."""

    squares: Floats  # ``q_g``, shape ``(G,)``
    residuals: float | None  # R; None where the noise is not tuned
    outputs: int  # N·D
    temperature: float  # T
    learned: NDArray[np.bool_]  # which coordinates are free, shape ``(G + 1,)``

    def without(self, fixed: NDArray[np.bool_]) -> Scales:
        """The same with some coordinates held, ``(G + 1,)``."""
        return replace(self, learned=self.learned & ~fixed)

    def value(self, x: Floats) -> float:
        """The terms; x ``(a_1 … a_G, b)``."""
        fit = float(self.squares @ np.exp(x[:-1]))
        if self.residuals is not None:
            fit += self.residuals * float(np.exp(-x[-1])) + self.outputs * float(x[-1])
        return -fit / (2 * self.temperature)

    def complete(self, x: Floats, gamma: Floats, slope: Floats) -> tuple[Floats, Floats]:
        """Gradient and Hessian of F in the free coordinates, from γ ``(G,)`` and minus its slopes in (a, b)."""
        t = self.temperature
        penalty = self.squares * np.exp(x[:-1]) / t
        gradient, hessian = np.zeros(len(x)), -slope / 2
        gradient[:-1] = (gamma - penalty) / 2
        hessian[:-1, :-1] -= np.diag(penalty / 2)
        if self.residuals is not None:
            misfit = self.residuals * float(np.exp(-x[-1])) / t
            gradient[-1] = (gamma.sum() + misfit - self.outputs / t) / 2
            hessian[-1, -1] -= misfit / 2
        return gradient[self.learned], hessian[np.ix_(self.learned, self.learned)]


@dataclass(frozen=True, eq=False)
class Spectral:
    """F of independent groups, by their eigenvalues."""

    spectra: tuple[Floats, ...]  # eigenvalues of each group, in units of the precisions at the start
    scales: Scales  # the other terms

    @property
    def learned(self) -> NDArray[np.bool_]:
        """Which coordinates are free."""
        return self.scales.learned

    def without(self, fixed: NDArray[np.bool_]) -> Spectral:
        """The same with some coordinates held, ``(G + 1,)``."""
        return replace(self, scales=self.scales.without(fixed))

    def value(self, x: Floats) -> float:
        """F; x ``(a_1 … a_G, b)``."""
        b = x[-1]
        occam = sum(float(np.log1p(h * np.exp(-a_g - b)).sum()) for h, a_g in zip(self.spectra, x[:-1], strict=True))
        return -occam / 2 + self.scales.value(x)

    def gamma(self, x: Floats) -> Floats:
        """How many parameters of each group are determined, ``(G,)``."""
        return np.array([share.sum() for share in self._shares(x)])

    def derivatives(self, x: Floats) -> tuple[Floats, Floats]:
        """Gradient and Hessian of F in the free coordinates: x ``(a_1 … a_G, b)`` to ``(k,)``."""
        shares = self._shares(x)
        each = np.array([(share * (1 - share)).sum() for share in shares])
        slope = np.zeros((len(x), len(x)))
        slope[:-1, :-1] = np.diag(each)
        slope[:-1, -1] = slope[-1, :-1] = each
        slope[-1, -1] = each.sum()
        return self.scales.complete(x, np.array([share.sum() for share in shares]), slope)

    def _shares(self, x: Floats) -> list[Floats]:
        return [h / (h + np.exp(a_g + x[-1])) for h, a_g in zip(self.spectra, x[:-1], strict=True)]


def maximise(objective: Objective, steps: int) -> tuple[Floats, list[float], float]:
    """Newton's method, from zero, with steps of at most 3 that are halved until they gain."""
    x = np.zeros(len(objective.learned))
    history = [objective.value(x)]
    if not objective.learned.any():
        return x, history, 0.0
    gradient, hessian = objective.derivatives(x)
    for _ in range(steps):
        if np.abs(gradient).max() <= TOLERANCE:
            break
        newton = np.linalg.solve(-hessian, gradient)
        newton *= min(1.0, 3.0 / float(np.abs(newton).max()))
        direction = np.zeros_like(x)
        direction[objective.learned] = newton
        gain, step = float(gradient @ newton), 1.0
        new = objective.value(x + direction)
        # Close to the maximum, gains are below rounding; a full step is then right.
        while new < history[-1] + 1e-4 * step * gain and step * gain > 1e-11 * (1 + abs(history[-1])):
            step /= 2
            new = objective.value(x + step * direction)
        x = x + step * direction
        history.append(new)
        gradient, hessian = objective.derivatives(x)
    return x, history, float(np.abs(gradient).max())
