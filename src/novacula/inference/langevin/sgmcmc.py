"""Stochastic-gradient Markov chain Monte Carlo: `SGLD` (also preconditioned) and `SGHMC`, with cyclical step sizes.

Both follow the gradient of the log-posterior, estimated on minibatches, and add noise so that what they visit are draws
of the posterior, as far as the step size is small: no step is rejected, and the bias falls with the step. With
``U(w) = −log p_T(w | D)`` (tempered, all N examples),

    SGLD:   w ← w − ½ε G ∇U + √ε G^½ ξ,
    SGHMC:  v ← (1 − α) v − ε ∇U + √(2αε) ξ,   w ← w + v,        ξ ~ N(0, I).

The step ``ε = lr / N`` is written by its learning rate per example, as for SGD: ``lr`` moves the weights by ``lr``
times the mean gradient (half of it for SGLD), whatever the size of the data. Left out, it is found before the first
draw: along the steepest direction (`novacula.inference.langevin.step_size`) the step's length is to widen the
distribution's variance by a fifth, and the minibatches' noise no more than to double it. Linear recursions give the
shares exactly,

    SGLD:   1/(1 − lr λ/4),            lr N s²/4,
    SGHMC:  1/(1 − lr λ/(2(2 − α))),   lr N s²/(2α),

for curvature λ and variance s² of the mean tempered gradient. All other directions are less distorted. Before the first
draw, and where cycles explore, nothing is sampled yet: there the noise is no limit at first, so that the weights travel
as fast as their curvature lets them, and becomes one by the time of the first draw.

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

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.many import normal_like, per_member
from novacula.core.params import Params
from novacula.data.data import Data
from novacula.inference.langevin.step_size import EVERY, FIRST, StepSize
from novacula.inference.method import Batching, Info, Start
from novacula.inference.recorder import Recorder, draws_of
from novacula.posteriors.draws import Draws
from novacula.target import Density
from novacula.target.batch import Batch
from novacula.target.many import loss_and_gradient

_WARM = 0.3  # the share of the run before the first draw, by default
_WIDER = 0.2  # what the length of a step may add to the variance along the steepest direction
_HOTTER = 1.0  # what the minibatches' noise may add there
_FREE = 1e4  # how much more it may add in the first step of the warm-up


@dataclass(frozen=True)
class Cycle:
    """The step size along the run, and which steps may be kept."""

    cycles: int = 0  # how many times it falls to zero
    explore: float = 0.5  # the share of each cycle without noise

    def at(self, step: int, steps: int) -> tuple[float, bool]:
        """The rate of a step, and whether noise is added in it."""
        if self.cycles == 0:
            return min(1.0, 20 * (step + 1) / steps), True
        length = math.ceil(steps / self.cycles)
        r = (step % length) / length
        return (1 + math.cos(math.pi * r)) / 2, r >= self.explore


@dataclass(frozen=True, eq=False)
class LangevinState:
    """Weights, velocities or second moments of the gradients, and the draws; rate ``(M,)``."""

    params: Params  # the chains' weights
    second: Params  # SGLD: running means of squared gradients (nothing where they are not used); SGHMC: velocities
    recorder: Recorder  # the draws
    rate: Tensor  # the learning rate of each chain at its peak, shape ``(M,)``
    steepness: StepSize | None  # what it is found from; None where it was given
    data: Data | None = field(metadata={"checkpoint": False})  # the training data; None for a plain log-density


@dataclass(frozen=True)
class SGLD:
    """Langevin dynamics on minibatches.

    Args:
        lr: Learning rate per example, at its peak; found before the first draw where it is left out.
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

    lr: float | None = None
    cycles: int = 0
    explore: float = 0.5
    precondition: bool = False
    decay: float = 0.99
    damping: float = 0.1
    warmup: int | None = None
    keep: int = 100

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        _check(self.lr, self.cycles, self.explore)
        if not 0 <= self.decay < 1 or not self.damping > 0:
            raise InputError("decay in [0, 1) and damping above 0", f"{self.decay}, {self.damping}", "leave them out")

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> LangevinState:
        """Start where the chains start."""
        second = {k: torch.zeros_like(w) for k, w in start.params.items()} if self.precondition else {}
        return _begin(self, start, second, data, rng)

    def step(
        self, target: Density, state: LangevinState, batch: Batch, rng: torch.Generator
    ) -> tuple[LangevinState, Info]:
        """One step of every chain."""
        losses, grads = loss_and_gradient(target, state.params, batch, rng)
        second, scale = state.second, None
        if self.precondition:
            second = {k: self.decay * v + (1 - self.decay) * grads[k].square() for k, v in state.second.items()}
            scale = self._preconditioner(second, batch.step)
        share, noisy = Cycle(self.cycles, self.explore).at(batch.step, batch.steps)
        steepness, rate = _paced(target, state, batch, rng, noisy, (4 * _WIDER, 4 * _HOTTER), scale)
        noise = normal_like(state.params, rng) if noisy else None
        params: Params = {}
        for k, w in state.params.items():
            lr = per_member(share * rate, w).to(w)
            g = grads[k] if scale is None else scale[k] * grads[k]
            moved = w - 0.5 * lr * g
            if noise is not None:
                root = (lr / batch.total).sqrt()
                moved = moved + root * (noise[k] if scale is None else scale[k].sqrt() * noise[k])
            params[k] = moved
        return _next(state, params, second, batch, noisy, losses, rate, steepness)

    def posterior(self, target: Density, state: LangevinState) -> Draws:
        """The draws."""
        return draws_of(target, state.recorder, state.data)

    def _preconditioner(self, second: Params, step: int) -> Params:
        # 1/rms, scaled to an average of one over all weights, so that lr keeps its meaning.
        correction = 1 - self.decay ** (step + 1)
        rms = {k: (v / correction).sqrt() for k, v in second.items()}
        members = next(iter(rms.values())).shape[0]
        total = sum(r.numel() for r in rms.values()) / members
        mean = torch.stack([r.reshape(len(r), -1).sum(1) for r in rms.values()]).sum(0) / total
        # A chain that has met no gradient yet takes plain steps.
        rms, mean = {k: r + per_member(mean == 0, r) for k, r in rms.items()}, mean + (mean == 0)
        floor = {k: r + self.damping * per_member(mean, r) for k, r in rms.items()}
        return {k: per_member(mean, f) / f for k, f in floor.items()}


