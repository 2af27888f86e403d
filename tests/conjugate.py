"""Linear regression with Gaussian noise and prior, where every posterior has a closed form, as methods of `infer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from novacula.core.rng import generator
from novacula.data.data import Data
from novacula.inference.method import Info, Start
from novacula.likelihoods import Normal
from novacula.posteriors.base import Posterior
from novacula.posteriors.draws import Draws
from novacula.posteriors.laplace import laplace_posterior
from novacula.priors import Gaussian
from novacula.target import Target
from novacula.target.batch import Batch


@dataclass(frozen=True)
class Conjugate:
    """``N(m, T (XᵀX/(σ² T_l) + λ)⁻¹)``: as a Laplace posterior, or as independent draws of it."""

    draws: int = 0
    seed: int = 0

    batching: ClassVar[Any] = "full"

    def init(self, target: Target, data: Data, rng: torch.Generator, start: Start) -> Data:
        return data

    def step(self, target: Target, state: Data, batch: Batch, rng: torch.Generator) -> tuple[Data, Info]:
        return state, Info(0.0, done=True)

    def posterior(self, target: Target, state: Data) -> Posterior:
        sigma, precision = float(target.likelihood.sigma), float(target.prior.log_precision.exp().mean())
        mean, covariance = moments(
            state.x,
            state.y,
            sigma=sigma,
            precision=precision,
            temperature=target.temperature,
            likelihood_temperature=target.likelihood_temperature,
        )
        if not self.draws:
            return laplace_posterior(target, {"weight": mean.T}, state, structure="exact", check=False)
        z = torch.randn(self.draws, len(mean), generator=generator(self.seed), dtype=mean.dtype)
        flat = (mean[:, 0] + z @ torch.linalg.cholesky(covariance).T).unsqueeze(1)
        return Draws(target, flat, torch.zeros(self.draws, 1), target.params(), state.x[:2])


def moments(
    x: Tensor,
    y: Tensor,
    *,
    sigma: float,
    precision: float,
    temperature: float = 1.0,
    likelihood_temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Mean ``(D, 1)`` and covariance of the weights, written from the formula."""
    noise = sigma**2 * likelihood_temperature
    inverse = torch.linalg.inv(x.T @ x / noise + precision * torch.eye(x.shape[1], dtype=x.dtype))
    return inverse @ (x.T @ y) / noise, temperature * inverse


def leave_one_out(
    x: Tensor, y: Tensor, *, sigma: float, precision: float, temperature: float = 1.0, tl: float = 1.0
) -> Tensor:
    """``log p(y_n | D without n)``, by computing every posterior anew."""
    found = []
    for n in range(len(x)):
        kept = torch.arange(len(x)) != n
        m, v = moments(
            x[kept], y[kept], sigma=sigma, precision=precision, temperature=temperature, likelihood_temperature=tl
        )
        sd = (x[n] @ v @ x[n] + sigma**2).sqrt()
        found.append(torch.distributions.Normal(x[n] @ m[:, 0], sd).log_prob(y[n, 0]))
    return torch.stack(found)


def line(features: int, *, sigma: float, precision: float) -> Target:
    net = nn.Linear(features, 1, bias=False).double()
    return Target(
        net, likelihood=Normal(log_sigma=torch.tensor(sigma, dtype=torch.float64).log()), prior=Gaussian(precision)
    )
