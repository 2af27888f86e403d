"""`support`: is averaging worth more than any one model of the class could make it? Then the class is too small.

The average of S networks is never worse than they are in the mean: it gains ``G(y) = 1/S Σ_s −log p_s(y) + log p̄(y)``,
which is not negative. Were one of the networks right, any of them, labels would be draws of the average p̄, and the gain
would have the mean ``E_{y ~ p̄} G(y)``. Where labels of unseen examples gain more than that, they lie where the networks
disagree more often than networks that are right can have it: none of the class is, or their noise is too small, and a
wider class, or a mixture of classes, predicts better. A gain that is no greater is no proof that the class is right.

References:
    Learning under model misspecification: applications to variational and ensemble methods. A. Masegosa, 2020.
        arXiv:1912.08335.
    Bayesianly justifiable and relevant frequency calculations for the applied statistician. D. Rubin, 1984.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.prediction.predictive import Predictive

_ERRORS = 3.0
"""Standard errors by which a gain must be greater: a false alarm in one of 700."""


@dataclass(frozen=True)
class Support:
    """What averaging gains, and what it would were one of the networks right; nats an example."""

    gain: float  # over the networks' mean loss, on these labels
    expected: float  # on labels that one of the networks draws
    stderr: float  # of the difference, over examples

    @property
    def too_small(self) -> bool:
        """Whether the gain is surely greater than any one model of the class makes it."""
        return self.gain - self.expected > _ERRORS * self.stderr

    @property
    def verdict(self) -> str:
        """The answer in words."""
        head = f"averaging gains {self.gain:.4f} nats an example, {self.expected:.4f} if one of the networks were right"
        tail = "the class is too small, or its noise" if self.too_small else "no more than one model could make it"
        return f"{head} (± {self.stderr:.4f}): {tail}"


def support(predictive: Predictive, y: Tensor, *, draws: int = 20, seed: int = 0) -> Support:
    """Ask of unseen examples whether averaging is worth more than one model of the class could make it.

    Args:
        predictive: Of several networks (an ensemble, draws of a posterior) for N inputs that they have not seen.
        y: Labels of these, as the likelihood takes them.
        draws: Labels drawn of the average for each input.
        seed: Seed of these.

    Returns:
        Both gains and the verdict.

    Raises:
        InputError: If there is one network alone, or the likelihood has no density.

    Example:
        >>> from novacula.likelihoods import Categorical
        >>> f = torch.tensor([2.0, 0.0]).repeat(400, 1)
        >>> two = Predictive(Categorical(), torch.stack([f, f.flip(1)]), "mixture")  # surely 0, or surely 1
        >>> support(two, torch.arange(400) % 2).too_small  # a coin: to average is as good as they know it to be
        False
    """
    check_whole("draws", draws)
    if predictive.covariance is not None or len(predictive.outputs) < 2:
        got = "a closed form" if predictive.covariance is not None else "one"
        raise InputError("several networks", got, "predict with an ensemble, or draws: rule='monte_carlo', samples=50")
    rng = generator(seed, "support")
    found = _gain(predictive, y)
    each = torch.randint(len(predictive.outputs), (draws, predictive.n), generator=rng)
    rows = torch.arange(predictive.n)
    outputs = predictive.outputs.cpu()
    drawn = [predictive.likelihood.sample(outputs[who, rows], rng) for who in each]
    expected = torch.stack([_gain(predictive, label, own=True) for label in drawn]).mean(0)
    excess = found - expected
    return Support(float(found.mean()), float(expected.mean()), float(excess.std()) / math.sqrt(predictive.n))


def _gain(predictive: Predictive, y: Tensor, *, own: bool = False) -> Tensor:
    # ``G(y)`` (N,); labels in the targets' units, or as the likelihood has drawn them.
    kept = Predictive(predictive.likelihood, predictive.outputs.cpu(), predictive.kind) if own else predictive
    return kept.expected_loss(y).double().cpu() + kept.log_prob(y).double().cpu()
