"""Mixtures of posteriors: what an ensemble, or several runs of a method that ends in one posterior, leave.

References:
    Simple and scalable predictive uncertainty estimation using deep ensembles. B. Lakshminarayanan, A. Pritzel,
    C. Blundell, 2017. arXiv:1612.01474.
    Bayesian deep learning and a probabilistic perspective of generalization. A. G. Wilson, P. Izmailov, 2020.
    arXiv:2002.08791 (mixtures of Gaussians around several solutions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.posteriors.answers import SAMPLES, Answer, How, Kind
from novacula.posteriors.base import BasePosterior, Posterior, network_target
from novacula.posteriors.draws import Draws, merge
from novacula.posteriors.linearised import default_rule
from novacula.target import Density


@dataclass(frozen=True, eq=False)
class Mixture(BasePosterior):
    """``1/M Σ_m p_m(w)``.

    Args:
        components: The posteriors of one target that are mixed, with equal weights.
    """

    components: tuple[Posterior, ...]

    __repr__ = brief

    @property
    def target(self) -> Density:
        """The components' target."""
        return self.components[0].target

    @property
    def parts(self) -> tuple[Posterior, ...]:
        """The components."""
        return self.components

    @property
    def size(self) -> int | None:
        """That of all components; None where any of them has no end."""
        sizes = [c.size for c in self.components]
        return None if None in sizes else sum(n or 0 for n in sizes)

    @property
    def kind(self) -> Kind:
        """Linearised where all components are."""
        return "linearised" if all(c.kind == "linearised" for c in self.components) else "mixture"

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

    def outputs(self, x: Tensor, how: How) -> Answer:
        """Each component's, in its own way, ``(S, N, C)``."""
        if how.kind == "plug-in":
            return self.components[0].outputs(x, how)
        share, rule = how.samples, how.rule or default_rule(network_target(self.target, "predictions").likelihood)
        if share is not None or self.components[0].size is None:  # as many from each, or all points of an ensemble
            share = math.ceil((share or SAMPLES) / len(self.components))
        # A mixture of Gaussians with covariances of their own is represented by draws.
        how = replace(how, samples=share, rule="monte_carlo" if rule == "analytic" else rule)
        each = [c.outputs(x, replace(how, kind=c.kind)).values for c in self.components]
        return Answer(torch.cat(each), how.kind)


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
    flat = [part for c in components for part in c.parts]
    return flat[0] if len(flat) == 1 else Mixture(tuple(flat))


def gathered(found: Sequence[Posterior]) -> Posterior:
    """What runs of one method leave together: chains side by side, or a mixture."""
    draws = [p for p in found if isinstance(p, Draws)]
    return merge(draws) if len(draws) == len(found) else mixture(found)
