"""`SWAG`: a Gaussian from the moments of the last part of a training run.

After training, the learning rate is held constant, so that the weights wander about in the region that the loss does
not tell apart. Of n points on that walk, the mean (stochastic weight averaging, SWA), the variances and the deviations
of the last K from the mean make

    w ~ N(m, scale · ½ [diag(v) + D Dᵀ/(K − 1)]).

The deviations are those from the final mean (the paper takes the running one, as it does not keep the points
themselves), so that with K = n the second part is the sample covariance.

Where a network keeps running statistics (BatchNorm), those of the walk suit neither the mean nor a draw. They are
averaged anew for each, over one pass over the training data in train mode, as in the paper.

Both phases take steps of Adam, whose moves are of about equal size in all weights, so that one rate suits flat and
steep directions, and most networks. On digits (64-50-10, 100 epochs, three seeds) the predictive's test NLL is 0.121,
where MAP at the same peak rate has 0.125; with the second phase by SGD with momentum it is 0.128, 0.128, 0.126 and
0.121 at rates of 0.05, 0.1, 0.2 and 0.5.

References:
    A simple baseline for Bayesian uncertainty in deep learning. W. J. Maddox, T. Garipov, P. Izmailov, D. Vetrov,
    A. G. Wilson, 2019. arXiv:1902.02476.
    Averaging weights leads to wider optima and better generalization. P. Izmailov, D. Podoprikhin, T. Garipov,
    D. Vetrov, A. G. Wilson, 2018. arXiv:1803.05407.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields, check_positive
from novacula.core.errors import InputError
from novacula.core.modules.precision import Precision
from novacula.core.params import Params, count, flatten, unflatten, unstack
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step, one_cycle
from novacula.posteriors.base import Posterior
from novacula.posteriors.gaussians import LowRankGaussian
from novacula.posteriors.mixture import mixture
from novacula.posteriors.renormalised import Renormalised
from novacula.target import Density, Target
from novacula.target.batch import WARM, Batch
from novacula.target.training import statistics_of, training_gradient

_LARGEST = 2**32  # bytes of kept points


@dataclass(frozen=True, eq=False)
class Moments:
    """The points collected so far, of M members; mean ``(M, P)``, squares ``(M, P)``, last ``(K, M, P)``."""

    mean: Tensor  # of all n points, shape ``(M, P)``
    squares: Tensor  # sums of squared deviations from it, shape ``(M, P)``
    last: Tensor  # the last K points, in a ring that is filled in place, shape ``(K, M, P)``
    count: int  # n

    def add(self, point: Tensor) -> Moments:
        """Take in one more point (Welford's update, which loses no digits where the variance is small)."""
        n = self.count + 1
        before = point - self.mean
        mean = self.mean + before / n
        self.last[self.count % len(self.last)] = point
        return Moments(mean, self.squares + before * (point - mean), self.last, n)


@dataclass(frozen=True, eq=False)
class SWAGState:
    """The members' weights, their optimisers' state and the moments."""

    params: Params
    adam: AdamState
    moments: Moments
    statistics: Params = field(default_factory=dict)
    data: Data | None = field(default=None, metadata={"checkpoint": False})


@dataclass(frozen=True)
class SWAG:
    """Train, then walk about at a constant learning rate, and fit a Gaussian to the walk.

    Args:
        lr: Peak learning rate of Adam in training, on a one-cycle schedule that ends at ``swa_lr``.
        swa_lr: The constant learning rate while points are collected. The walk, and with it the posterior, is the wider
            the larger it is.
        start: The share of the run that trains.
        rank: K, how many of the last points keep their deviations.
        points: How many points to collect, spread evenly over the rest of the run.
        scale: A factor for the covariance.
        precision: What the network computes in while it trains, as for `MAP`.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> SWAG(swa_lr=5e-3, rank=10).points
        40
    """

    lr: float = 1e-2
    swa_lr: float = 1e-2
    start: float = 0.75
    rank: int = 20
    points: int = 40
    scale: float = 1.0
    precision: Precision = "full"

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("lr", "swa_lr", "scale"):
            check_positive(name, getattr(self, name))
        if not 0 <= self.start < 1:
            raise InputError("a share for training in [0, 1)", f"start={self.start}", "use 0.75")
        if self.rank < 2 or self.points < self.rank:
            raise InputError(
                "two or more deviations, of as many points or more",
                f"rank={self.rank}, points={self.points}",
                "use rank=20, points=40",
            )

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> SWAGState:
        """Start where the members start, with no points."""
        first, _, n = self._plan(start.steps)
        if n < 2:
            raise InputError(
                "steps for two points or more", f"{start.steps - first} after training", "take more steps or epochs"
            )
        like = next(iter(start.params.values()))
        p, k = count(start.params) // start.members, min(self.rank, n)
        if (size := k * start.members * p * like.element_size()) > _LARGEST:
            raise InputError(
                "deviations that fit in 4 GiB",
                f"{k} of {start.members} members of {p:,} weights, {size / 2**30:.1f} GiB",
                "lower rank=",
            )
        mean = like.new_zeros(start.members, p)
        moments = Moments(mean, mean.clone(), like.new_zeros(k, start.members, p), 0)
        statistics = statistics_of(target, data, start.members, start.statistics)
        return SWAGState(start.params, adam_init(start.params), moments, statistics, data)

    def step(self, target: Density, state: SWAGState, batch: Batch, rng: torch.Generator) -> tuple[SWAGState, Info]:
        """One step of Adam on the negative log-posterior per example, and perhaps a point."""
        first, every, n = self._plan(batch.steps)
        rising = batch.rising(WARM * self.start)
        given = state.params, state.statistics
        losses, grads, statistics = training_gradient(target, *given, rising, rng, self.precision)
        lr = self.swa_lr
        if batch.step < first:
            lr = self.lr * one_cycle(batch.step / first, end=self.swa_lr / self.lr)
        params, adam = adam_step(state.params, grads, state.adam, lr)
        moments, since = state.moments, batch.step + 1 - first
        if since > 0 and since % every == 0 and moments.count < n:
            moments = moments.add(flatten(params, batch_dims=1))
        info = Info(float(losses.mean()), {"lr": lr, "points": float(moments.count)})
        return SWAGState(params, adam, moments, statistics, state.data), info

    def posterior(self, target: Density, state: SWAGState) -> Posterior:
        """The Gaussian of the points, or a mixture of the members' Gaussians (MultiSWAG)."""
        moments = state.moments
        if moments.count < 2:
            raise InputError("two points or more", str(moments.count), "run all steps")
        like = unstack(state.params)[0]
        k = min(len(moments.last), moments.count)
        # Half of the covariance is the diagonal's, half the deviations'.
        variance = 0.5 * self.scale * moments.squares / moments.count
        factor = (moments.last[:k] - moments.mean) * (0.5 * self.scale / (k - 1)) ** 0.5
        found: list[Posterior] = [
            LowRankGaussian(unflatten(moments.mean[m], like), unflatten(variance[m], like), factor[:, m], target)
            for m in range(len(moments.mean))
        ]
        if state.statistics and isinstance(target, Target) and state.data is not None:
            found = [Renormalised(part, target, state.data) for part in found]
        return mixture(found)

    def _plan(self, steps: int) -> tuple[int, int, int]:
        # Steps of training, steps from point to point, and points.
        first = math.floor(self.start * steps)
        n = min(self.points, steps - first)
        return first, (steps - first) // max(n, 1), n
