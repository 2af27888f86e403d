"""Regression where the network says how noisy each target is.

References:
    Estimating the mean and variance of the target probability distribution. D. A. Nix, A. S. Weigend, 1994.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.likelihoods import checks
from novacula.likelihoods.base import Likelihood


@dataclass(frozen=True, eq=False)
class HeteroscedasticNormal(Likelihood):
    """``p(y | f) = Π_d N(y_d; μ_d, σ_d²)`` with ``f = (μ_1 … μ_D, log σ_1 … log σ_D)``, so ``C = 2D``.

    All means come first, then all log standard deviations (natural logarithm).

    Example:
        >>> f = torch.tensor([[1.0, 0.0]])  # mean 1, log sigma 0
        >>> HeteroscedasticNormal().log_prob(f, torch.tensor([[1.0]]))
        tensor([-0.9189])
    """

    task = "regression"
    loss = "heteroscedastic_normal"

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """``Σ_d −½ ((y_d − μ_d)/σ_d)² − log σ_d − ½ log 2π``: f ``(N, 2D)``, y ``(N, D)`` to ``(N,)``."""
        checks.matched(f, y, (f.shape[0], f.shape[-1] // 2))
        mu, log_sigma = _halves(f)
        z = (y.to(f.dtype) - mu) * (-log_sigma).exp()
        return (-0.5 * z.square() - log_sigma - 0.5 * math.log(2 * math.pi)).sum(-1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``L = diag(1/σ_1 … 1/σ_D, √2 … √2)``: the Fisher information of ``(μ, log σ)`` is ``diag(1/σ², 2)``.

        The Hessian of ``−log p`` depends on ``y`` and need not be positive; its expectation over ``y`` is this.

        Returns:
            A tensor of shape ``(N, 2D, 2D)``, differentiable in ``f``.
        """
        _, log_sigma = _halves(f)
        return torch.diag_embed(torch.cat([(-log_sigma).exp(), torch.full_like(log_sigma, math.sqrt(2.0))], -1))

    @torch.no_grad()
    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Draw ``μ + σ ε``: f ``(N, 2D)`` to ``(N, D)``."""
        mu, log_sigma = _halves(f)
        return mu + log_sigma.exp() * torch.randn(mu.shape, generator=rng, device=rng.device, dtype=f.dtype).to(
            f.device
        )

    def mean(self, f: Tensor) -> Tensor:
        """The means; f ``(N, 2D)``."""
        return _halves(f)[0]

    def gaussians(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations; f ``(…, 2D)``."""
        mu, log_sigma = _halves(f)
        return mu, log_sigma.exp()

    def outputs(self, y: Tensor) -> int:
        """Two outputs for each target; y ``(N,)``."""
        return 2 * checks.targets(y, training=True).shape[1]

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Targets as floats: y ``(N,)`` to ``(N, D)``."""
        y = checks.targets(y, training=training)
        if outputs != 2 * y.shape[1]:
            raise InputError(
                f"a network with {2 * y.shape[1]} outputs (means, then log standard deviations)",
                f"{outputs}",
                "double the last layer, or use Normal() for noise of one size",
            )
        return y


def _halves(f: Tensor) -> tuple[Tensor, Tensor]:
    if f.shape[-1] % 2:
        raise InputError(
            "an even number of outputs (means, then log standard deviations)", f"{f.shape[-1]}", "double the last layer"
        )
    half = f.shape[-1] // 2
    return f[..., :half], f[..., half:]
