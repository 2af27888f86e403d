"""Draws of a sampler: the posterior they make, and what they say about their own quality.

Whether chains agree is asked of what has a meaning: of every parameter of a plain log-density; of a network's
*predictions* on some training inputs, and of its log-density. The weights of a network have symmetries (hidden units
can change places), so chains that agree in every prediction need not agree in any weight.

References:
    Rank-normalization, folding, and localization: an improved R-hat for assessing convergence of MCMC. A. Vehtari,
    A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, 2021. arXiv:1903.08008.
    What are Bayesian neural network posteriors really like? P. Izmailov, S. Vikram, M. D. Hoffman, A. G. Wilson, 2021.
    arXiv:2104.14421 (R-hat in function space).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.params import Params, flatten, unflatten
from novacula.diagnostics.convergence import ess, rhat
from novacula.posteriors.answers import How
from novacula.posteriors.base import BasePosterior, Posterior
from novacula.posteriors.packed import Origin, Packed, ordered
from novacula.posteriors.quality import Diagnostics
from novacula.target import Density, Target

MOST_RHAT = 1.05
"""R-hat above which chains are said to disagree."""
LEAST_ESS = 100.0
"""Effective draws in all chains below which a summary is said to be uncertain."""


@dataclass(frozen=True, eq=False)
class Draws(BasePosterior):
    """A posterior that is a finite set of draws, of equal weight.

    Args:
        target: The target they were drawn from.
        flat: As vectors, shape ``(K, M, P)``: K draws of each of M chains.
        log_density: Their log-densities, shape ``(K, M)``; NaN where not known.
        like: One point, which gives names and shapes.
        probe: Training inputs at which the predictions of a network's chains are compared; None for a plain density.
        stats: What the sampler reports, by name, for each chain: shape ``(M,)``; whole numbers are counts.
        reservations: What the sampler warns of.
        known: All warnings, where they were found before, of more draws than these; None to find them.
    """

    target: Density
    flat: Tensor
    log_density: Tensor
    like: Params
    probe: Tensor | None = None
    stats: dict[str, Tensor] = field(default_factory=dict)
    reservations: tuple[str, ...] = ()
    known: tuple[str, ...] | None = None

    __repr__ = brief

    @property
    def size(self) -> int:
        """The number of draws in all chains."""
        return self.flat.shape[0] * self.flat.shape[1]

    @property
    def chains(self) -> Params:
        """The draws by chain: tensors of shape ``(M, K, *shape)``."""
        return unflatten(self.flat.transpose(0, 1), self.like)

    @property
    def mode(self) -> Params:
        """The draw of the highest log-density, or the last one where it is not known."""
        logs = self.log_density.flatten().nan_to_num(-math.inf)
        best = int(logs.argmax()) if bool((logs > -math.inf).any()) else self.size - 1
        return unflatten(self.flat.flatten(0, 1)[best], self.like)

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Choose n of the draws, spread evenly over them: each at most once where n is no more than there are."""
        offset = torch.rand((), generator=rng, device=rng.device, dtype=torch.float64).cpu()
        index = ((torch.arange(n, dtype=torch.float64) + offset) * (self.size / n)).long().clamp(max=self.size - 1)
        return unflatten(self.flat.flatten(0, 1)[index.to(self.flat.device)], self.like)

    @property
    def diagnostics(self) -> Diagnostics:
        """R-hat and effective sample sizes: of parameters, or of a network's predictions and log-density."""
        return self._diagnostics

    @cached_property
    def _diagnostics(self) -> Diagnostics:
        names, values = self._examined()
        stats = {k: float(v.double().mean() if v.is_floating_point() else v.sum()) for k, v in self.stats.items()}
        logs = self.log_density if bool(torch.isfinite(self.log_density).all()) else None
        if values.shape[1] < 4:
            nothing = torch.full((len(names),), math.nan, dtype=torch.float64)
            return Diagnostics(names, nothing, nothing, nothing, stats, logs)
        return Diagnostics(names, rhat(values), ess(values, "bulk"), ess(values, "tail"), stats, logs)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the sampler warns of, and chains that disagree or say too little."""
        if self.known is not None:
            return self.known
        found, d = list(self.reservations), self.diagnostics
        what = "predictions and log-density" if self.probe is not None else "parameters"
        if self.flat.shape[0] < 4:
            return (*found, f"only {self.flat.shape[0]} draws a chain were kept: convergence cannot be judged")
        if d.max_rhat > MOST_RHAT:
            worst = d.names[int(d.rhat.nan_to_num(0.0).argmax())]
            network = ": until they agree, predictions may be worse than one point's (MAP)"
            found.append(
                f"the chains disagree: R-hat is up to {d.max_rhat:.2f} ({worst}), above {MOST_RHAT} for "
                f"{float((d.rhat > MOST_RHAT).double().mean()):.0%} of {what}. Take more steps"
                + (network if self.probe is not None else "")
            )
        if d.min_ess < LEAST_ESS:
            found.append(
                f"few effective draws: {d.min_ess:.0f} in all chains for the least certain of {what} "
                f"(of {self.size:,} kept). Take more steps"
            )
        return tuple(found)

    def bounded(self, room: int) -> Draws:
        """At most so many draws, spread evenly over steps and chains."""
        k, m = self.flat.shape[:2]
        if k * m <= room:
            return self
        rows, chains = _spread(k, max(1, room // m)), _spread(m, min(m, room))
        flat, logs = self.flat[rows][:, chains], self.log_density[rows][:, chains]
        return replace(self, flat=flat, log_density=logs, known=self.warnings)

    def pack(self) -> Packed:
        """The draws, ``(K, M, *shape)``, and their log-densities."""
        return Packed("draws", {k: w.movedim(0, 1) for k, w in self.chains.items()}, {"log_density": self.log_density})

    @classmethod
    def unpack(cls, packed: Packed, origin: Origin) -> Draws:
        """The draws of a file."""
        draws = ordered(packed.weights, origin.target)
        like = {k: w[0, 0] for k, w in draws.items()}
        return cls(origin.target, flatten(draws, batch_dims=2), packed.other("log_density"), like, known=origin.known)

    def _examined(self) -> tuple[tuple[str, ...], Tensor]:
        # Names, and values of shape (M, K, Q) in float64.
        draws = self.flat.transpose(0, 1).double()
        if self.probe is None or not isinstance(self.target, Target):
            names = tuple(
                name if w.ndim == 0 else f"{name}[{i}]" for name, w in self.like.items() for i in range(w.numel())
            )
            return names, draws
        with torch.no_grad():
            points = self.flat.transpose(0, 1).flatten(0, 1)
            each = [self._prediction(unflatten(p, self.like)) for p in points]
        values = torch.stack(each).unflatten(0, draws.shape[:2]).double()
        names = tuple(f"prediction[{i}]" for i in range(values.shape[2]))
        if torch.isfinite(self.log_density).all():
            values = torch.cat([values, self.log_density.T.to(values).unsqueeze(-1)], -1)
            names = (*names, "log_density")
        return names, values

    def _prediction(self, w: Params) -> Tensor:
        assert isinstance(self.target, Target)
        assert self.probe is not None
        return self.target.likelihood.mean(self.target.forward(w, self.probe)).flatten()


def merge(parts: Sequence[Draws]) -> Draws:
    """Chains of one target that were run apart."""
    first = parts[0]
    return replace(
        first,
        flat=torch.cat([p.flat for p in parts], 1),
        log_density=torch.cat([p.log_density for p in parts], 1),
        stats={k: torch.cat([p.stats[k] for p in parts]) for k in first.stats},
        reservations=tuple(dict.fromkeys(text for p in parts for text in p.reservations)),
    )


def drawn(posterior: Posterior, n: int) -> Draws:
    """Draws of a posterior: those that a prediction with this many takes."""
    mode, found = posterior.mode, posterior.sample(n, How("mixture").rng())
    flat = flatten({k: found[k] for k in mode}, batch_dims=1).unsqueeze(1)
    nothing = torch.full((n, 1), math.nan, dtype=flat.dtype)
    return Draws(posterior.target, flat, nothing, mode, known=posterior.warnings)


def _spread(n: int, k: int) -> Tensor:
    # k of n, evenly, the last among them.
    return (torch.arange(1, k + 1) * n) // k - 1