@dataclass(frozen=True)
class SGHMC:
    """Hamiltonian dynamics with friction on minibatches: Langevin dynamics with momentum.

    Args:
        lr: Learning rate per example, at its peak; found before the first draw where it is left out.
        friction: α, one minus the momentum.
        cycles: How many times the rate falls to zero; 0 for a constant rate.
        explore: With cycles: the share of each that is without noise, and without draws.
        warmup: Steps before the first draw; by default 3 in 10, and with cycles none beyond their explorations.
        keep: The most draws to keep of each chain.

    Raises:
        InputError: If a number is outside its range.
    """

    lr: float | None = None
    friction: float = 0.1
    cycles: int = 0
    explore: float = 0.5
    warmup: int | None = None
    keep: int = 100

    batching: Batching = field(default="mini", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        _check(self.lr, self.cycles, self.explore)
        if not 0 < self.friction <= 1:
            raise InputError("friction in (0, 1]", str(self.friction), "use 0.1, a momentum of 0.9")

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> LangevinState:
        """Start where the chains start, at rest."""
        rest = {k: torch.zeros_like(w) for k, w in start.params.items()}
        return _begin(self, start, rest, data, rng)

    def step(
        self, target: Density, state: LangevinState, batch: Batch, rng: torch.Generator
    ) -> tuple[LangevinState, Info]:
        """One step of every chain."""
        losses, grads = loss_and_gradient(target, state.params, batch, rng)
        share, noisy = Cycle(self.cycles, self.explore).at(batch.step, batch.steps)
        most = (2 * (2 - self.friction) * _WIDER, 2 * self.friction * _HOTTER)
        steepness, rate = _paced(target, state, batch, rng, noisy, most)
        lr = {k: per_member(share * rate, w).to(w) for k, w in state.params.items()}
        velocity = {k: (1 - self.friction) * v - lr[k] * grads[k] for k, v in state.second.items()}
        if noisy:
            noise = normal_like(state.params, rng)
            velocity = {k: v + (2 * self.friction * lr[k] / batch.total).sqrt() * noise[k] for k, v in velocity.items()}
        params = {k: w + velocity[k] for k, w in state.params.items()}
        return _next(state, params, velocity, batch, noisy, losses, rate, steepness)

    def posterior(self, target: Density, state: LangevinState) -> Draws:
        """The draws."""
        return draws_of(target, state.recorder, state.data)


def _begin(
    method: SGLD | SGHMC, start: Start, second: Params, data: Data | None, rng: torch.Generator
) -> LangevinState:
    warmup = method.warmup
    if warmup is None:
        warmup = 0 if method.cycles else round(_WARM * start.steps)
    recorder = Recorder.of(start, warmup=warmup, keep=method.keep)
    first = next(iter(start.params.values()))
    rate = torch.full((start.members,), math.nan if method.lr is None else method.lr).to(first)
    steepness = StepSize.unknown(start.params, rng) if method.lr is None else None
    return LangevinState(start.params, second, recorder, rate, steepness, data)


def _paced(
    target: Density,
    state: LangevinState,
    batch: Batch,
    rng: torch.Generator,
    noisy: bool,
    most: tuple[float, float],
    scale: Params | None = None,
) -> tuple[StepSize | None, Tensor]:
    # Looks at the steepest direction on the way to the draws; among them nothing of this changes.
    steepness, first = state.steepness, state.recorder.first
    if steepness is None:
        return None, state.rate
    looks = FIRST if batch.step == 0 else int((batch.step < first or not noisy) and batch.step % EVERY == 0)
    for _ in range(looks):
        steepness = steepness.look(target, state.params, batch, rng, scale)
    length, noise = most
    left = max(0.0, 1 - batch.step / first) if first else 0.0
    return steepness, steepness.rate(batch.total, length, noise * _FREE**left if noisy else math.inf)


def _next(
    state: LangevinState,
    params: Params,
    second: Params,
    batch: Batch,
    noisy: bool,
    losses: Tensor,
    rate: Tensor,
    steepness: StepSize | None,
) -> tuple[LangevinState, Info]:
    recorder = state.recorder
    if noisy:
        recorder = recorder.record(batch.step, params)
    metrics = {"lr": float(rate.mean())}
    return LangevinState(params, second, recorder, rate, steepness, state.data), Info(float(losses.mean()), metrics)


def _check(lr: float | None, cycles: int, explore: float) -> None:
    if (lr is not None and not 0 < lr < math.inf) or cycles < 0 or not 0 <= explore < 1:
        raise InputError(
            "lr above 0, cycles of 0 or more, explore in [0, 1)",
            f"lr={lr}, cycles={cycles}, explore={explore}",
            "leave them out for the defaults",
        )
