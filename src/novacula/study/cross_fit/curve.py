"""What the last fold brings: the loss to expect of a network that has seen everything.

Networks that are blind to one of K folds see ``(K − 1)/K`` of the data, so that their losses are too high for the
network that is trained on all, where the learning curve still falls. One more network, which sees a single fold, tells
how it falls: the difference is taken in pairs, over the examples that both kinds of networks have not seen, and goes on
by the rule of `novacula.study.growth`. Of losses that cannot be negative (of classes) it is the logarithm of the mean
that goes on, as what is left of such a loss is always a part of it; the loss of a density of measurements is the
logarithm of their noise as it is. A network that did not learn anything from its fold tells nothing.

Where networks came to their target on a way that the final one does not take (extents that grew while they trained,
fewer steps where more of them gain), another one that is blind to fold 0 is trained under it from its first step and as
long, as is the one of a single fold. What it gains there, in pairs and by the same measure, is taken to be gained in
every fold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from novacula.study.growth import Grown, Measured, grown, mean

_LEAST = 1e-12  # nats


def last_fold(
    losses: Tensor, single: Tensor, fewer: Tensor, folds: Tensor, anew: Tensor | None = None, *, positive: bool
) -> Grown:
    """The loss after the last fold.

    Args:
        losses: Of the networks blind to a fold, as they predict, shape ``(N,)``.
        single: Of the same, as the network of one fold predicts, shape ``(N,)``.
        fewer: Of the network of one fold, on the examples of the other folds, shape ``(R,)``.
        folds: The fold of each example, from 0; that network saw fold 0 alone. K is at least 3.
        anew: Of a network blind to fold 0 that went the final one's way, on this fold, shape ``(N − R,)``.
        positive: Whether losses cannot be negative.

    Returns:
        The mean loss to expect (in nats an example where losses are of densities), its standard error, and by how much
        networks of ``(K − 1)/K`` of the data are better than one of 1/K.

    Example:
        >>> two_thirds, one_third = torch.full((6,), 1.5), torch.full((4,), 3.0)
        >>> after = last_fold(two_thirds, two_thirds, one_third, torch.tensor([0, 0, 1, 1, 2, 2]), positive=False)
        >>> round(after.value, 2), after.drop
        (0.87, 1.5)
    """
    first, count = (folds == 0).cpu(), int(folds.max()) + 1
    losses, single = losses.cpu(), single.cpu()

    def of(values: Tensor, rows: Tensor) -> Measured:  # with pulls of all rows
        found = mean(values)
        found = found._replace(value=max(found.value, _LEAST)).log() if positive else found
        pulls = torch.zeros(len(rows), dtype=torch.float64)
        pulls[rows] = len(rows) / len(values) * found.pulls
        return Measured(found.value, pulls)

    here, most, least = of(losses, torch.ones_like(first)), of(fewer, ~first), of(single[~first], ~first)
    nats = float(fewer.mean() - single[~first].mean())
    if anew is not None:
        late = of(losses[first], first) - of(anew, first)
        here, least = here - late, least - late
        nats += float(losses[first].mean() - anew.mean())
    found = grown(here, most - least, (1 / count, (count - 1) / count), folds)
    if not positive:
        return found
    value = math.exp(found.value)
    return Grown(value, value * found.stderr, nats)


def alone(folds: Tensor) -> Tensor:
    """Two folds, of which the second is the first of these: the network blind to fold 0 sees that one alone."""
    return (folds == 0).long()
