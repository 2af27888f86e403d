"""What the last fold brings: the loss to expect of a network that has seen everything.

Networks that are blind to one of K folds see ``(K − 1)/K`` of the data, so that their losses are too high for the
network that is trained on all, where the learning curve still falls. One more network, which sees a single fold, tells
how it falls. With losses that follow ``L(n) = L∞ + b n^{−α}``,

    L(1) = L((K−1)/K) − c [L(1/K) − L((K−1)/K)],        c = (b^{−α} − 1) / (a^{−α} − b^{−α}),  a = 1/K, b = (K−1)/K,

where the difference is taken in pairs, over the examples that both kinds of networks have not seen. ``c`` hangs little
on the exponent: for K = 3 it is .33 for the 1 of regular models, .42 for .6, .49 for .3, between which those of
networks are found; the value of .6 is taken and the spread counted in the error.

References:
    Learning curve theory. M. Hutter, 2021. arXiv:2102.04074.
    Deep learning scaling is predictable, empirically. J. Hestness and others, 2017. arXiv:1712.00409.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_EXPONENT, _RANGE = 0.6, (0.3, 1.0)


class Expected(NamedTuple):
    """The loss to expect of the network that has seen everything."""

    value: float  # the mean loss, in nats an example where losses are of densities
    stderr: float  # its standard error: over examples, and what the exponent is not known
    drop: float  # by how much networks of (K − 1)/K of the data are better than one of 1/K


def last_fold(losses: Tensor, single: Tensor, fewer: Tensor, rows: Tensor, folds: int) -> Expected:
    """The loss after the last fold.

    Args:
        losses: Of the networks blind to a fold, as they predict, shape ``(N,)``.
        single: Of the same, as the network of one fold predicts, shape ``(N,)``.
        fewer: Of the network of one fold, on the examples that it has not seen, shape ``(R,)``.
        rows: Where these are, a mask ``(N,)``.
        folds: K, at least 3.

    Returns:
        The loss, its standard error, and what it follows from.

    Example:
        >>> two_thirds, one_third = torch.full((6,), 1.5), torch.full((4,), 3.0)
        >>> after = last_fold(two_thirds, two_thirds, one_third, torch.arange(6) > 1, 3)
        >>> round(after.value, 2), after.drop
        (0.87, 1.5)
    """
    difference = fewer - single[rows]
    drop = float(difference.mean())
    c = _share(folds, _EXPONENT)
    unsure = (_share(folds, _RANGE[0]) - _share(folds, _RANGE[1])) / 12**0.5 * drop  # as if anywhere in the range
    pull = losses - losses.mean()
    pull[rows] -= c * len(losses) / len(fewer) * (difference - drop)
    return Expected(
        float(losses.mean()) - c * drop,
        float((pull.square().mean() / len(pull)).sqrt().hypot(torch.tensor(unsure))),
        drop,
    )


def _share(folds: int, exponent: float) -> float:
    few, most = (1 / folds) ** -exponent, ((folds - 1) / folds) ** -exponent
    return (most - 1) / (few - most)


def alone(folds: Tensor) -> Tensor:
    """Two folds, of which the second is the first of these: the network blind to fold 0 sees that one alone."""
    return (folds == 0).long()
