"""`EmpiricalBayes`: rounds of training the weights and solving for the prior, until nothing is gained.

A round trains the weights by MAP, with a learning rate that rises and falls once, and ends where it is cold: there
precisions and noise go to the maximum of the evidence (`novacula.study.learning.solve`), and that evidence is the
round's score. The next round starts at these weights, under what was found, and takes twice as long. The run ends when
a round gains less than its error, or the steps or the seconds are used up; the best round is kept.

What cannot be solved for, the invariance's extents and hyperparameters of a network's own, moves within each round by
gradient on the evidence, a fixed number of times a round. They move only while the network predicts better than a
constant (`novacula.study.learning.skill`): to the evidence of one that does not, inputs transformed beyond recognition
are as good as any, and the two would ruin each other. Extents begin where it does so by much, or with the second round:
without folds, shifted digits were lost (an accuracy of .27) where they began at a gain of .1 nat, and not at .5 (.93).
They move early in a round and then settle, so that the weights grow used to them. Signs of extents carry no meaning;
admissible ranges are kept by projection.

References:
    Bayesian interpolation. D. J. C. MacKay, 1992.
    Scalable marginal likelihood estimation for model selection in deep learning. A. Immer, M. Bauer, V. Fortuin,
    G. Rätsch, M. E. Khan, 2021. arXiv:2104.04975.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from novacula.core.errors import InputError, NonFiniteError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive, split
from novacula.data.data import Data
from novacula.evidence.ntk_subset import NTKSubset
from novacula.inference.method import Batching, Info, Start
from novacula.inference.optimising.adam import AdamState, adam_init, adam_step
from novacula.inference.optimising.map import MAP, MAPState
from novacula.invariances.measured import unit_of
from novacula.posteriors.base import Point
from novacula.study.learning.rounds import Best, Rounds, better, described
from novacula.study.learning.skill import Skill
from novacula.study.learning.solve import Solver, unsolved
from novacula.target import Target
from novacula.target.batch import Batch
from novacula.target.constant import best_constant

ETA = "invariance.eta"


@dataclass(frozen=True, eq=False)
class EmpiricalBayesState:
    """Weights, hyperparameters, the state of both optimisers, the rounds, and what is known of the fit."""

    weights: MAPState  # the weights and their optimiser's state
    hyper: dict[str, Tensor]  # the hyperparameters by name
    adam: AdamState  # the optimiser's state of those that move by gradient
    rounds: Rounds  # where in which round the run is
    best: Best  # the best round so far
    skill: Skill  # what the network gains over a constant
    hyper_seconds: float  # time spent on hyperparameters
    data: Data = field(metadata={"checkpoint": False})  # the training data
    free: tuple[str, ...] = field(metadata={"checkpoint": False})  # what moves by gradient, as it cannot be solved for

    @property
    def ready(self) -> bool:
        """Whether the network has learned enough for extents to begin to move, or to go on."""
        early = not self.rounds.opened and self.rounds.index == 0 and self.rounds.length < self.rounds.steps
        return self.skill.much if early else self.skill.better


@dataclass(frozen=True)
class EmpiricalBayes:
    """Learn the target's prior, noise, invariance and the network's own hyperparameters while its weights train.

    Args:
        optimiser: Trains the weights.
        solver: Solves for precisions and noise.
        estimator: An evidence estimator whose value carries gradients, for what cannot be solved for.
        first: Steps of the first round; each further one takes twice as long.
        seconds: When to end at the latest; None for never.
        moves: Hyper-steps a round, for what cannot be solved for.
        lr: Learning rate of Adam for hyperparameters that cannot be solved for.
        lr_eta: The same for the invariance's extents, in their units (`novacula.invariances.measured`).
        burn_in: The fraction of a round before its first hyper-step.
        hold: The fraction of a round after which the learning rate of the extents falls, on a cosine, …
        settle: … to zero at this fraction.
        learn: Which of ``"prior"``, ``"likelihood"``, ``"invariance"``, ``"network"`` to learn.
        feedback: Whether weights are trained under the precisions that were solved for. If not, they and the extents
            keep to the first prior, and `learn` solves for the precisions once, at the last weights.
        single: Whether a run is one round alone, to its last step.
    """

    optimiser: MAP = field(default_factory=MAP)
    solver: Solver = field(default_factory=Solver)
    estimator: Callable[..., Estimate] = field(default_factory=NTKSubset)
    first: int = 1_000
    seconds: float | None = None
    moves: int = 40
    lr: float = 0.05
    lr_eta: float = 0.06
    burn_in: float = 0.08
    hold: float = 0.3
    settle: float = 0.7
    learn: tuple[str, ...] = ("prior", "likelihood", "invariance", "network")
    feedback: bool = True
    single: bool = False

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
        parts = self.moving(target)
        hyper = {k: v.detach().clone() for k, v in target.learnable().items() if k.split(".")[0] in parts}
        weights = self.optimiser.init(target, data, rng, start)
        return EmpiricalBayesState(
            weights=weights,
            hyper=hyper,
            adam=adam_init(hyper),
            rounds=Rounds.planned(self.first, start.steps, single=self.single),
            best=Best.none(weights_in(weights), hyper, data.n),
            skill=Skill(best_constant(target, data)),
            hyper_seconds=0.0,
            data=data,
            # Found by differentiating the prior, which would cost as much as a step of a small network each time.
            free=unsolved(self.solver.learning(parts), target, tuple(hyper)),
        )

    def step(
        self, target: Target, state: EmpiricalBayesState, batch: Batch, rng: torch.Generator
    ) -> tuple[EmpiricalBayesState, Info]:
        """One weight step; where they are due, one hyper-step, or the end of a round."""
        began = time.perf_counter()
        rounds = state.rounds
        trained = batch.trained or rounds.index > 0
        inner = replace(batch, step=batch.step - rounds.began, steps=rounds.length, trained=trained)
        current = target.with_learnable(state.hyper)
        weights, info = self.optimiser.step(current, state.weights, inner, rng)
        state = replace(state, weights=weights, skill=state.skill.update(current.likelihood, batch.y, info.loss))
        if state.free and self._due(inner):
            state = self._hyper_step(target, state, inner, rng)
        done = False
        if inner.step + 1 == inner.steps:
            state, done = self._end(target, state, batch)
        spent = time.perf_counter() - began
        rounds = state.rounds.spent(spent).hurried(self.seconds, batch.step + 1)
        state = replace(state, rounds=rounds)
        metrics = described(target, state.hyper, ETA)
        if math.isfinite(state.best.latest):  # there is none before the first round has ended
            metrics = {"evidence": state.best.latest / state.data.n, **metrics}
        return state, Info(info.loss, metrics, done)

    def without(self, part: str) -> EmpiricalBayes:
        """The same, but for a part of the target that is not learned."""
        return replace(self, learn=tuple(k for k in self.learn if k != part))

    def moving(self, target: Target) -> tuple[str, ...]:
        """The parts of a target that change while the weights train.

        Args:
            target: The target.

        Returns:
            Those to learn, less a prior that is solved for at the end alone.
        """
        last = not self.feedback and "prior" in self.solver.learning(self.learn).wanted(target)
        return tuple(k for k in self.learn if not (last and k == "prior"))

    def _due(self, inner: Batch) -> bool:
        every = max(1, inner.steps // self.moves)
        return (inner.step + 1) % every == 0 and inner.progress >= self.burn_in

    def _end(self, target: Target, state: EmpiricalBayesState, batch: Batch) -> tuple[EmpiricalBayesState, bool]:
        # The end of a round: solve, score, and decide whether to go on.
        began = time.perf_counter()
        current, params = target.with_learnable(state.hyper), weights_in(state.weights)
        solver = self.solver.learning(self.moving(target))
        solved = solver(current, state.data, params, seed=derive(0, "solve"))
        hyper = {k: v.detach() for k, v in solved.target.learnable().items() if k in state.hyper}
        best, gained = better(state.best, solved, state.hyper, hyper, state.data.n, state.rounds.index)
        moved = {k: solved.params[k].unsqueeze(0) for k in state.weights.params}
        # The moments of the last, cold steps would throw the next round's first ones off.
        weights = replace(state.weights, params=moved, adam=adam_init(moved))
        rounds = state.rounds.next(batch.step + 1, gained)
        spent = state.hyper_seconds + time.perf_counter() - began
        state = replace(state, weights=weights, hyper=hyper, best=best, rounds=rounds, hyper_seconds=spent)
        return state, rounds.ended

    def _hyper_step(
        self,
        target: Target,
        state: EmpiricalBayesState,
        inner: Batch,
        rng: torch.Generator,
    ) -> EmpiricalBayesState:
        # Ascend the evidence by one step of Adam, in what cannot be solved for.
        began = time.perf_counter()
        pace = hyper_factor(inner.progress, self.hold, self.settle) if state.ready else 0.0
        # What changes the function moves while there is one; extents that stay need no gradient.
        still = {k for k in state.free if (k == ETA and pace == 0) or (_of_function(k) and not state.skill.better)}
        leaves = {k: v.detach().requires_grad_(k in state.free and k not in still) for k, v in state.hyper.items()}
        wanted = {k: v for k, v in leaves.items() if v.requires_grad}
        if not wanted:
            return state
        params = weights_in(state.weights)
        estimate = self.estimator(target.with_learnable(leaves), state.data, params, seed=split(rng))
        grads = torch.autograd.grad(estimate.value, list(wanted.values()), allow_unused=True, materialize_grads=True)
        for name, g in zip(wanted, grads, strict=True):
            if not torch.isfinite(g).all():
                raise NonFiniteError(
                    f"a finite gradient of the evidence in {name}",
                    f"NaN or infinity at step {inner.step + 1} of a round",
                    "lower the hyper learning rate, or start from less extreme hyperparameters",
                )
        found = dict(zip(wanted, grads, strict=True))
        scaled = {k: -found[k] / inner.total if k in found else torch.zeros_like(v) for k, v in state.hyper.items()}
        # Adam's step is proportional to its rate, and not to the gradient: one call with unit rate serves both groups,
        # in all units.
        moved, adam = adam_step(state.hyper, scaled, state.adam, 1.0)
        late = hyper_factor(inner.progress, self.settle, 1.0)
        rates = {k: self.lr * late * (k in wanted) for k in state.hyper} | {ETA: self.lr_eta * pace}
        hyper = {k: v + rates[k] * (moved[k] - v) for k, v in state.hyper.items()}
        if ETA in hyper and target.invariance is not None:
            way = unit_of(target.invariance).to(hyper[ETA]) * (hyper[ETA] - state.hyper[ETA])
            hyper[ETA] = target.invariance.project(state.hyper[ETA] + way)
        opened = state.rounds.opened or pace > 0
        return replace(
            state,
            hyper=hyper,
            adam=adam,
            rounds=replace(state.rounds, opened=opened),
            hyper_seconds=state.hyper_seconds + time.perf_counter() - began,
        )

    def posterior(self, target: Target, state: EmpiricalBayesState) -> Point:
        """The weights of the best round.

        Args:
            target: The target; the point keeps it with what was learned.
            state: The last state.

        Returns:
            A posterior of one point.
        """
        return Point(state.best.params, learned(target, state))


def _of_function(name: str) -> bool:
    # Whether a hyperparameter is the network's own or an extent, and not a scale.
    return name == ETA or name.startswith("network.")


def weights_in(state: MAPState) -> Params:
    """What the one member holds: its weights, and its statistics."""
    return {k: w[0] for k, w in state.points.items()}


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


def learned(target: Target, state: Any) -> Target:
    """The target with the hyperparameters of the best round."""
    return target.with_learnable(state.best.hyper)


def fixed(target: Target) -> Target:
    """The target with hyperparameters that need no gradient."""
    return target.with_learnable({k: v.detach() for k, v in target.learnable().items()})


def solved_at(
    method: EmpiricalBayes, under: Target, params: Params, data: Data, best: Best
) -> tuple[Target, Target, Best]:
    """Solve for prior and noise once, at weights that were trained under another prior.

    Returns:
        The target that they were trained under, the one with what was solved for, and the round with that.
    """
    solved = method.solver.learning(method.learn)(under, data, params, seed=derive(0, "solve"))
    fitted = fixed(solved.target)
    hyper = {k: v for k, v in fitted.learnable().items() if k.split(".")[0] in method.learn}
    return under, fitted, replace(best, trained=hyper, hyper=hyper, score=solved.score, warnings=solved.warnings)
