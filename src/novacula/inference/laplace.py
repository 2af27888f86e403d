"""`Laplace`: train by a point estimator, then take the Gaussian around its weights (`novacula.posteriors.laplace`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from novacula.core.checks.numbers import check_fields
from novacula.curvature.structures.names import Structure, check_structure
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Method, Start, check_method
from novacula.inference.optimising.map import MAP
from novacula.posteriors.base import Posterior, network_target
from novacula.posteriors.laplace import checked_temperature, laplace_posterior
from novacula.posteriors.mixture import mixture
from novacula.target import Density, Target
from novacula.target.batch import Batch


@dataclass(frozen=True, eq=False)
class LaplaceState:
    """The optimiser's state, and a reference to the data."""

    inner: Any
    data: Data = field(metadata={"checkpoint": False})


@dataclass(frozen=True)
class Laplace:
    """Train by a point estimator, then approximate the posterior around its weights.

    Args:
        structure: How the curvature is represented: ``"exact"``, ``"kron"``, ``"diag"``, ``"last_layer"`` or
            ``"matrix_free"``.
        optimiser: The point estimator.
        temperature: T; by default the target's. It multiplies the covariance.
        seed: Seed of the transformations and probes.
        check: Whether to hold the predictive against the point estimate on training examples predicted without
            themselves, and to warn where it is worse; and to warn where training has not reached the mode.
        settle: Whether to go on from the trained weights to the mode, by Newton's method with this curvature.

    Raises:
        InputError: If the structure is unknown or the temperature is not positive.

    Example:
        >>> Laplace("last_layer", optimiser=MAP(lr=1e-2)).structure
        'last_layer'
    """

    structure: Structure = "kron"
    optimiser: Method = field(default_factory=MAP)
    temperature: float | None = None
    seed: int = 0
    check: bool = True
    settle: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_method(self.optimiser)
        check_structure(self.structure)
        if self.temperature is not None:
            checked_temperature(self.temperature)

    batching: Batching = field(default="mini", init=False, repr=False)

    def init(self, target: Density, data: Data, rng: torch.Generator, start: Start) -> LaplaceState:
        """The optimiser's first state."""
        network_target(target, "Laplace")
        return LaplaceState(self.optimiser.init(target, data, rng, start), data)

    def step(
        self, target: Target, state: LaplaceState, batch: Batch, rng: torch.Generator
    ) -> tuple[LaplaceState, Info]:
        """One step of the optimiser."""
        inner, info = self.optimiser.step(target, state.inner, batch, rng)
        return LaplaceState(inner, state.data), info

    def posterior(self, target: Target, state: LaplaceState) -> Posterior:
        """The Gaussian around the optimiser's weights."""
        found = self.optimiser.posterior(target, state.inner)
        return mixture(
            [
                laplace_posterior(
                    target,
                    mode,
                    state.data,
                    structure=self.structure,
                    seed=self.seed,
                    temperature=self.temperature,
                    check=self.check,
                    settle=self.settle,
                )
                for mode in (p.mode for p in found.parts)
            ]
        )
