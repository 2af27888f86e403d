"""Targets on a few examples, for which plain autograd, one member after another, is the answer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from novacula.likelihoods import Bernoulli, Categorical, Likelihood, Normal
from novacula.priors import Gaussian, Prior
from novacula.target import Target


class Series(nn.Module):
    """An LSTM of packed sequences: vmap does not cover them."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.full((len(x),), x.shape[1]), batch_first=True)
        return self.head(self.lstm(packed)[1][0][-1])


def case(
    network: nn.Module,
    likelihood: Likelihood | None = None,
    prior: Prior | None = None,
    *,
    n: int = 11,
    **options: float,
) -> tuple[Target, Tensor, Tensor]:
    """A target on a network of four inputs (or a `Series`) and three outputs, with n inputs and labels."""
    rng = torch.Generator().manual_seed(1)
    likelihood = Categorical() if likelihood is None else likelihood
    x = torch.randn((n, 6, 2) if isinstance(network, Series) else (n, 4), generator=rng, dtype=torch.float64)
    y = torch.arange(n) % 3
    if isinstance(likelihood, Normal):
        y = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    if isinstance(likelihood, Bernoulli):
        y = (torch.arange(n) % 2).double().unsqueeze(1)
    prior = Gaussian(precision=1.7) if prior is None else prior
    return Target(network.double(), likelihood=likelihood, prior=prior, **options), x, y


def close(found: Iterable[Tensor], expected: Iterable[Tensor], tolerance: float = 1e-9) -> bool:
    """Whether tensors have the same shapes, and the same values but for rounding."""
    return all(
        a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)
        for a, b in zip(found, expected, strict=True)
    )
