"""Mixtures of posteriors: what an ensemble, or several runs of a method that ends in one posterior, leave.

References:
    Simple and scalable predictive uncertainty estimation using deep ensembles. B. Lakshminarayanan, A. Pritzel,
    C. Blundell, 2017. arXiv:1612.01474.
    Bayesian deep learning and a probabilistic perspective of generalization. A. G. Wilson, P. Izmailov, 2020.
    arXiv:2002.08791 (mixtures of Gaussians around several solutions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.posteriors.base import Posterior
from novacula.target import Density


@dataclass(frozen=True, eq=False)
class Mixture:
    """``1/M Σ_m p_m(w)``.

    Args:
        components: The posteriors of one target that are mixed, with equal weights.
    """

    components: tuple[Posterior, ...]

    @property
    def target(self) -> Density:
        """The components' target."""
        return self.components[0].target

    @property
    def mode(self) -> Params:
        """The first component's; their average would be no solution."""
        return self.components[0].mode

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the components warn of, each text once."""
        return tuple(dict.fromkeys(text for c in self.components for text in c.warnings))

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw weights, as evenly from the components as n allows, ``(n, *shape)``."""
        m = len(self.components)
        # Which components have one more is random, so that no draw is likelier to come from one than from another.
        extra = set(torch.randperm(m, generator=rng)[: n % m].tolist())
        parts = [c.sample(k, rng) for i, c in enumerate(self.components) if (k := n // m + (i in extra))]
        return {k: torch.cat([p[k] for p in parts]) for k in parts[0]}


def mixture(components: Sequence[Posterior]) -> Posterior:
    """Mix posteriors.

    Args:
        components: One or more posteriors of one target; mixtures among them are taken apart, and must have as many
            components each.

    Returns:
        The posterior itself if there is one, else the mixture.

    Raises:
        InputError: If there are none.
    """
    if not components:
        raise InputError("at least one posterior", "none", "pass those to mix")
    flat = [part for c in components for part in (c.components if isinstance(c, Mixture) else (c,))]
    return flat[0] if len(flat) == 1 else Mixture(tuple(flat))
