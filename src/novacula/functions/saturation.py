"""How sure random networks are before any data and after a few, and the scale of weights at which they are not yet.

Where weights are large, the softmax of a random network saturates: it is sure of one class, most often of the same one
for most inputs. That is a fact about the scale, which the labels alone (`sample`) cannot show.

References:
    Bayesian deep learning and a probabilistic perspective of generalization. A. G. Wilson, P. Izmailov, 2020.
    arXiv:2002.08791.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from novacula.core.checks.numbers import check_positive, check_whole
from novacula.core.errors import InputError
from novacula.core.rng import derive, generator
from novacula.data.given import DataLike
from novacula.functions.samplers.network import check_inputs
from novacula.inference.infer import infer
from novacula.inference.particles.smc import SMC
from novacula.posteriors.draws import Draws
from novacula.priors import Gaussian
from novacula.priors.base import Prior
from novacula.target import Target
from novacula.target.given import TargetLike, prepared
from novacula.target.many import outputs, prior_outputs

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
    return _summed(_said(prior_outputs(target, inputs, n, generator(seed, "prior predictive"))))


def after_labels(
    target: TargetLike,
    data: DataLike,
    inputs: Tensor,
    sizes: Sequence[int] = (0, 10, 100),
    *,
    method: SMC | None = None,
    steps: int = 200,
    populations: int = 4,
    seed: int = 0,
) -> dict[int, PriorPredictive]:
    """How sure networks are, and how their answers are spread, after a few labels: how fast the prior's bias goes.

    Args:
        target: The network, with an output for each class, its prior and likelihood.
        data: Labelled examples, of which rows drawn at random are learned from; fewer are among more.
        inputs: Inputs that networks are asked about, ``(M, …)``: not among the data.
        sizes: How many labels, each its own posterior; 0 is the prior.
        method: The sampler; it starts from the prior, so that no sample depends on where a search began.
        steps: The most temperatures that it may take.
        populations: Independent populations, two or more; standard errors are those between populations.
        seed: Seed of everything random.

    Returns:
        For each size what `prior_predictive` says, of networks of the posterior.

    Raises:
        InputError: If the network has one output, a size is more than there are rows, or the likelihood did not enter
            within the steps.
    """
    whole, data = prepared(target, data)
    method = method or SMC()
    check_whole("populations", populations, 2)
    check_inputs(inputs)
    order = torch.randperm(data.n, generator=generator(seed, "rows"))
    found = {}
    for size in sizes:
        if not 0 <= size <= data.n:
            raise InputError(f"from 0 to {data.n} labels", str(size), "sizes=(0, 10, 100)")
        if size == 0:
            n = method.particles * populations
            f = prior_outputs(whole, inputs, n, generator(seed, "prior")).unflatten(0, (populations, -1))
        else:
            options: dict[str, Any] = {"steps": steps, "chains": populations, "seed": derive(seed, "labels", size)}
            draws = cast("Draws", infer(method, whole, data.subset(order[:size]), **options))
            if bool((draws.stats["beta"] < 1).any()):
                entered = f"{float(draws.stats['beta'].min()):.3g} of the likelihood of {size} labels"
                raise InputError("all of the likelihood", f"{entered} within {steps} temperatures", "more steps")
            flat = {k: w.flatten(0, 1) for k, w in draws.chains.items()}
            f = outputs(whole, flat, inputs).unflatten(0, (populations, -1))
        # Networks of one population have few ancestors: each population is one number.
        found[size] = _summed(torch.stack([_said(part).mean(1) for part in f], 1))
    return found


def _said(f: Tensor) -> Tensor:
    # Confidence, the top class's share and entropy of the classes, (3, n), of outputs (n, N, C).
    if f.shape[2] < 2:
        raise InputError("a network with an output for each class", "one output", "a network with two outputs")
    f = f.double()
    shares = nn.functional.one_hot(f.argmax(2), f.shape[2]).double().mean(1)  # (n, C)
    return torch.stack([f.softmax(2).amax(2).mean(1), shares.amax(1), torch.special.entr(shares).sum(1)])


def _summed(each: Tensor) -> PriorPredictive:
    mean, error = each.mean(1).tolist(), (each.std(1) / math.sqrt(each.shape[1])).tolist()
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
