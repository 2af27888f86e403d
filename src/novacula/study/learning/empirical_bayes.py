"""`EmpiricalBayes`: weights by MAP, and the prior by gradient on the evidence, in the same run.

Every ``every`` weight steps, the evidence is estimated at the current weights, and its gradient moves the
hyperparameters: prior precisions, noise, invariance extents, and what the network's class names in ``learnable``. The
weights then go on under what was found. Extents are learned early, while the network still has to find out what to
generalise over, and then settle: later the weights have grown used to the extents they were trained with, and the
evidence is nearly flat in them. They move only while the network predicts better than a constant
(`novacula.study.learning.skill`): to the evidence of one that does not, inputs transformed beyond recognition are as
good as any, and the two would ruin each other. Signs of extents carry no meaning; admissible ranges are kept by
projection.

References:
    Scalable marginal likelihood estimation for model selection in deep learning. A. Immer, M. Bauer, V. Fortuin,
    G. Rätsch, M. E. Khan, 2021. arXiv:2104.04975.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import split
from novacula.data.data import Data
from novacula.evidence.ntk_subset import NTKSubset
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step
from novacula.inference.optimising.map import MAP, MAPState
from novacula.posteriors.base import Point
from novacula.study.learning.skill import Skill, best_constant
from novacula.target import Target
from novacula.target.batch import Batch

ETA = "invariance.eta"


@dataclass(frozen=True, eq=False)
class EmpiricalBayesState:
    """Weights, hyperparameters, the state of both optimisers, and what is known of the fit."""

    weights: MAPState  # the weights and their optimiser's state
    hyper: dict[str, Tensor]  # the hyperparameters by name
    adam: AdamState  # their optimiser's state
    evidence: float  # A running mean of the estimates, nats an example
    skill: Skill  # what the network gains over a constant
    opened: float  # where in the run the extents began to move, a fraction; NaN before
    hyper_seconds: float  # time spent in hyper-steps
    data: Data = field(metadata={"checkpoint": False})  # the training data


@dataclass(frozen=True)
class EmpiricalBayes:
    """Learn the target's prior, noise, invariance and the network's own hyperparameters while its weights train.

    Args:
        optimiser: Trains the weights.
        estimator: Any evidence estimator whose value carries gradients.
        every: Weight steps between two hyper-steps.
        lr: Learning rate of Adam for the hyperparameters, at the start.
        lr_eta: The same for the invariance's extents.
        burn_in: The fraction of the run before the first hyper-step: an untrained network's evidence says nothing.
        burn_in_prior: The same for the prior. Weights that are still small from their initialisation make a strong
            prior look right, which then keeps them small: half of the run where epochs have few steps.
        hold: The fraction of the run after which the learning rate of the extents falls, on a cosine, …
        settle: … to zero at this fraction; from then on the extents stay, and only the other hyperparameters move. Both
            are later where the extents begin to move later than at ``burn_in``.
        learn: Which of ``"prior"``, ``"likelihood"``, ``"invariance"``, ``"network"`` to learn.
    """

    optimiser: MAP = field(default_factory=MAP)
    estimator: Callable[..., Estimate] = field(default_factory=NTKSubset)
    every: int = 12
    lr: float = 0.05
    lr_eta: float = 0.05
    burn_in: float = 0.08
    burn_in_prior: float = 0.08
    hold: float = 0.15
    settle: float = 0.5
    learn: tuple[str, ...] = ("prior", "likelihood", "invariance", "network")

    batching: Batching = field(default="mini", init=False, repr=False)

    def init(self, target: Target, data: Data, rng: torch.Generator, start: Start) -> EmpiricalBayesState:
        """Start at the network's weights and the target's hyperparameters.

        Args:
            target: The target.
            data: The training data.
            rng: Passed on.
            start: The first weights, of one member: each network has hyperparameters of its own.

        Returns:
            The first state.

        Raises:
            InputError: If there are several members.
        """
        if start.members != 1:
            raise InputError("one chain", str(start.members), "call learn once for each seed")
        hyper = {k: v.detach().clone() for k, v in target.learnable().items() if k.split(".")[0] in self.learn}
        return EmpiricalBayesState(
            weights=self.optimiser.init(target, data, rng, start),
            hyper=hyper,
            adam=adam_init(hyper),
            evidence=math.nan,
            skill=Skill(best_constant(target, data)),
            opened=math.nan,
            hyper_seconds=0.0,
            data=data,
        )

    def step(
        self, target: Target, state: EmpiricalBayesState, batch: Batch, rng: torch.Generator
    ) -> tuple[EmpiricalBayesState, Info]:
        """One weight step and, when it is due, one hyper-step.

        Args:
            target: The target with its first hyperparameters.
            state: The state before.
            batch: A minibatch.
            rng: Randomness of this step.

        Returns:
            The state after; loss, evidence per example and hyperparameters.
        """
        current = target.with_learnable(state.hyper)
        weights, info = self.optimiser.step(current, state.weights, batch, rng)
        skill = state.skill.update(current.likelihood, batch.y, info.loss)
        hyper, adam, evidence, opened, seconds = state.hyper, state.adam, state.evidence, state.opened, 0.0
        if hyper and (batch.step + 1) % self.every == 0 and batch.progress >= self.burn_in:
            began = time.perf_counter()
            if math.isnan(opened) and skill.better and ETA in hyper:
                opened = batch.progress
            pace = self._pace(batch.progress, opened) if skill.better else 0.0
            hyper, adam, value = self._hyper_step(target, weights_in(weights), state, batch, rng, pace)
            # One estimate is noisy; the history follows a running mean of it.
            evidence = value if math.isnan(evidence) else 0.8 * evidence + 0.2 * value
            seconds = time.perf_counter() - began
        state = EmpiricalBayesState(
            weights, hyper, adam, evidence, skill, opened, state.hyper_seconds + seconds, state.data
        )
        return state, Info(info.loss, {"evidence": evidence, **describe_hyper(target, hyper)})

    def _hyper_step(
        self,
        target: Target,
        params: Params,
        state: EmpiricalBayesState,
        batch: Batch,
        rng: torch.Generator,
        pace: float,
    ) -> tuple[dict[str, Tensor], AdamState, float]:
        # Ascend the evidence by one step of Adam; hyperparameters, optimiser state and evidence per example.
        # Extents that stay need no gradient: the hyper-step is then that of the prior alone, and cheap.
        leaves = {k: v.detach().requires_grad_(k != ETA or pace > 0) for k, v in state.hyper.items()}
        estimate = self.estimator(target.with_learnable(leaves), state.data, params, seed=split(rng))
        wanted = {k: v for k, v in leaves.items() if v.requires_grad}
        if not wanted:
            return state.hyper, state.adam, estimate.per_example
        grads = torch.autograd.grad(estimate.value, list(wanted.values()), allow_unused=True)
        found = dict(zip(wanted, grads, strict=True))
        scaled = {
            k: torch.zeros_like(v) if (g := found.get(k)) is None else -g / batch.total for k, v in leaves.items()
        }
        for name, g in scaled.items():
            if not torch.isfinite(g).all():
                raise NonFiniteError(
                    f"a finite gradient of the evidence in {name}",
                    f"NaN or infinity at step {batch.step + 1}",
                    "lower the hyper learning rate, or start from less extreme hyperparameters",
                )
        # Adam's step is proportional to its rate, so one call with unit rate serves both groups.
        moved, adam = adam_step(state.hyper, scaled, state.adam, 1.0)
        late = hyper_factor(batch.progress, self.settle, 1.0)
        ripe = batch.progress >= self.burn_in_prior
        rates = {k: self.lr * late * (ripe or not k.startswith("prior.")) for k in state.hyper}
        rates |= {ETA: self.lr_eta * pace}
        hyper = {k: v + rates[k] * (moved[k] - v) for k, v in state.hyper.items()}
        if ETA in hyper and target.invariance is not None:
            hyper[ETA] = target.invariance.project(hyper[ETA])
        return hyper, adam, estimate.per_example

    def _pace(self, progress: float, opened: float) -> float:
        # The factor of the extents' learning rate. The schedule is meant for extents that begin to move after the
        # burn-in; if the network takes longer to learn anything, it is fitted into what is left of the run.
        if math.isnan(opened):
            return 0.0
        left = (progress - opened) / (1 - opened)
        return hyper_factor(self.burn_in + left * (1 - self.burn_in), self.hold, self.settle)

    def posterior(self, target: Target, state: EmpiricalBayesState) -> Point:
        """The weights found.

        Args:
            target: The target; the point keeps it with what was learned.
            state: The last state.

        Returns:
            A posterior of one point.
        """
        return Point(weights_in(state.weights), learned(target, state))


def weights_in(state: MAPState) -> Params:
    """The weights of the one member."""
    return {k: w[0] for k, w in state.params.items()}


def hyper_factor(progress: float, hold: float, end: float) -> float:
    """1 until ``hold``, then a cosine to 0 at ``end``.

    Returns:
        A factor for a hyper learning rate.

    Example:
        >>> [round(hyper_factor(p, 0.1, 0.6), 3) for p in (0.0, 0.1, 0.35, 0.6, 1.0)]
        [1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if progress <= hold:
        return 1.0
    return 0.0 if progress >= end else (1 + math.cos(math.pi * (progress - hold) / (end - hold))) / 2


def describe_hyper(target: Target, hyper: dict[str, Tensor]) -> dict[str, float]:
    """Hyperparameters as flat numbers for the history."""
    found: dict[str, float] = {}
    for key, value in hyper.items():
        values = value.detach().flatten().tolist()
        if key == ETA and target.invariance is not None:
            values = target.invariance.magnitude(value.detach()).tolist()
            found |= {f"extent/{n}": v for n, v in zip(target.invariance.names, values, strict=True)}
        elif key == "prior.log_precision" and len(values) > 1:
            found |= {f"log_precision/{n}": v for n, v in zip(target.forward.params(), values, strict=True)}
        else:
            name = key if key.startswith("network.") else key.split(".", 1)[1]
            found |= {name if len(values) == 1 else f"{name}/{i}": v for i, v in enumerate(values)}
    return found


def learned(target: Target, state: Any) -> Target:
    """The target with the hyperparameters that a run has found."""
    return target.with_learnable(state.hyper)
