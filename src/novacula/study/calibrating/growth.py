"""From copies that have seen fewer rows to the network that has seen all.

Copies see a share ``s = (K − 1)/K`` of the rows and err more than the network does: their noise is larger, and so are
the sets that hold their labels. How much is found out by training each copy a second time on half of its rows: a
quantity θ that is θ_m at a share s and θ_h at s/2 is taken to follow a power of the number of rows, so that

    log θ = log θ_m + κ (log θ_m − log θ_h),      κ = log(1/s) / log 2,

which is .58 with three folds. Where what a network learns from more rows comes to an end, this goes too far; no step is
therefore larger than a factor of two. Standard deviations and thresholds of sets follow such a law well enough. Of
temperatures only a fall is believed, and down to 1 alone: more rows are no reason for more doubt.

References:
    Deep learning scaling is predictable, empirically. J. Hestness et al., 2017. arXiv:1712.00409 (the power law).
"""

from __future__ import annotations

import math

from torch import Tensor

_MOST = math.log(2.0)


def exponent(folds: Tensor) -> float:
    """κ, of the share of rows that the copies have seen.

    Args:
        folds: The fold of each row.

    Returns:
        A number above 0.

    Example:
        >>> import torch
        >>> round(exponent(torch.tensor([0, 1, 2, 0, 1, 2])), 3)
        0.585
    """
    counts = folds.unique(return_counts=True)[1].double()
    # On average over the rows that are predicted.
    share = float(((1 - counts / counts.sum()) * counts).sum() / counts.sum())
    return math.log(1 / share) / math.log(2)


def grown(whole: Tensor, half: Tensor, kappa: float) -> Tensor:
    """θ for all rows, by copies of their share of them and of half of it.

    Args:
        whole: θ_m, positive.
        half: θ_h, positive.
        kappa: κ.

    Returns:
        θ, in the shape of ``whole``.

    Example:
        >>> import torch
        >>> round(float(grown(torch.tensor(2.0), torch.tensor(4.0), 0.5)), 4)
        1.4142
    """
    return whole * (kappa * (whole / half).log()).clamp(-_MOST, _MOST).exp()
