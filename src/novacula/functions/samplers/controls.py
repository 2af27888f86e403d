"""Samplers that are no networks: what of a prior over functions is nothing special to networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_positive, check_whole


@dataclass(frozen=True)
class Coins:
    """Every label by the toss of a coin: the counting measure, under which all functions are alike."""

    def __call__(self, inputs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Labels ``(n, N)``."""
        return torch.rand(n, len(inputs), generator=rng) < 0.5


@dataclass(frozen=True)
class LinearThreshold:
    """``w·x/√D + σ_b b > 0`` with standard normal w and b.

    Args:
        sigma_b: σ_b; with zero, an input of zeros is always of class 0.
    """

    sigma_b: float = 1.0

    def __call__(self, inputs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Labels ``(n, N)``."""
        x = inputs.flatten(1)
        w = torch.randn(n, x.shape[1], generator=rng, dtype=x.dtype) / x.shape[1] ** 0.5
        return w @ x.T + self.sigma_b * torch.randn(n, 1, generator=rng, dtype=x.dtype) > 0


@dataclass(frozen=True)
class GaussianProcess:
    """The sign of a Gaussian process with the kernel ``exp(−‖x − x'‖²/2ℓ²)``.

    Args:
        lengthscale: ℓ, in units of the inputs.
    """

    lengthscale: float = 1.0

    def __post_init__(self) -> None:
        check_positive("lengthscale", self.lengthscale)

    def __call__(self, inputs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Labels ``(n, N)``."""
        x = inputs.flatten(1).double()
        kernel = torch.exp(-0.5 * torch.cdist(x, x).square() / self.lengthscale**2)
        values, vectors = torch.linalg.eigh(kernel)
        root = vectors * values.clamp_min(0).sqrt()
        return torch.randn(n, len(x), generator=rng, dtype=x.dtype) @ root.T > 0


@dataclass(frozen=True)
class NearestNeighbour:
    """The label of the nearest of some inputs, chosen at random, whose labels are tosses of a coin.

    Args:
        points: How many inputs are labelled.
    """

    points: int = 8

    def __post_init__(self) -> None:
        check_whole("points", self.points)

    def __call__(self, inputs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Labels ``(n, N)``; of points equally near, the one that was chosen first."""
        x = inputs.flatten(1).double()
        near = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        k = min(self.points, len(x))
        chosen = torch.rand(n, len(x), generator=rng).argsort(1)[:, :k]
        labels = torch.rand(n, k, generator=rng) < 0.5
        return torch.cat([labels[i].gather(1, near[chosen[i]].argmin(1)) for i in torch.arange(n).split(256)])


@dataclass(frozen=True)
class RandomTree:
    """A tree that asks one feature at each node whether it is above a value, and tosses a coin at each leaf.

    Args:
        depth: How many questions a path has.
    """

    depth: int = 5

    def __post_init__(self) -> None:
        check_whole("depth", self.depth)

    def __call__(self, inputs: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Labels ``(n, N)``; thresholds stand uniformly between a feature's least and largest value."""
        x = inputs.flatten(1)
        low, high = x.amin(0), x.amax(0)
        nodes = 2**self.depth
        feature = torch.randint(x.shape[1], (n, nodes), generator=rng)
        height = torch.rand(n, nodes, generator=rng)
        threshold = low[feature] + height * (high - low)[feature]
        node = torch.ones(n, len(x), dtype=torch.int64)
        for _ in range(self.depth):
            asked, at = feature.gather(1, node), threshold.gather(1, node)
            node = 2 * node + (x.T[asked, torch.arange(len(x))] > at)
        return (torch.rand(n, nodes, generator=rng) < 0.5).gather(1, node - nodes)
