"""The evidence by sequential Monte Carlo from the prior: asymptotically exact, and the most expensive.

It needs no mode, no curvature and no Gaussian posterior, and holds where the posterior has several modes, as far as the
particles find them. Its error is measured between independent populations; see `novacula.inference.particles.smc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.evidence.common import invariance_assumptions, make_estimate
from novacula.inference.infer import infer
from novacula.inference.particles.smc import SMC as Method
from novacula.inference.particles.smc import log_mean
from novacula.posteriors.base import Posterior
from novacula.posteriors.draws import Draws
from novacula.target import Target


@dataclass(frozen=True)
class SMC:
    """``log 1/M Σ_m Ẑ_m`` over independent populations of particles.

    Args:
        particles: Of each population.
        populations: M, at least 2: their spread is the error.
        move: ``"hmc"`` or ``"elliptical"``.
        moves: Moves of each particle at each temperature.
        steps: The most temperatures.

    Raises:
        InputError: If there are fewer than two populations.

    Example:
        >>> SMC(particles=64).populations
        4
    """

    particles: int = 256
    populations: int = 4
    move: Literal["hmc", "elliptical"] = "hmc"
    moves: int = 5
    steps: int = 1_000

    def __post_init__(self) -> None:
        check_fields(self)
        if self.populations < 2:
            raise InputError("two or more populations", str(self.populations), "their spread is the error: use 4")

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Estimate the log evidence."""
        method = Method(particles=self.particles, move=self.move, moves=self.moves)
        found = infer(method, target, data, steps=self.steps, chains=self.populations, seed=seed)
        post = cast("Draws", found)  # as the method says
        beta = float(post.stats["beta"].min())
        if beta < 1:
            raise InputError(
                "all of the likelihood within the steps", f"a share of {beta:.3g}", "raise steps or particles"
            )
        value, stderr = log_mean(post.stats["log_evidence"])
        return make_estimate(
            target,
            data,
            [torch.tensor(value, dtype=torch.float64)],
            kind="estimate",
            estimator=f"SMC({self.particles} particles × {self.populations}, {self.move})",
            within=stderr,
            assumptions=(
                "particles find every mode that matters; the error is the spread between populations",
                *invariance_assumptions(target, target.copies.train),
            ),
            warnings=post.warnings,
        )
