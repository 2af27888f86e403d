"""What every posterior over weights can be asked, and the simplest one: a point.

What several posteriors share is here too: `many_weights` warns that weights which the data do not determine keep the
prior's width, and that their spread is noise in the predictive. Under a prior that nobody has learned that costs more
than the average over the others gains: on digits (64-50-10 under N(0, 1), 1,000 examples) the exact posterior has a log
loss of .107, and the most probable weights one of .084.

References:
    How good is the Bayes posterior in deep neural networks really? F. Wenzel et al., 2020. arXiv:2002.02405.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.forward import Forward
from novacula.core.params import Params, count
from novacula.target import Density, Target


class Posterior(Protocol):
    """A distribution over the weights of a target's network."""

    @property
    def target(self) -> Density:
        """The target whose posterior it is: predictions need its network, likelihood and invariance."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reservations a reader must know."""
        ...

    @property
    def mode(self) -> Params:
        """A representative point: the weights a point estimate would use."""
        ...

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw ``n`` weights; tensors of shape ``(n, *shape)``."""
        ...


@dataclass(frozen=True, eq=False)
class Point:
    """A posterior that is one point.

    Args:
        mode: The weights.
        target: The target they were trained for.
        warnings: Reservations a reader must know.
    """

    mode: Params
    target: Density
    warnings: tuple[str, ...] = ()

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Repeat the point.

        Args:
            n: The number of samples.
            rng: Not used.

        Returns:
            Tensors of shape ``(n, *shape)``.
        """
        return {k: w.expand(n, *w.shape) for k, w in self.mode.items()}


def network_target(target: Density, what: str) -> Target:
    """Insist on a network."""
    if not isinstance(target, Target):
        raise InputError(f"a network's Target for {what}", "a plain log-density", "use a sampler, such as NUTS")
    return target


def weights_of(start: Params | Posterior) -> Params:
    """The point that a start value names.

    Args:
        start: Weights, or a posterior.

    Returns:
        The weights, or the posterior's mode.
    """
    return start if isinstance(start, dict) else start.mode


def quiet_forward(module: nn.Module) -> Forward:
    """A network as a function; what it says of frozen weights has been said, or is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NovaculaWarning)
        return Forward(module)


def many_weights(target: Target, params: Params, size: int, temperature: float, what: str) -> tuple[str, ...]:
    """What to say of a posterior over more weights than there are examples."""
    weights = count(params)
    if weights <= size or temperature * target.likelihood_temperature < 1:
        return ()
    return (
        f"{what} for {weights:,} weights, from {size:,} examples: at temperature {temperature:g} they often predict "
        "worse than the most probable weights (MAP). Compare the two, or lower the temperature",
    )
