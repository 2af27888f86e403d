"""The way through weights that training took, from checkpoints alone, beside what a random walk would do.

A walk of T steps with independent directions in D dimensions is ``√t`` times its step from the start, and two of its
steps have a cosine of nought with standard deviation ``1/√D``. Training that drifts goes ``t`` steps far, and one that
turns back in a valley stays near. ``exponent`` is the slope of log distance against log step count, ½ for a walk.

References:
    Three factors influencing minima in SGD. S. Jastrzębski and others, 2017. arXiv:1711.04623.
    Train longer, generalize better. E. Hoffer, I. Hubara, D. Soudry, 2017. arXiv:1705.08741.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.errors import InputError
from novacula.core.params import Params, flatten
from novacula.posteriors.base import Learned, Posterior, weights_of


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What checkpoints say about the way.

    Attributes:
        distance: From the first checkpoint, shape ``(T + 1,)``, float64.
        walk: What a random walk with steps of these lengths would have, ``√Σ|step|²``, shape ``(T + 1,)``.
        autocorrelation: The mean cosine of steps that lie 0 … T − 1 apart, shape ``(T,)``.
        chance: The standard error of ``autocorrelation`` for steps of independent directions, ``1/√(D · pairs)``.
        cosine: Of the way so far with the whole way, ``cos(w_t − w_0, w_T − w_0)``, for t from 1, shape ``(T,)``.
        weights: D.
    """

    distance: Tensor
    walk: Tensor
    autocorrelation: Tensor
    chance: Tensor
    cosine: Tensor
    weights: int

    __repr__ = brief

    @property
    def exponent(self) -> float:
        """The slope of log distance against log t: ½ for a walk, 1 for a straight way at one speed."""
        t = torch.arange(1, len(self.distance), dtype=torch.float64).log()
        d = self.distance[1:].log()
        t = t - t.mean()
        return float((t * (d - d.mean())).sum() / t.square().sum())

    @property
    def straightness(self) -> float:
        """How much further than a random walk of the same steps it came; 1 for a walk, √T for a straight line."""
        return float(self.distance[-1] / self.walk[-1])


def trajectory(checkpoints: Sequence[Params | Posterior | Learned]) -> Trajectory:
    """Measure the way from checkpoint to checkpoint.

    Args:
        checkpoints: Weights at equal intervals from the first on, at least three: state dictionaries (of which tensors
            of whole numbers are left out) or results.

    Returns:
        Distances, cosines, and what a random walk would have.

    Raises:
        InputError: If there are fewer than three, they are of other shapes, not finite, or two in a row are equal.

    Example:
        >>> line = [{"w": torch.tensor([1.0, 2.0]) * t} for t in range(5)]
        >>> found = trajectory(line)
        >>> round(found.exponent, 6), round(found.straightness, 6)  # straight: √4
        (1.0, 2.0)
    """
    if len(checkpoints) < 3:
        raise InputError("at least three checkpoints", str(len(checkpoints)), "save them at equal intervals")
    points = [{k: w for k, w in weights_of(c).items() if w.is_floating_point()} for c in checkpoints]
    shapes = [{k: tuple(w.shape) for k, w in p.items()} for p in points]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise InputError("checkpoints of one network", f"other names or shapes in number {i}", "of one run")
    w = torch.stack([flatten({k: p[k].detach().double().cpu() for k in points[0]}) for p in points])
    bad = (~torch.isfinite(w).all(1)).nonzero().flatten().tolist()
    if bad:
        raise InputError("finite weights", f"NaN or infinity in number {bad[0]}", "leave out what diverged")
    steps, away = w.diff(dim=0), w - w[0]
    sizes = steps.norm(dim=1)
    if bool((sizes == 0).any()) or float(away[-1].norm()) == 0:
        raise InputError("checkpoints that differ", "two that are equal", "leave out repetitions")
    gram = (steps / sizes[:, None]) @ (steps / sizes[:, None]).T
    total, many = len(steps), w.shape[1]
    lags = torch.stack([gram.diagonal(k).mean() for k in range(total)])
    chance = torch.tensor([0.0] + [1 / math.sqrt(many * (total - k)) for k in range(1, total)], dtype=torch.float64)
    walk = torch.cat([torch.zeros(1, dtype=torch.float64), sizes.square().cumsum(0).sqrt()])
    cosine = torch.nn.functional.cosine_similarity(away[1:], away[-1:], dim=1)
    return Trajectory(away.norm(dim=1), walk, lags, chance, cosine, many)
