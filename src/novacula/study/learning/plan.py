"""How a target is trained on everything, and how networks that are blind to a fold go the same way."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from novacula.core.estimate import Estimate
from novacula.core.params import Params, count
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.data.folds import folds_of
from novacula.evidence import Laplace
from novacula.inference.loop import Progress, run
from novacula.study.cross_fit.curve import alone
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.train import cross_fit, of_one_fold
from novacula.study.learning.blind import BlindExtents, networks_of
from novacula.study.learning.empirical_bayes import ETA, EmpiricalBayes, EmpiricalBayesState, fixed, learned, solved_at
from novacula.target import Target

# Beyond these sizes the default score is Kronecker-factored, and its curvature that of a random subset.
_EXACT_SIZE = 1_500
_SUBSET = 500
ROUNDS = 7
"""A run ends by default after so many times the steps of its first round, three rounds, converged or not."""
_FEWEST = 8  # examples of a batch
_TIMED = 20  # steps by which the time of a step is known


@dataclass(frozen=True, eq=False)
class Trained:
    """What the rounds left."""

    target: Target
    params: Params
    state: EmpiricalBayesState
    first: dict[str, Tensor]  # prior and noise of the beginning
    history: list[dict[str, float]]
    steps: int
    evidence: Estimate
    estimator: Callable[..., Estimate]
    seconds: dict[str, float]
    under: Target | None = None  # what the weights were trained under, if not what was solved for
    temperature: float = 1.0  # of the likelihood while the weights were trained
    members: Params | None = None  # networks that were trained side by side, the first one's weights first


@dataclass(frozen=True, eq=False)
class Judged:
    """The training to keep, its folds, and what they say."""

    trained: Trained
    unseen: CrossFit | None = None  # None without folds
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)  # of each transformation
    hyper: dict[str, dict[str, Any]] = field(default_factory=dict)  # what folds tell of hyperparameters, by name
    said: Sequence[str] = ()  # what must be said


@dataclass(frozen=True, eq=False)
class Proposal:
    """What networks that are blind to a fold each propose."""

    unseen: CrossFit  # the networks, under the extents that they prefer
    history: list[dict[str, float]]
    steps: int  # of each network
    moves: int  # steps of the extents
    short: bool  # whether there was no time for more
    apart: Tensor | None  # the standard deviation of what each of them found, shape (E,); None of given extents


@dataclass(frozen=True, eq=False)
class Plan:
    """How a target is trained and cross-fitted, so that another one can be treated alike."""

    method: EmpiricalBayes
    epochs: int | None
    folds: int
    batch_size: int
    seed: int
    checkpoint: Path | None
    resume: bool
    progress: Progress | None
    evidence: Callable[..., Estimate] | None

    def train(self, target: Target, data: Data, *, still: bool = False) -> Trained:
        """Run the rounds, and score what they found; or a single one under the first prior, with extents that stay."""
        began = time.perf_counter()
        method = self.method
        if still:
            learn = tuple(k for k in method.learn if k != "invariance")
            method = dataclasses.replace(method, learn=learn, single=True, feedback=False)
        outcome = run(
            method,
            target,
            data,
            epochs=self.epochs,
            steps=None if self.epochs else self.most_steps(data),
            batch_size=self.batch_size,
            seed=self.seed,
            checkpoint=self.checkpoint,
            resume=self.resume,
            progress=self.progress,
        )
        trained = time.perf_counter()
        state, params, under = outcome.state, outcome.state.best.params, None
        fitted = fixed(learned(target, state))
        if method.moving(target) != method.learn:
            under, fitted, best = solved_at(method, fitted, params, data, state.best)
            state = dataclasses.replace(state, best=best)
        # The evidence of the prior whose mode the weights are: around others, Laplace's expansion means nothing.
        scored = under or fitted
        estimator = self.evidence or default_evidence(scored, data)
        score = estimator(scored, data, params, seed=derive(self.seed, "score"))
        spent = {"train": trained - began, "score": time.perf_counter() - trained}
        kept = {k: v.detach() for k, v in target.learnable().items() if k.split(".")[0] in ("prior", "likelihood")}
        return Trained(fitted, params, state, kept, outcome.history, outcome.steps, score, estimator, spent, under)

    def most_steps(self, data: Data) -> int:
        """Steps of a run at most."""
        if self.epochs is None:
            return ROUNDS * self.method.first
        return self.epochs * math.ceil(data.n / min(self.batch_size, data.n))

    def cross_fit(
        self,
        trained: Trained,
        data: Data,
        only: int | None = None,
        done: Sequence[Params] = (),
        which: Tensor | None = None,
        share: float = 1.0,
    ) -> CrossFit:
        """Networks blind to a fold each, on the way that the network itself went; or of other folds, so long a share.

        They pass as often over their data as the longest round, or half of all; two fifths of that under the first
        prior and noise. A strong prior that suits trained weights would keep fresh ones small.

        Returns:
            The networks.
        """
        target = trained.target
        steps = max(2, round(max(trained.state.rounds.length, trained.steps // 2) * 2 // 3 * share))
        first = target.with_learnable({k: v for k, v in trained.first.items() if k in target.learnable()})
        options = {
            "folds": self.folds if which is None else which,
            "seed": derive(self.seed, "folds"),
            "method": self.method.optimiser,
            "batch_size": self.batch_size,
            "only": only,
            "trained": done,
        }
        if trained.under is not None:
            return cross_fit(target, data, steps=steps, under=first, **options)
        early = cross_fit(first, data, steps=max(1, 2 * steps // 5), **options)
        k = self.folds if which is None else int(which.max()) + 1
        return cross_fit(target, data, steps=max(1, 3 * steps // 5), starts=for_all(early.params, k), **options)

    @property
    def fewer(self) -> float:
        """How long a network of one fold trains, as a share of those blind to one."""
        return 1 / (self.folds - 1)

    def propose(self, target: Target, data: Data) -> Proposal:
        """Networks blind to a fold each, and the extents that they prefer."""
        seed = derive(self.seed, "folds")
        which = folds_of(data, self.folds, derive(seed, "folds"))
        method = BlindExtents(which, self.method.optimiser, self.few, seed)
        if "invariance" not in self.method.learn:
            method = dataclasses.replace(method, burn_in=1.0)
        most = self.blind_steps(data)
        steps = self._affordable(method, target, data, most)
        outcome = run(
            method,
            target,
            data,
            steps=steps,
            checkpoint=self._search,
            resume=self.resume,
            progress=self.progress,
        )
        fitted = target.with_learnable({ETA: method.trained(target, outcome.state.eta)})
        unseen = self.blind(fitted, data, which, networks_of(outcome.state))
        # The loop counts rounds of full batches; what is told are passes of each network over what it sees.
        passes = min(self.few, data.n) * self.folds / (data.n * (self.folds - 1))
        history = [{**record, "epoch": record["step"] * passes} for record in outcome.history]
        moves = outcome.state.adam.count
        apart = method.wider * outcome.state.apart(target) if moves else None
        return Proposal(unseen, history, steps, moves, short=steps < most, apart=apart)

    @property
    def few(self) -> int:
        """Examples of a step of a network that is blind to a fold: its share of a batch, as it has that of the data."""
        return max(min(_FEWEST, self.batch_size), self.batch_size * (self.folds - 1) // self.folds)

    @property
    def _search(self) -> Path | None:
        # Of a run with so many seconds the steps hang on the clock: another process would not take as many.
        if self.checkpoint is None or self.method.seconds is not None:
            return None
        return self.checkpoint.with_name(f"{self.checkpoint.stem}-search{self.checkpoint.suffix}")

    def _affordable(self, method: BlindExtents, target: Target, data: Data, steps: int) -> int:
        # Steps within the seconds that a run may take, told by the time of a few.
        seconds = self.method.seconds
        if seconds is None or steps <= _TIMED:
            return steps
        began = time.perf_counter()
        run(method, target, data, steps=_TIMED)
        return max(2, min(steps, int(seconds * _TIMED / (time.perf_counter() - began))))

    def blind_steps(self, data: Data) -> int:
        """Steps of each network that is blind to a fold: its share of those of all, as of the data and of a batch."""
        return max(2, self.most_steps(data) * (self.folds - 1) // self.folds)

    def blind(
        self,
        target: Target,
        data: Data,
        which: Tensor,
        done: Sequence[Params] = (),
        only: int | None = None,
        **options: Any,
    ) -> CrossFit:
        """Networks blind to a fold each, under the first prior, at extents that stay."""
        return cross_fit(
            target,
            data,
            folds=which,
            trained=done,
            only=only,
            batch_size=self.few,
            **{"seed": derive(self.seed, "folds"), "steps": 1, "method": self.method.optimiser, **options},
        )

    def one_fold(self, target: Target, data: Data, which: Tensor, steps: int) -> CrossFit | None:
        """The network that sees the first of three or more folds alone, where those blind to one took so many steps."""
        if self.folds < 3:
            return None
        return of_one_fold(lambda s: self.blind(target, data, alone(which), only=1, steps=s), steps, self.fewer)

    def go_on(
        self,
        target: Target,
        data: Data,
        best: CrossFit,
        steps: int,
        only: int | None = None,
        done: Sequence[Params] = (),
        networks: Sequence[Params] | None = None,
    ) -> CrossFit:
        """Networks of folds after so many more steps under a target, by default those that are best."""
        starts = for_all(best.networks if networks is None else networks, self.folds)
        seed = derive(self.seed, "each")
        return self.blind(target, data, best.folds, done, only, seed=seed, steps=steps, starts=starts)


def for_all(networks: Sequence[Params], folds: int) -> list[Params]:
    """First weights for the networks of all folds, where only those of the first are there and will go on."""
    return [*networks, *list(networks[:1]) * (folds - len(networks))]


def contested(target: Target) -> bool:
    """Whether another temperature than 1 is tried: of Gaussian noise, at inputs as they are.

    That of classes gave networks whose logits were too large far from the data, which no temperature mends.

    Returns:
        True if so. The evidence of a linear model is exact, and is not contested either.
    """
    return target.likelihood.tempering == "noise" and target.averaged is None


def default_evidence(target: Target, data: Data) -> Laplace:
    """The estimator that scores a run by default."""
    outputs = target.forward(target.params(), data.x[:1]).shape[1]
    size = min(count(target.params()), data.n * outputs)
    many = target.averaged is not None or outputs > 1
    return Laplace(
        structure="exact" if size <= _EXACT_SIZE else "kron",
        repeats=2,
        subset=_SUBSET if data.n > _SUBSET and many else 20 * _SUBSET if data.n > 40 * _SUBSET else None,
    )
