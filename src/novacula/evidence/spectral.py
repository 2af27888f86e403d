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

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-8
"""The largest derivative, in nats per unit of a logarithm, at which the maximum counts as found."""


@dataclass(frozen=True, eq=False)
class Objective:
    """F, with everything it needs as numbers.

    Args:
        spectra: Eigenvalues of each group, in units of the precisions at the start.
        squares: ``q_g``, shape ``(G,)``.
        residuals: R; None where the noise is not tuned.
        outputs: N·D.
        temperature: T.
        learned: Which of the coordinates ``(a_1 … a_G, b)`` are free.
    """

    spectra: tuple[Tensor, ...]
    squares: Tensor
    residuals: float | None
    outputs: int
    temperature: float
    learned: Tensor

    def value(self, x: Tensor) -> float:
        """F.

        Args:
            x: ``(a_1 … a_G, b)``.

        Returns:
            Nats, but for a constant.
        """
        a, b, t = x[:-1], x[-1], self.temperature
        occam = sum(float((h * (-(a_g + b)).exp()).log1p().sum()) for h, a_g in zip(self.spectra, a, strict=True))
        fit = float((self.squares * a.exp()).sum())
        if self.residuals is not None:
            fit += self.residuals * float((-b).exp()) + self.outputs * float(b)
        return -(occam + fit / t) / 2

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and Hessian of F in the free coordinates.

        Args:
            x: ``(a_1 … a_G, b)``.

        Returns:
            Shapes ``(k,)`` and ``(k, k)``.
        """
        a, b, t = x[:-1], x[-1], self.temperature
        used = []
        for h, a_g in zip(self.spectra, a, strict=True):
            share = h / (h + (a_g + b).exp())
            used.append(torch.stack([share.sum(), (share * (1 - share)).sum()]))
        gamma, slope = torch.stack(used, 1)
        penalty = self.squares * a.exp() / t
        gradient, hessian = torch.zeros_like(x), torch.zeros(len(x), len(x), dtype=x.dtype)
        gradient[:-1] = (gamma - penalty) / 2
        hessian[:-1, :-1] = torch.diag(-(slope + penalty) / 2)
        if self.residuals is not None:
            misfit = self.residuals * float((-b).exp()) / t
            gradient[-1] = (float(gamma.sum()) + misfit - self.outputs / t) / 2
            hessian[-1, -1] = -(float(slope.sum()) + misfit) / 2
            hessian[:-1, -1] = hessian[-1, :-1] = -slope / 2
        return gradient[self.learned], hessian[self.learned][:, self.learned]


def maximise(objective: Objective, steps: int) -> tuple[Tensor, list[float], float]:
    """Newton's method, from zero, with steps of at most 3 that are halved until they gain.

    Args:
        objective: F.
        steps: At most so many.

    Returns:
        The maximum, F at the start and after each step, and the largest derivative left.
    """
    x = torch.zeros(len(objective.spectra) + 1, dtype=torch.float64)
    history = [objective.value(x)]
    if not objective.learned.any():
        return x, history, 0.0
    for _ in range(steps):
        gradient, hessian = objective.derivatives(x)
        if float(gradient.abs().max()) <= TOLERANCE:
            break
        direction = torch.zeros_like(x)
        direction[objective.learned] = torch.linalg.solve(-hessian, gradient)
        direction *= min(1.0, 3.0 / float(direction.abs().max()))
        slope, step = float(gradient @ direction[objective.learned]), 1.0
        new = objective.value(x + direction)
        # Close to the maximum, gains are below rounding; a full step is then right.
        while new < history[-1] + 1e-4 * step * slope and step * slope > 1e-11 * (1 + abs(history[-1])):
            step /= 2
            new = objective.value(x + step * direction)
        x = x + step * direction
        history.append(new)
    return x, history, float(objective.derivatives(x)[0].abs().max())
