"""`WBIC`: the mean log-likelihood at the temperature ``log n`` is the log evidence, up to ``O(√log n)``.

There is one temperature at which ``E_T[Σ log p(y|w)]`` equals ``log Z``; Watanabe shows that ``T = log n`` is it to
leading order, also where the likelihood is singular and the Hessian of no use.

References:
    A widely applicable Bayesian information criterion. S. Watanabe, 2013. JMLR 14, arXiv:1208.6338.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from novacula.core.checks.numbers import check_fields, check_whole
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params, detach
from novacula.data.data import Data
from novacula.inference.tempered import Chains, tempered_fits
from novacula.posteriors.base import Posterior, weights_of
from novacula.target import Target


@dataclass(frozen=True)
class WBIC:
    """The log evidence by chains at the temperature log n; its error is of the chains, not of the approximation.

    Args:
        chains: M, side by side.
        steps: Transitions of each; half of them warm up.
        leapfrogs: Steps of a transition.

    Raises:
        InputError: If a number is out of range.
    """

    chains: int = 8
    steps: int = 1000
    leapfrogs: int = 8

    def __post_init__(self) -> None:
        check_fields(self)
        for name, least in (("chains", 2), ("steps", 20), ("leapfrogs", 1)):
            check_whole(name, getattr(self, name), least=least)

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """The log evidence, by chains that begin at ``start`` or the network's own weights; not of tempered targets."""
        target, data = target.prepare(data)
        if target.temperature != 1 or target.likelihood_temperature != 1 or data.n < 3:
            got = f"temperatures {target.temperature:g} and {target.likelihood_temperature:g}, {data.n} examples"
            raise InputError("a target at temperature 1 and at least three examples", got, "WBIC sets its own")
        point = target.params() if start is None else detach(dict(weights_of(start)))
        target, point = target.at(point)
        how = Chains(self.chains, self.steps, self.leapfrogs, 0.8)
        found = tempered_fits(target, data, point, math.log(data.n), how, seed=seed)
        return Estimate(
            value=found.values.mean(),
            stderr=found.stderr,
            kind="estimate",
            estimator=repr(self),
            n=data.n,
            fingerprint=data.fingerprint,
            loss=target.likelihood.loss,
            assumptions=("the leading order in n: an error of the order of the root of log n remains",),
            warnings=found.warnings,
        )
