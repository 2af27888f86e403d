"""How sure random networks are before any data, and the scale of weights at which they are not yet.

Where weights are large, the softmax of a random network saturates: it is sure of one class, most often of the same one
for most inputs. That is a fact about the scale, which the labels alone (`sample`) cannot show.

References:
    Bayesian deep learning and a probabilistic perspective of generalization. A. G. Wilson, P. Izmailov, 2020.
    arXiv:2002.08791.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.functions.network import check_inputs
from novacula.priors import Gaussian
from novacula.priors.base import Prior
from novacula.target import Target
from novacula.target.many import prior_outputs

_HALVINGS = 20  # of the logarithm of the range of scales: to a part in a million


class PriorPredictive(NamedTuple):
    """What random networks of several classes say, on average over networks.

    Attributes:
        confidence: The probability of the likeliest class, over inputs; from 1/C to 1.
        top_share: The share of inputs that the class given most often is given to.
        class_entropy: Entropy of the shares of the classes among a network's answers, in nats; 0 where all inputs are
            of one class, ``log C`` where all classes come alike.
        stderr: Standard errors of these three, over networks.
    """

    confidence: float
    top_share: float
    class_entropy: float
    stderr: tuple[float, float, float]


def prior_predictive(
    network: nn.Module, inputs: Tensor, n: int = 200, *, prior: Prior | None = None, seed: int = 0
) -> PriorPredictive:
    """How sure networks drawn from a prior are, and how their answers are spread over the classes.

    Args:
        network: A network with an output for each class, two or more.
        inputs: Inputs ``(N, …)``.
        n: Networks to draw, two or more.
        prior: Prior over weights; `Gaussian` by default.
        seed: Seed of the draws.

    Returns:
        Means over networks, with their standard errors.

    Raises:
        InputError: If the network has one output, inputs repeat, or n is below 2.

    Example:
        >>> found = prior_predictive(nn.Linear(2, 3), torch.eye(2), prior=Gaussian(precision=1e8))
        >>> round(found.confidence, 3)
        0.333
    """
    check_whole("n", n, 2)
    check_inputs(inputs)
    target = Target(network, prior=prior or Gaussian())
    f = prior_outputs(target, inputs, n, generator(seed, "prior predictive")).double()
    if f.shape[2] < 2:
        raise InputError("a network with an output for each class", "one output", "a network with two outputs")
    shares = nn.functional.one_hot(f.argmax(2), f.shape[2]).double().mean(1)  # (n, C)
    each = torch.stack([f.softmax(2).amax(2).mean(1), shares.amax(1), torch.special.entr(shares).sum(1)])
    mean, error = each.mean(1).tolist(), (each.std(1) / math.sqrt(n)).tolist()
    return PriorPredictive(*mean, stderr=(error[0], error[1], error[2]))


def unsaturated_scale(
    network: nn.Module,
    inputs: Tensor,
    n: int = 200,
    *,
    confidence: float = 0.5,
    prior: Callable[[float], Prior] | None = None,
    low: float = 1e-3,
    high: float = 1e2,
    seed: int = 0,
) -> float:
    """The scale of weights at which random networks are as sure as this, which is a way of setting a prior.

    Args:
        network: A network with an output for each class.
        inputs: Inputs ``(N, …)``; labels play no part.
        n: Networks to draw at each scale, the same random numbers at all.
        confidence: The mean probability of the likeliest class.
        prior: A prior of each scale; by default ``N(0, scale²)`` for all weights.
        low: The least scale.
        high: The greatest scale.
        seed: Seed of the draws.

    Returns:
        The scale, by bisection, as confidence grows with it.

    Raises:
        InputError: If no scale between the two is so.
    """
    check_positive("low", low)
    if not low < high:
        raise InputError("low below high", f"{low:g} and {high:g}", "leave them out")
    made = prior or (lambda scale: Gaussian(precision=scale**-2, per="all"))

    def sure(scale: float) -> float:
        return prior_predictive(network, inputs, n, prior=made(scale), seed=seed).confidence

    ends = sure(low), sure(high)
    if not ends[0] <= confidence <= ends[1]:
        raise InputError(f"a confidence from {ends[0]:.3g} to {ends[1]:.3g}", f"{confidence:g}", "another range")
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if sure(middle) < confidence else (low, middle)
    return math.sqrt(low * high)
