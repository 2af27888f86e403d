"""`joint_accuracy`: how the prior over functions divides between errors in training and errors on unseen examples.

Splitting (`novacula.inference.particles.splitting`) drives networks of the prior to fit the training data, level by
level. Those that a level leaves behind are draws of the prior between two levels, so that each weighs

    Ẑ_t / N,        Ẑ_t = Π_{s<t} (networks above level s) / N,

and those at the end Ẑ_T / N. The weights of a population add up to one. Sums of them over the networks with i errors in
training and j on the held-out examples, which play no part in the levels, estimate P(i, j), however small it is on the
way to a fit. What lies off that way, as more errors than guessing makes, is only as rare as the first draws show.

References:
    Nested sampling for general Bayesian computation. J. Skilling, 2006 (weights of what a level leaves behind).
    Is SGD a Bayesian sampler? Well, almost. C. Mingard, G. Valle-Pérez, J. Skalse, A. A. Louis, 2021. arXiv:2006.15191.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor, nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.params import unflatten
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.diagnostics.two_samples import Interval
from novacula.functions.result import mean_interval
from novacula.inference.loop import run
from novacula.inference.method import Batching, Info, Start
from novacula.inference.particles.smc import log_mean
from novacula.inference.particles.splitting.method import Splitting, SplittingState
from novacula.posteriors.draws import Draws
from novacula.priors import FanIn
from novacula.priors.base import Prior
from novacula.study.sampling.task import Task
from novacula.target import Target
from novacula.target.batch import Batch
from novacula.target.many import outputs
from novacula.target.margins import FITS, margins


@dataclass(frozen=True, eq=False)
class JointAccuracy:
    """Probabilities of errors in training and on held-out examples, for a network drawn from the prior.

    Attributes:
        populations: ``log P`` of i errors in training and j others, of each population, ``(M, n + 1, h + 1)``, in nats;
            minus infinity where nothing was drawn.
        reached: Whether all networks of all populations fit at the end.
        evaluations: Networks that were evaluated on the training data, in all.
    """

    populations: np.ndarray
    reached: bool
    evaluations: int

    @property
    def log_prob(self) -> np.ndarray:
        """The mean over populations, ``(n + 1, h + 1)``."""
        return _sum(self.populations, 0) - math.log(len(self.populations))

    def within(self, least: int, most: int) -> tuple[tuple[float, float], Interval]:
        """Networks with so many errors in training.

        Args:
            least: The fewest errors.
            most: The most.

        Returns:
            ``log P`` with its standard error in nats (as `Estimate` has it: 1.96 of them are a 95 % interval), and the
            mean share of errors on the held-out examples, the mean over populations with its 95 % interval; NaNs where
            none was drawn.

        Raises:
            InputError: If the numbers are no range of errors in training.
        """
        n, h = (size - 1 for size in self.populations.shape[1:])
        if not 0 <= least <= most <= n:
            raise InputError(f"0 ≤ least ≤ most ≤ {n}", f"{least} and {most}", "numbers of errors in training")
        band = _sum(self.populations[:, least : most + 1], 1)
        logs = _sum(band, 1)
        if not np.isfinite(logs).any():
            return (-math.inf, math.nan), Interval(math.nan, math.nan, math.nan)
        # Of each population alone, as one whose probability is much too large would say all.
        seen = np.isfinite(logs)
        means = np.exp(band[seen] - logs[seen, None]) @ np.arange(h + 1) / h
        return log_mean(torch.from_numpy(logs)), mean_interval(torch.from_numpy(means))


def joint_accuracy(
    network: nn.Module,
    data: DataLike,
    held_out: DataLike,
    *,
    prior: Prior | None = None,
    method: Splitting | None = None,
    populations: int = 4,
    steps: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> JointAccuracy:
    """The joint distribution of errors in training and on held-out examples under the prior.

    Args:
        network: Any `nn.Module`.
        data: Training data of classes; of a network with one output, labels 0 and 1.
        held_out: Other examples of the same kind.
        prior: The prior over weights; by default `FanIn`. `nv.priors.Signs` has weights of ±1.
        method: How networks are driven to fit; by default `nv.inference.Splitting()`.
        populations: Independent populations, at least four: their spread is the error.
        steps: The most levels.
        seed: Seed of everything random.
        progress: Called with levels passed, and the most there may be.

    Returns:
        The probabilities, of each population.

    Raises:
        InputError: If data are no classes, repeat inputs with other labels, or a number is too small.
    """
    check_whole("steps", steps)
    if populations < 4:
        raise InputError("four or more populations", f"{populations}", "their spread is the error")
    task = Task.of(network, data, held_out, prior or FanIn(), None)
    found = run(
        _Watched(method or Splitting(), task),
        task.target,
        task.data,
        start={k: w.expand(populations, *w.shape) for k, w in task.target.params().items()},
        steps=steps,
        seed=seed,
        progress=None if progress is None else lambda done, of, _: progress(done, of),
    )
    state: _Seen = found.state
    left = torch.ones_like(state.inner.score, dtype=torch.bool)
    reached = bool((state.inner.score == FITS).all())
    return JointAccuracy(_with(task, state, left).logs, reached, int(state.inner.evaluations))


@dataclass(frozen=True, eq=False)
class _Seen:
    inner: SplittingState
    logs: np.ndarray  # ``(M, n + 1, h + 1)``


@dataclass(frozen=True, eq=False)
class _Watched:
    # Splitting, and a look at the networks that each level leaves behind.
    method: Splitting
    task: Task = field(repr=False)
    batching: Batching = field(default="full", init=False, repr=False)

    def init(self, target: Target, data: Data, rng: torch.Generator, start: Start) -> _Seen:
        shape = (start.members, data.n + 1, len(self.task.y) + 1)
        return _Seen(self.method.init(target, data, rng, start), np.full(shape, -math.inf))

    def step(self, target: Target, state: _Seen, batch: Batch, rng: torch.Generator) -> tuple[_Seen, Info]:
        after, info = self.method.step(target, state.inner, batch, rng)
        # A population that has ended keeps its networks and its level: it leaves nothing behind.
        raised = after.level > state.inner.level
        left = (state.inner.score <= after.level[:, None]) & raised[:, None]
        return replace(_with(self.task, state, left), inner=after), info

    def posterior(self, target: Target, state: _Seen) -> Draws:
        return self.method.posterior(target, state.inner)


def _with(task: Task, state: _Seen, chosen: Tensor) -> _Seen:
    # The chosen networks ``(M, N)`` counted, at their weights.
    if not bool(chosen.any()):
        return state
    inner, n = state.inner, chosen.shape[1]
    params = unflatten(inner.positions[chosen.to(inner.positions.device)], inner.like)
    missed = ~(margins(outputs(task.target, params, task.data.x), task.data.y) > 0)
    rows = missed.reshape(len(missed), task.data.n, -1).any(2).sum(1).cpu().numpy()
    columns = (task.functions(params).labels != task.y).sum(1)
    counts = np.zeros(state.logs.shape)
    np.add.at(counts, (chosen.nonzero()[:, 0].numpy(), rows, columns), 1.0)
    with np.errstate(divide="ignore"):
        logs = np.log(counts) + (inner.log_evidence.numpy() - math.log(n))[:, None, None]
    return replace(state, logs=np.logaddexp(state.logs, logs))


def _sum(logs: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(logs, axis=axis))
