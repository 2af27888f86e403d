"""Stochastic-gradient Markov chain Monte Carlo: `SGLD` (also preconditioned) and `SGHMC`, with cyclical step sizes.

Both follow the gradient of the log-posterior, estimated on minibatches, and add noise so that what they visit are draws
of the posterior, as far as the step size is small: no step is rejected, and the bias falls with the step. With
``U(w) = −log p_T(w | D)`` (tempered, all N examples),

    SGLD:   w ← w − ½ε G ∇U + √ε G^½ ξ,
    SGHMC:  v ← (1 − α) v − ε ∇U + √(2αε) ξ,   w ← w + v,        ξ ~ N(0, I).

The step ``ε = lr / N`` is written by its learning rate per example, as for SGD: ``lr`` moves the weights by ``lr``
times the mean gradient (half of it for SGLD), whatever the size of the data.

With ``cycles`` the rate falls from its peak to zero on a cosine, several times; the first part of each cycle explores
without noise, and draws are kept from the rest.

References:
    Bayesian learning via stochastic gradient Langevin dynamics. M. Welling, Y. W. Teh, 2011.
    Preconditioned stochastic gradient Langevin dynamics for deep neural networks. C. Li, C. Chen, D. Carlson, L. Carin,
    2016. arXiv:1512.07666.
    Stochastic gradient Hamiltonian Monte Carlo. T. Chen, E. B. Fox, C. Guestrin, 2014. arXiv:1402.4102.
    Cyclical stochastic gradient MCMC for Bayesian deep learning. R. Zhang, C. Li, J. Zhang, C. Chen, A. G. Wilson,
    2020. arXiv:1902.03932.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from novacula.core.data import Data
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.inference.draws import Draws, Recorder, draws_of
from novacula.inference.members import loss_and_gradient, normal_like
from novacula.inference.method import Batch, Batching, Info, Start
from novacula.target import Density

_WARM = 0.3  # the share of the run before the first draw, by default


@dataclass(frozen=True)
class Cycle:
    """The step size along the run, and which steps may be kept.

    Args:
        lr: The learning rate, at its peak.
        cycles: How many times it falls to zero; 0 for a constant rate, after a rise in the first twentieth of the run.
        explore: The share of each cycle without noise.
    """

    lr: float
    cycles: int = 0
    explore: float = 0.5

    def at(self, step: int, steps: int) -> tuple[float, bool]:
        """The rate of a step, and whether noise is added in it.

        Args:
            step: The step, from 0.
            steps: Steps of the run.

        Returns:
            A learning rate, and whether the step samples.
        """
        if self.cycles == 0:
            return self.lr * min(1.0, 20 * (step + 1) / steps), True
        length = math.ceil(steps / self.cycles)
        r = (step % length) / length
        return self.lr * (1 + math.cos(math.pi * r)) / 2, r >= self.explore


@dataclass(frozen=True, eq=False)
class LangevinState:
    """Weights, velocities or second moments of the gradients, and the draws.

    Args:
        params: The chains' weights.
        second: SGLD: running means of squared gradients (zeros where they are not used); SGHMC: velocities.
        recorder: The draws.
        data: The training data; None for a plain log-density.
    """

    params: Params
    second: Params
    recorder: Recorder
    data: Data | None = field(metadata={"checkpoint": False})


@dataclass(frozen=True)
class SGLD:
    """Langevin dynamics on minibatches.

    Args:
        lr: Learning rate per example, at its peak.
        cycles: How many times the rate falls to zero; 0 for a constant rate.
        explore: With cycles: the share of each that is without noise, and without draws.
        precondition: Whether to divide by a running root mean square of the gradient (RMSprop), which takes steps of
            equal size in all weights. The small correction for how it changes with the weights is left out, as usual.
        decay: Of that running mean.
        damping: Added to the root mean square, relative to its average over all weights.
        warmup: Steps before the first draw; by default 3 in 10, and with cycles none beyond their explorations.
        keep: The most draws to keep of each chain.

    Raises:
        InputError: If a number is outside its range.
    """

    lr: float = 1e-3
    cycles: int = 0
    explore: float = 0.5
    precondition: bool = False
    decay: float = 0.99
    damping: float = 0.1
    warmup: int | None = None
    keep: int = 100

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self.lr, self.cycles, self.explore)
        if not 0 <= self.decay < 1 or not self.damping > 0:
            raise InputError("decay in [0, 1) and damping above 0", f"{self.decay}, {self.damping}", "leave them out")

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> LangevinState:
        """Start where the chains start.

        Args:
            target: The target.
            data: The training data, kept by reference to compare predictions on.
            rng: Not used.
            start: The chains' first weights.

        Returns:
            The first state.
        """
        second = {k: torch.zeros_like(w) for k, w in start.params.items()} if self.precondition else {}
        return LangevinState(start.params, second, _recorder(start, self.warmup, self.keep, self.cycles), data)

    def step(
        self, target: Density, state: LangevinState, batch: Batch, rng: torch.Generator
    ) -> tuple[LangevinState, Info]:
        """One step of every chain.

        Args:
            target: The target.
            state: The state before.
            batch: A minibatch, which the chains share.
            rng: Randomness of transformations and noise.

        Returns:
            The state after, and the loss.
        """
        losses, grads = loss_and_gradient(target, state.params, batch, rng)
        lr, noisy = Cycle(self.lr, self.cycles, self.explore).at(batch.step, batch.steps)
        second, scale = state.second, None
        if self.precondition:
            second = {k: self.decay * v + (1 - self.decay) * grads[k].square() for k, v in state.second.items()}
            scale = self._preconditioner(second, batch.step)
        noise = normal_like(state.params, rng) if noisy else None
        params: Params = {}
        for k, w in state.params.items():
            g = grads[k] if scale is None else scale[k] * grads[k]
            moved = w - 0.5 * lr * g
            if noise is not None:
                root = (lr / batch.total) ** 0.5
                moved = moved + root * (noise[k] if scale is None else scale[k].sqrt() * noise[k])
            params[k] = moved
        return _next(state, params, second, batch, noisy, losses, lr)

    def posterior(self, target: Density, state: LangevinState) -> Draws:
        """The draws.

        Args:
            target: The target.
            state: The last state.

        Returns:
            The posterior.
        """
        return draws_of(target, state.recorder, state.data)

    def _preconditioner(self, second: Params, step: int) -> Params:
        # 1/rms, scaled to an average of one over all weights, so that lr keeps its meaning.
        correction = 1 - self.decay ** (step + 1)
        rms = {k: (v / correction).sqrt() for k, v in second.items()}
        members = next(iter(rms.values())).shape[0]
        total = sum(r.numel() for r in rms.values()) / members
        mean = torch.stack([r.flatten(1).sum(1) for r in rms.values()]).sum(0) / total
        # A chain that has met no gradient yet takes plain steps.
        rms, mean = {k: r + (mean == 0).reshape(-1, *[1] * (r.ndim - 1)) for k, r in rms.items()}, mean + (mean == 0)
        floor = {k: r + self.damping * mean.reshape(-1, *[1] * (r.ndim - 1)) for k, r in rms.items()}
        return {k: mean.reshape(-1, *[1] * (f.ndim - 1)) / f for k, f in floor.items()}


@dataclass(frozen=True)
class SGHMC:
    """Hamiltonian dynamics with friction on minibatches: Langevin dynamics with momentum.

    Args:
        lr: Learning rate per example, at its peak.
        friction: α, one minus the momentum.
        cycles: How many times the rate falls to zero; 0 for a constant rate.
        explore: With cycles: the share of each that is without noise, and without draws.
        warmup: Steps before the first draw; by default 3 in 10, and with cycles none beyond their explorations.
        keep: The most draws to keep of each chain.

    Raises:
        InputError: If a number is outside its range.
    """

    lr: float = 1e-3
    friction: float = 0.1
    cycles: int = 0
    explore: float = 0.5
    warmup: int | None = None
    keep: int = 100

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self.lr, self.cycles, self.explore)
        if not 0 < self.friction <= 1:
            raise InputError("friction in (0, 1]", str(self.friction), "use 0.1, a momentum of 0.9")

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> LangevinState:
        """Start where the chains start, at rest.

        Args:
            target: The target.
            data: The training data, kept by reference to compare predictions on.
            rng: Not used.
            start: The chains' first weights.

        Returns:
            The first state.
        """
        rest = {k: torch.zeros_like(w) for k, w in start.params.items()}
        return LangevinState(start.params, rest, _recorder(start, self.warmup, self.keep, self.cycles), data)

    def step(
        self, target: Density, state: LangevinState, batch: Batch, rng: torch.Generator
    ) -> tuple[LangevinState, Info]:
        """One step of every chain.

        Args:
            target: The target.
            state: The state before.
            batch: A minibatch, which the chains share.
            rng: Randomness of transformations and noise.

        Returns:
            The state after, and the loss.
        """
        losses, grads = loss_and_gradient(target, state.params, batch, rng)
        lr, noisy = Cycle(self.lr, self.cycles, self.explore).at(batch.step, batch.steps)
        velocity = {k: (1 - self.friction) * v - lr * grads[k] for k, v in state.second.items()}
        if noisy:
            root = (2 * self.friction * lr / batch.total) ** 0.5
            noise = normal_like(state.params, rng)
            velocity = {k: v + root * noise[k] for k, v in velocity.items()}
        params = {k: w + velocity[k] for k, w in state.params.items()}
        return _next(state, params, velocity, batch, noisy, losses, lr)

    def posterior(self, target: Density, state: LangevinState) -> Draws:
        """The draws.

        Args:
            target: The target.
            state: The last state.

        Returns:
            The posterior.
        """
        return draws_of(target, state.recorder, state.data)


def _next(
    state: LangevinState, params: Params, second: Params, batch: Batch, noisy: bool, losses: Tensor, lr: float
) -> tuple[LangevinState, Info]:
    recorder = state.recorder
    if noisy:
        recorder = recorder.record(batch.step, params)
    return LangevinState(params, second, recorder, state.data), Info(float(losses.mean()), {"lr": lr})


def _recorder(start: Start, warmup: int | None, keep: int, cycles: int) -> Recorder:
    if warmup is None:
        warmup = 0 if cycles else round(_WARM * start.steps)
    return Recorder.of(start, warmup=warmup, keep=keep)


def _check(lr: float, cycles: int, explore: float) -> None:
    if not 0 < lr < math.inf or cycles < 0 or not 0 <= explore < 1:
        raise InputError(
            "lr above 0, cycles of 0 or more, explore in [0, 1)",
            f"lr={lr}, cycles={cycles}, explore={explore}",
            "leave them out for the defaults",
        )
