"""The probability that a random network fits all labels, by sequential Monte Carlo through a softened constraint.

Networks are tempered from the prior by ``exp(−β λ h(w))``, where h is the mean hinge of their margins over the size of
their outputs (`novacula.target.margins.closeness`), with β from 0 to 1. As h is 0 for networks that fit,

    P(fit) = Z_λ · P_λ(fit),        Z_λ = E_prior exp(−λ h(w)),

of the tempered distribution at β = 1, in which a share P_λ of the networks fits: an identity at every λ. It shares the
level with `Splitting` but neither its levels nor its resampling, so that agreement says something.

References:
    Sequential Monte Carlo samplers. P. Del Moral, A. Doucet, A. Jasra, 2006.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields, check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.evidence.fitting.estimate import fit_estimate
from novacula.evidence.start import bound
from novacula.inference.infer import infer
from novacula.inference.particles.smc import SMC, log_mean
from novacula.posteriors.base import Posterior
from novacula.posteriors.draws import Draws
from novacula.target import LogDensity, Target
from novacula.target.margins import FITS, check_fittable, closeness, closeness_of

_FAR = 1e6


@dataclass(frozen=True)
class Annealing:
    """``log 1/M Σ_m Ẑ_m P̂_m`` over independent populations, for Gaussian priors.

    Args:
        populations: M, at least 4: their spread is the error.
        strength: λ over the number of examples. It is doubled, and all begins anew, while fewer than a tenth of a
            population's networks fit.
        attempts: How many strengths are tried at most.
        steps: The most temperatures.
        method: How networks are tempered.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> Annealing().name
        'Annealing(500 particles × 4)'
    """

    populations: int = 4
    strength: float = 16.0
    attempts: int = 4
    steps: int = 300
    method: SMC = field(default_factory=lambda: SMC(particles=500, move="elliptical", moves=8))

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("strength", self.strength)
        check_whole("attempts", self.attempts)
        if self.populations < 4:
            raise InputError("four or more populations", str(self.populations), "their spread is the error: use 4")

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"Annealing({self.method.particles} particles × {self.populations})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Estimate the log-probability of a fit; an upper bound where no network of a population fits."""
        target, data = bound(target, data)
        check_fittable(target, data)
        if target.averaged is not None or target.temperature != 1.0 or not target.prior.gaussian:
            raise InputError("a plain network under a Gaussian prior", "another", "use nv.evidence.Splitting()")
        attempt, logs, share = 0, torch.zeros(0), torch.zeros(0)
        for attempt in range(self.attempts):
            logs, share = self._run(target, data, self.strength * 2**attempt, derive(seed, "annealing", attempt))
            if bool((share >= 0.1).all()):
                break
        reached = bool((share > 0).all())
        value, stderr = log_mean(logs + share.log() if reached else logs)
        said = () if reached else ("no network of a population fits: the value is that of coming near, a bound",)
        return fit_estimate(
            target,
            data,
            torch.tensor(value, dtype=torch.float64),
            kind="estimate" if reached else "upper bound",
            estimator=self.name,
            stderr=stderr,
            assumptions=("populations find every part of the networks that fit; the error is their spread",),
            warnings=said,
            parts={"share": float(share.mean()), "attempts": attempt + 1.0},
        )

    def _run(self, target: Target, data: Data, strength: float, seed: int) -> tuple[Tensor, Tensor]:
        # log Z of each population, and its share of networks that fit, (M,).
        def tempered(w: Params) -> Tensor:
            near = closeness(target.forward(w, data.x)[None], data.y)[0]
            # Outputs that are no numbers are far from a fit; that a density is finite lets the search begin.
            return strength * data.n * torch.where(near == FITS, 0.0, near.clamp(min=-_FAR))

        density = LogDensity(tempered, target.params(), target.prior)
        options: dict[str, Any] = {"steps": self.steps, "chains": self.populations, "seed": seed}
        found = cast("Draws", infer(self.method, density, **options))
        if bool((found.stats["beta"] < 1).any()):
            raise InputError("all of the constraint", f"less after {self.steps} temperatures", "raise steps")
        flat = {k: w.flatten(0, 1) for k, w in found.chains.items()}
        near = closeness_of(target, flat, data, seed=seed).unflatten(0, (self.populations, -1))
        return found.stats["log_evidence"], (near == FITS).double().mean(1)
