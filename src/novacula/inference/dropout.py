"""`Dropout`: Monte-Carlo dropout, where a draw from the posterior is a set of masks.

A network trained with dropout and evaluated under random masks averages over thinned networks, which can be read as
approximate variational inference. The masks are drawn once for a draw and *stored in it*: all inputs see the same
thinned network, so that predictions do not depend on the batch, and draws are functions like those of any posterior.

The masks must be able to sit anywhere in a network (before a convolution, before two consumers, on a residual branch),
where no scaling of some layer's weights is the same. The posterior's target therefore has a network of its own: a copy
in which every dropout layer multiplies by a buffer, ``mask``, which is 1 unless a draw brings another. A draw holds all
weights, and the masks under the buffers' names (``"1.mask"``; a layer that is called again has ``"1.mask_1"`` and so
on). The weights and their prior are those of the given target.

In training every example has masks of its own, which its transformed copies share. The objective is the target's
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

from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.core.params import Params, detach, unstack
from novacula.inference.adam import AdamState, adam_init, adam_step, one_cycle
from novacula.inference.masks import Masks, masked
from novacula.inference.members import owner_of
from novacula.inference.method import Batch, Batching, Info, Posterior, Start, network_target
from novacula.inference.mixture import mixture
from novacula.inference.noisy import noisy_gradient
from novacula.target import Density, Target


@dataclass(frozen=True, eq=False)
class DropoutPosterior:
    """Networks thinned at random.

    Args:
        mode: The weights; no mask is on.
        masks: The masks, and the target whose network takes them.
    """

    mode: Params
    masks: Masks

    @property
    def target(self) -> Target:
        """The target; its network takes masks with the weights."""
        return self.masks.target

    @property
    def warnings(self) -> tuple[str, ...]:
        """Dropout that the draws leave out."""
        return self.masks.missed

    def sample(self, n: int, rng: torch.Generator) -> Params:
        """Draw masks.

        Args:
            n: How many.
            rng: Randomness.

        Returns:
            The weights, repeated, and the masks; tensors ``(n, *shape)``.
        """
        like = next(iter(self.mode.values()))
        drawn = self.masks.draw(n, like, rng)
        return {**{k: w.expand(n, *w.shape) for k, w in self.mode.items()}, **drawn}


@dataclass(frozen=True, eq=False)
class DropoutState:
    """The members' weights, their optimisers' state and the network that takes masks."""

    params: Params
    adam: AdamState
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
        _check_share(self.p)

    def init(self, target: Density, data: Data, rng: torch.Generator, start: Start) -> DropoutState:
        """Start where the members start.

        Args:
            target: The target.
            data: The training data, one example of which shows what the dropout layers see.
            rng: Not used.
            start: The members' first weights.

        Returns:
            The first state.
        """
        masks = masked(network_target(target, "Dropout"), data.x[:2], self.p)
        return DropoutState(start.params, adam_init(start.params), masks)

    def step(
        self, target: Target, state: DropoutState, batch: Batch, rng: torch.Generator
    ) -> tuple[DropoutState, Info]:
        """One step of Adam on the negative log-posterior per example, under masks of each example's own.

        Args:
            target: The target.
            state: The state before.
            batch: A minibatch, which the members share.
            rng: Randomness of transformations and masks.

        Returns:
            The state after, and the loss under the masks.
        """
        xs = target.warp(batch.x, target.copies.train, rng)
        b, s = xs.shape[:2]
        like = next(iter(state.params.values()))
        drawn = state.masks.draw(like.shape[0] * b, like, rng)
        noise = {k: v.unflatten(0, (-1, b)).repeat_interleave(s, 1) for k, v in drawn.items()}

        def density(w: Params) -> tuple[Tensor, Tensor]:
            fit = target.likelihood.log_prob(state.masks.target.forward.average(w, xs), batch.y).mean()
            weights = {k: w[k] for k in state.params}
            tempered = fit / target.likelihood_temperature + target.prior.log_prob(weights) / batch.total
            return -fit, -tempered / target.temperature

        owner = owner_of(state.masks.target)
        (losses, _), grads = noisy_gradient(density, state.params, noise, owner=owner, rows=b * s)
        factor = one_cycle(batch.progress) if self.schedule == "one-cycle" else 1.0
        params, adam = adam_step(state.params, grads, state.adam, self.lr * factor)
        return DropoutState(params, adam, state.masks), Info(float(losses.mean()))

    def posterior(self, target: Target, state: DropoutState) -> Posterior:
        """Thinned networks, or a mixture of the members'.

        Args:
            target: Not used: the posterior's is the one that takes masks.
            state: The last state.

        Returns:
            A `DropoutPosterior`, or a `Mixture` of them.
        """
        return mixture([DropoutPosterior(w, state.masks) for w in unstack(state.params)])


def dropout_posterior(target: Target, params: Params, data: Data, *, p: float | None = None) -> DropoutPosterior:
    """Monte-Carlo dropout for a network that was trained elsewhere, with dropout.

    Args:
        target: The target; its network has dropout layers, in eval mode.
        params: The trained weights.
        data: Data whose first inputs show what the dropout layers see.
        p: The share that is dropped, in the place of the layers' own.

    Returns:
        The posterior.
    """
    _check_share(p)
    target, data = target.prepare(data)
    return DropoutPosterior(detach(params), masked(target, data.x[:2], p))


def _check_share(p: float | None) -> None:
    if p is not None and not 0 < p < 1:
        raise InputError("a share in (0, 1) to drop", f"p={p}", "use 0.1, or leave it out for the layers' own")
