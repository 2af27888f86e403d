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

from novacula.core.params import Params, unflatten
from novacula.diagnostics.convergence import ess, rhat
from novacula.target import Density, Target

MOST_RHAT = 1.05
"""R-hat above which chains are said to disagree."""
LEAST_ESS = 100.0
"""Effective draws in all chains below which a summary is said to be uncertain."""


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """What draws say about their own quality.

    Args:
        names: What was examined: parameters by name and position, or ``"prediction"`` and ``"log_density"``.
        rhat: Rank-normalised split R-hat of each entry, shape ``(Q,)``; near 1 where the chains agree. NaN where an
            entry does not vary.
        ess_bulk: Effective draws for the centre of each entry's distribution, in all chains together.
        ess_tail: The same for its 5 % and 95 % quantiles.
        stats: What the sampler reports, by name: counts (``divergences``) of all chains, and means over the chains of
            everything else (``accept``, ``step_size``).
    """

    names: tuple[str, ...]
    rhat: Tensor
    ess_bulk: Tensor
    ess_tail: Tensor
    stats: dict[str, float] = field(default_factory=dict)

    @property
    def max_rhat(self) -> float:
        """The largest R-hat; NaN where there is none."""
        return _extreme(self.rhat, largest=True)

    @property
    def min_ess(self) -> float:
        """The smallest effective number of draws, of bulk and tail."""
        return _extreme(torch.cat([self.ess_bulk, self.ess_tail]), largest=False)

    def to_dict(self) -> dict[str, object]:
        """As plain JSON values.

        Returns:
            The extremes, and what the sampler reports.
        """
        worst = {
            "max_rhat": self.max_rhat,
            "median_rhat": float(self.rhat.nanmedian()),
            "min_ess": self.min_ess,
            "examined": len(self.names),
        }
        return {k: v if math.isfinite(v) else None for k, v in {**worst, **self.stats}.items()}

    def __repr__(self) -> str:
        stats = "".join(f", {k} {v:.4g}" for k, v in self.stats.items())
        return f"Diagnostics(R-hat ≤ {self.max_rhat:.3f}, ESS ≥ {self.min_ess:.0f}{stats})"


@dataclass(frozen=True, eq=False)
class Draws:
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

    @cached_property
    def diagnostics(self) -> Diagnostics:
        """R-hat and effective sample sizes: of parameters, or of a network's predictions and log-density."""
        names, values = self._examined()
        stats = {k: float(v.double().mean() if v.is_floating_point() else v.sum()) for k, v in self.stats.items()}
        if values.shape[1] < 4:
            nothing = torch.full((len(names),), math.nan, dtype=torch.float64)
            return Diagnostics(names, nothing, nothing, nothing, stats)
        return Diagnostics(names, rhat(values), ess(values, "bulk"), ess(values, "tail"), stats)

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
            values = torch.cat([values, self.log_density.T.double().unsqueeze(-1)], -1)
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


def _extreme(values: Tensor, *, largest: bool) -> float:
    known = values[~values.isnan()]
    return math.nan if len(known) == 0 else float(known.max() if largest else known.min())
