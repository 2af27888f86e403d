"""How well networks fit that are drawn from a tempered posterior, ``p(D | w)^(1/T) p(w)``: many short chains.

What `novacula.evidence.WBIC` and `novacula.paths.learning_coefficient` average.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.func import vmap

from novacula.core.params import Params
from novacula.data.data import Data
from novacula.diagnostics.convergence import ess, mcse, rhat
from novacula.inference.hamiltonian.hmc import HMC
from novacula.inference.infer import infer
from novacula.posteriors.draws import Draws
from novacula.target import Target

MOST_RHAT, LEAST_ESS = 1.05, 400.0
"""Beyond which a mean over the chains is reserved about."""


@dataclass(frozen=True)
class Chains:
    """How long chains run; half of the steps warm up."""

    chains: int  # M, side by side
    steps: int  # transitions of each
    leapfrogs: int  # steps of a transition; 1 is the Metropolis-adjusted Langevin algorithm
    accept: float  # the acceptance that step sizes and scales are adapted to


@dataclass(frozen=True, eq=False)
class Fits:
    """Log-likelihoods of the draws, ``Σ_n log p(y_n | w)`` without the temperature, ``(M, K)``, float64."""

    values: Tensor
    accept: float
    step_size: float

    @property
    def stderr(self) -> float:
        """Of the mean: from autocorrelation or from the spread between chains, whichever is larger."""
        between = float(self.values.mean(1).std()) / math.sqrt(len(self.values)) if len(self.values) > 1 else 0.0
        return max(float(mcse(self.values).nan_to_num(0.0)), between)

    @property
    def rhat(self) -> float:
        """Whether the chains agree on the fit."""
        return float(rhat(self.values))

    @property
    def ess(self) -> float:
        """Effective draws of the fit, in all chains."""
        return float(ess(self.values, "mean"))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the mean."""
        if not self.rhat <= MOST_RHAT or not self.ess >= LEAST_ESS:
            found = f"the chains' R-hat is {self.rhat:.2f} and their effective draws are {self.ess:.0f}"
            return (f"{found}: more steps or leapfrogs are needed",)
        return ()


def tempered_fits(target: Target, data: Data, start: Params, temperature: float, how: Chains, *, seed: int) -> Fits:
    """Draw from the posterior whose likelihood has this temperature, and say how well the draws fit."""
    heated = dataclasses.replace(target, temperature=1.0, likelihood_temperature=temperature)
    # Scales that are learned from draws do not fit the arms of a singular minimum, and keep chains out of them.
    method = HMC(leapfrogs=how.leapfrogs, target_accept=how.accept, mass="unit", keep=how.steps)
    posterior = infer(method, heated, data, init=start, steps=how.steps, chains=how.chains, others="near", seed=seed)
    found = cast("Draws", posterior)  # what HMC leaves
    weights = {k: w.flatten(0, 1) for k, w in found.chains.items()}
    prior = vmap(heated.prior.log_prob)(weights).double().unflatten(0, (how.chains, -1))
    values = (found.log_density.T.double() - prior) * temperature
    accept, step = (float(found.stats[k].mean()) for k in ("accept", "step_size"))
    return Fits(values, accept, step)


def log_likelihood(target: Target, data: Data, point: Params) -> Tensor:
    """``Σ_n log p(y_n | w)`` of one network on all data, float64."""
    with torch.no_grad():
        parts = [target.likelihood.log_prob(target.forward(point, x), y).double().sum() for x, y in _parts(data)]
    return torch.stack(parts).sum()


def _parts(data: Data) -> list[tuple[Tensor, Tensor]]:
    return list(zip(data.x.split(4096), data.y.split(4096), strict=True))
