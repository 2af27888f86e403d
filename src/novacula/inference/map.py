"""`MAP`: the most probable weights, by Adam on minibatches with a one-cycle learning rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.params import Params
from novacula.inference.adam import AdamState, adam_init, adam_step, one_cycle
from novacula.inference.method import Batch, Info, Point
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class MAPState:
    """Weights and their optimiser's state."""

    params: Params
    adam: AdamState


@dataclass(frozen=True)
class MAP:
    """Maximise the log-posterior ``Σ log p(y|f̄(w, x)) + log p(w)`` over the weights.

    Args:
        lr: Peak learning rate of Adam.
        schedule: ``"one-cycle"`` or ``"constant"``.
    """

    lr: float = 2e-3
    schedule: str = "one-cycle"

    def init(self, target: Target, data: Data, rng: torch.Generator) -> MAPState:
        """Start at the network's own weights.

        Args:
            target: The target.
            data: Not used.
            rng: Not used.

        Returns:
            The first state.
        """
        params = target.params()
        return MAPState(params, adam_init(params))

    def step(self, target: Target, state: MAPState, batch: Batch, rng: torch.Generator) -> tuple[MAPState, Info]:
        """One step of Adam on the negative log-posterior per example.

        Args:
            target: The target.
            state: The state before.
            batch: A minibatch.
            rng: Randomness of the transformations.

        Returns:
            The state after, and the loss.
        """
        loss, grads = loss_and_gradient(target, state.params, batch, rng)
        factor = one_cycle(batch.progress) if self.schedule == "one-cycle" else 1.0
        params, adam = adam_step(state.params, grads, state.adam, self.lr * factor)
        return MAPState(params, adam), Info(loss)

    def posterior(self, target: Target, state: MAPState) -> Point:
        """The point itself.

        Args:
            target: The target, which the point keeps.
            state: The last state.

        Returns:
            A posterior of one point.
        """
        return Point(state.params, target)


def loss_and_gradient(
    target: Target, params: Params, batch: Batch, rng: torch.Generator
) -> tuple[float, dict[str, Tensor]]:
    """The misfit of a batch, and the gradient of the negative log-density.

    Args:
        target: The target.
        params: Weights.
        batch: A minibatch that stands for all data.
        rng: Randomness of the transformations.

    Returns:
        The mean negative log-likelihood of the batch, in nats per example (without the prior, whose constant would hide
        it), and the gradient of the tempered negative log-density per example, by name.
    """
    leaves = {k: w.detach().requires_grad_() for k, w in params.items()}
    with torch.enable_grad():
        fit = target.log_likelihood(leaves, batch.x, batch.y, target.copies.train, rng).mean()
        density = (fit * batch.total + target.prior.log_prob(leaves)) / target.temperature
    # A parameter the network does not use still has its prior's gradient, so none is missing here.
    grads = torch.autograd.grad(-density / batch.total, list(leaves.values()))
    return -float(fit.detach()), dict(zip(leaves, grads, strict=True))
