"""What a sampler's draws say about their own quality."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


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
        log_density: The draws' log-densities, shape ``(K, M)``; None where they are not known.
    """

    names: tuple[str, ...]
    rhat: Tensor
    ess_bulk: Tensor
    ess_tail: Tensor
    stats: dict[str, float] = field(default_factory=dict)
    log_density: Tensor | None = None

    @property
    def examined(self) -> str:
        """What was examined, in words."""
        if not self.names[0].startswith("prediction["):
            return "parameters"
        return "predictions and log-density" if "log_density" in self.names else "predictions"

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


def _extreme(values: Tensor, *, largest: bool) -> float:
    known = values[~values.isnan()]
    return math.nan if len(known) == 0 else float(known.max() if largest else known.min())
