"""`Dropout`: Monte-Carlo dropout, where a draw from the posterior is a set of masks.

A network trained with dropout and evaluated under random masks averages over thinned networks, which can be read as
approximate variational inference. The masks are drawn once for a draw and *stored in it*: all inputs see the same
thinned network, so that predictions do not depend on the batch, and draws are functions like those of any posterior.

The masks must be able to sit anywhere in a network (before a convolution, before two consumers, on a residual branch),
where no scaling of some layer's weights is the same. The posterior's target therefore has a network of its own: a copy
in which every dropout layer multiplies by a buffer, ``mask``, which is 1 unless a draw brings another. A draw holds all
weights, and the masks under the buffers' names (``"1.mask"``; a layer that is called again has ``"1.mask_1"`` and so
on). The weights and their prior are those of the given target.

In training every example has masks of its own, which its transformed copies share; layers that keep statistics of the
batches (BatchNorm) take those of thinned networks, and a draw has them too. The objective is the target's
log-posterior of the unthinned weights under this noise. The noise slows training: the default rate is five times that
of `MAP`.

References:
    Dropout as a Bayesian approximation: representing model uncertainty in deep learning. Y. Gal, Z. Ghahramani, 2016.
    arXiv:1506.02142.
    Dropout: a simple way to prevent neural networks from overfitting. N. Srivastava, G. Hinton, A. Krizhevsky,
    I. Sutskever, R. Salakhutdinov, 2014.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.many import noisy_gradient
from novacula.core.params import Params, unstack
from novacula.data.data import Data
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step, one_cycle
from novacula.posteriors.base import Posterior, network_target
from novacula.posteriors.dropout import DropoutPosterior
from novacula.posteriors.masks import Masks, check_share, masked
from novacula.posteriors.mixture import mixture
from novacula.target import Density, Target
from novacula.target.batch import WARM, Batch
from novacula.target.many import with_prior
from novacula.target.training import misfit_gradient, points, statistics_of


@dataclass(frozen=True, eq=False)
class DropoutState:
    """The members' weights, their optimisers' state and the network that takes masks."""

    params: Params
    adam: AdamState
    statistics: Params  # those that layers keep of the batches, ``(M, *shape)``
    masks: Masks = field(metadata={"checkpoint": False})


@dataclass(frozen=True)
class Dropout:
    """Train under dropout, and predict under it. The network's own dropout layers say where and how much.

    Args:
        lr: Peak learning rate of Adam.
        schedule: ``"one-cycle"`` or ``"constant"``.
        p: The share that is dropped, in the place of the layers' own.

    Raises:
        InputError: If ``p`` is not in (0, 1).
    """

    lr: float = 1e-2
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    p: float | None = None

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        check_share(self.p)

    def init(self, target: Density, data: Data, rng: torch.Generator, start: Start) -> DropoutState:
        """Start where the members start."""
        masks = masked(network_target(target, "Dropout"), data.x[:2], self.p)
        statistics = statistics_of(target, data, start.members, start.statistics)
        return DropoutState(start.params, adam_init(start.params), statistics, masks)

    def step(
        self, target: Target, state: DropoutState, batch: Batch, rng: torch.Generator
    ) -> tuple[DropoutState, Info]:
        """One step of Adam on the negative log-posterior per example, under masks of each example's own."""
        batch = batch.rising(WARM)
        xs = target.warp(batch.x, target.copies.train, rng)
        b, s = xs.shape[:2]
        like = next(iter(state.params.values()))
        drawn = state.masks.draw(like.shape[0] * b, like, rng)
        noise = {k: v.unflatten(0, (-1, b)).repeat_interleave(s, 1) for k, v in drawn.items()}

        def density(w: Params) -> tuple[Tensor, Tensor]:
            fit = target.likelihood.log_prob(state.masks.target.forward.average(w, xs), batch.y).mean()
            weights = {k: w[k] for k in state.params}
            prior = target.prior.log_prob(weights) * (batch.prior / batch.total)
            tempered = fit / target.likelihood_temperature + prior
            return -fit, -tempered / target.temperature

        statistics, inner = state.statistics, state.masks.target
        if statistics:
            losses, fits, statistics = misfit_gradient(inner, state.params, statistics, xs, batch.y, 0, beside=noise)
            grads = with_prior(target, state.params, fits, batch)
        else:
            (losses, _), grads = noisy_gradient(density, state.params, noise, notes=inner.notes, rows=b * s)
        factor = one_cycle(batch.progress) if self.schedule == "one-cycle" else 1.0
        params, adam = adam_step(state.params, grads, state.adam, self.lr * factor)
        return DropoutState(params, adam, statistics, state.masks), Info(float(losses.mean()))

    def posterior(self, target: Target, state: DropoutState) -> Posterior:
        """Thinned networks, or a mixture of the members'."""
        # Running statistics are those of thinned networks, as the draws are.
        held = unstack(points(state.params, state.statistics))
        return mixture([DropoutPosterior(w, state.masks) for w in held])
