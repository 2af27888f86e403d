"""What decisions and conformal sets ask of a predictive.

`novacula.prediction.predictive.Predictive` fulfils it and calls them; they know this protocol alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from novacula.likelihoods.base import Likelihood


class Distribution(Protocol):
    """A distribution over the labels of N inputs; `Predictive` says what each part is."""

    @property
    def likelihood(self) -> Likelihood:
        """``p(y | f)``."""
        ...

    @property
    def outputs(self) -> Tensor:
        """Components, ``(S, N, C)``."""
        ...

    @property
    def covariance(self) -> Tensor | None:
        """The covariance of Gaussian outputs, ``(N, D, D)``."""
        ...

    @property
    def n(self) -> int:
        """The number of inputs N."""
        ...

    @property
    def samples(self) -> Tensor:
        """Each component's prediction, ``(S, N, C)``."""
        ...

    def mean(self) -> Tensor:
        """``E[y]``, ``(N, C)`` or ``(N, D)``."""
        ...

    def variance(self) -> Tensor:
        """Variances of the targets, ``(N, D)``."""
        ...

    def gaussians(self) -> tuple[Tensor, Tensor]:
        """Means and deviations of the mixture, each ``(S, N, D)``."""
        ...

    def draws(self) -> Tensor | None:
        """Fixed draws ``(K, N, D)`` of labels that are not Gaussian given the outputs, else None."""
        ...

    def total_covariance(self) -> Tensor:
        """The covariance of new targets, noise included, ``(N, D, D)``, where there is a `covariance`."""
        ...

    def quantile(self, p: float | Sequence[float] | Tensor) -> Tensor:
        """Quantiles, ``(N, D)`` or ``(Q, N, D)``."""
        ...

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Ends of the central interval, each ``(N, D)``."""
        ...

    def labels(self, y: Tensor) -> Tensor:
        """Labels, checked against the inputs."""
        ...
