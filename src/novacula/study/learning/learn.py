"""`learn`: a network's prior and invariances from its training data alone, and what may be claimed of it.

Rounds of training and of solving for the prior (`novacula.study.learning.empirical_bayes`) go on until the evidence
gains less than its error, or a budget runs out. Networks that are blind to one fold each then predict what they have
not seen (`novacula.study.cross_fit`): from that come the reported loss, the choice and the temperature of the
predictive, and whether the learned invariance is worth keeping. No validation data are used for anything.
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings as python_warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from novacula.core.errors import NovaculaWarning
from novacula.core.estimate import Estimate
from novacula.core.params import Params, count
from novacula.core.rng import derive
from novacula.curvature.structures.names import Structure
from novacula.data.data import Data
from novacula.evidence import Laplace, NTKSubset
from novacula.inference import MAP
from novacula.inference.loop import Progress, default_batch_size, run
from novacula.prediction import Choice, choose
from novacula.runs.result import LearnResult
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.train import cross_fit
from novacula.study.learning.each import starts_of
from novacula.study.learning.empirical_bayes import (
    ETA,
    EmpiricalBayes,
    EmpiricalBayesState,
    fixed,
    learned,
    solved_at,
)
from novacula.study.learning.hyper import hyperparameters
from novacula.study.learning.tempered import contested, disposed
from novacula.study.learning.units import between_units
from novacula.study.learning.verdicts import judged
from novacula.target import Target

# Beyond these sizes the default score is Kronecker-factored, and its curvature that of a random subset.
_EXACT_SIZE = 1_500
_SUBSET = 500
ROUNDS = {True: 15, False: 7}
"""A run ends by default after so many times the steps of its first round, converged or not: four rounds of tables,
three of other data …"""
_PROPOSED = 7  # … and three where the folds have four of their own to set against them
_SMALL, _FAST = 50_000, 0.01
"""Weights below which a network learns at that rate, whatever its data."""
_FIRST = {True: (1_000, 2), False: (400, 6)}
"""Steps and passes of the first round at least, for tables and for other data."""


def learn(
    target: Target,
    data: Data,
    *,
    epochs: int | None = None,
    seconds: float | None = None,
    folds: int = 3,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    method: EmpiricalBayes | None = None,
    evidence: Callable[..., Estimate] | None = None,
    structures: Sequence[Structure] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> LearnResult:
    """Learn weights, prior, noise and invariance of a target from training data alone.

    The result says whether it has converged: whether the last round of training and solving gained less than its error,
    and which hyperparameters were still moving. Nothing depends on the units of inputs and targets.

    Args:
        target: The model to begin with.
        data: The training data.
        epochs: Passes over the data at most; by default rounds go on until nothing is gained, four of them at most for
            tables and three for other data, each twice as long as the one before.
        seconds: Seconds after which the training ends at the latest; the folds come on top.
        folds: Networks that are blind to a fold each, from whose predictions the loss on new data, the predictive and
            the verdicts come; together they cost no more than ``folds − 1`` trainings. 0 for none, and no such claims.
        batch_size: Examples a step; by default 50, less for fewer than 1,600 examples, and up to 512 for large tables.
        lr: Peak learning rate of the weights; by default 0.01 for tables and below 50,000 weights, else 4e-3.
        seed: Seed of everything random.
        method: Settings of rounds and hyper-steps; by default `default_method`.
        evidence: The estimator of the final score; by default `Laplace`: exact for small problems, else
            Kronecker-factored.
        structures: Curvature structures that the choice of the predictive considers, without folds.
        checkpoint: A file to keep the run resumable.
        resume: Whether to continue from it.
        progress: Called after every epoch.

    Returns:
        What was learned.

    Raises:
        InputError: If network, data and likelihood do not fit together.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(200))
        >>> net = nv.networks.make("mlp", data.x.shape[1:], 10, seed=0)
        >>> fit = nv.learn(nv.Target(net, invariance=nv.Affine(only=("rotation",))), data, epochs=1, folds=0)
        >>> fit.evidence.kind
        'estimate'
    """
    began = time.perf_counter()
    target, data = target.prepare(data)
    batch_size = batch_size or default_batch_size(data.n, table=data.x.ndim == 2)
    method = _timed(method or _default(target, data, batch_size), lr, seconds)
    target = between_units(target, data, noise="likelihood" in method.learn)
    plan = _Plan(method, epochs, folds, batch_size, seed, checkpoint, resume, progress, evidence)

    trained = plan.train(target, data)
    unseen, verdicts, said = None, {}, []
    if folds and trained.target.averaged is not None:
        trained, unseen, verdicts, said = judged(plan, target, trained, plan.cross_fit(trained, data, folds), data)
    elif folds:
        trained, unseen, said = disposed(plan, target, trained, data, folds)
    folded = time.perf_counter()
    choice, found = _choose(trained, unseen, data, structures, derive(seed, "choose"))
    ended = time.perf_counter()
    hyper = hyperparameters(method, trained.state, trained.target, data, seed, under=trained.under)
    warnings = [*hyper.doubts, *said, *_no_skill(trained.state), *_doubts(trained.target), *choice.warnings, *found]
    trained_for, scored_for = trained.seconds["train"], trained.seconds["score"]
    return LearnResult(
        target=trained.target,
        evidence=trained.evidence,
        choice=choice,
        params=trained.params,
        history=trained.history,
        data=data,
        seed=seed,
        settings={**_length(trained, data, batch_size), "folds": folds, **_settings(method, trained)},
        seconds={
            "total": time.perf_counter() - began,
            "train": trained_for,
            "hyper": trained.state.hyper_seconds,
            "score": scored_for,
            "folds": folded - began - trained_for - scored_for,
            "choose": ended - folded,
        },
        warnings=tuple(dict.fromkeys([*warnings, *trained.evidence.warnings])),
        hyper=hyper.found,
        converged=hyper.converged,
        unseen=unseen,
        verdicts={k: {**v, "interval": hyper.found.get(k, {}).get("interval")} for k, v in verdicts.items()},
    )


@dataclass(frozen=True, eq=False)
class _Trained:
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
class _Plan:
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

    def train(self, target: Target, data: Data, *, still: bool = False) -> _Trained:
        """Run the rounds, perhaps with extents that stay, and score what they found."""
        began = time.perf_counter()
        method = self.method
        if still:
            method = dataclasses.replace(method, learn=tuple(k for k in method.learn if k != "invariance"))
        most = (
            min(self.most_steps(data), _PROPOSED * method.first)
            if self.folds and contested(target)
            else self.most_steps(data)
        )
        outcome = run(
            method,
            target,
            data,
            epochs=self.epochs,
            steps=None if self.epochs else most,
            batch_size=self.batch_size,
            seed=self.seed,
            checkpoint=None if still else self.checkpoint,
            resume=self.resume,
            progress=self.progress,
        )
        trained = time.perf_counter()
        state, params, under = outcome.state, outcome.state.best.params, None
        fitted = fixed(learned(target, state))
        if method.moving(target) != method.learn:
            under, fitted, best = solved_at(method, fitted, params, data, state.best)
            state = dataclasses.replace(state, best=best)
        estimator = self.evidence or default_evidence(fitted, data)
        score = estimator(fitted, data, params, seed=derive(self.seed, "score"))
        spent = {"train": trained - began, "score": time.perf_counter() - trained}
        kept = {k: v.detach() for k, v in target.learnable().items() if k.split(".")[0] in ("prior", "likelihood")}
        return _Trained(fitted, params, state, kept, outcome.history, outcome.steps, score, estimator, spent, under)

    def most_steps(self, data: Data) -> int:
        """Steps of a run at most."""
        if self.epochs is None:
            return ROUNDS[data.x.ndim == 2] * self.method.first
        return self.epochs * math.ceil(data.n / min(self.batch_size, data.n))

    def cross_fit(
        self,
        trained: _Trained,
        data: Data,
        folds: Any,
        target: Target | None = None,
        only: int | None = None,
        done: Sequence[Params] = (),
    ) -> CrossFit:
        """Networks blind to a fold each, on the way that the network itself went.

        They pass as often over their data as the longest round, or half of all; two fifths of that under the first
        prior and noise. A strong prior that suits trained weights would keep fresh ones small.

        Returns:
            The networks.
        """
        target = target or trained.target
        steps = max(2, max(trained.state.rounds.length, trained.steps // 2) * 2 // 3)
        first = target.with_learnable({k: v for k, v in trained.first.items() if k in target.learnable()})
        options = {
            "seed": derive(self.seed, "folds"),
            "method": self.method.optimiser,
            "batch_size": self.batch_size,
            "only": only,
            "trained": done,
        }
        if trained.under is not None:
            return cross_fit(target, data, folds=folds, steps=steps, under=first, **options)
        early = cross_fit(first, data, folds=folds, steps=max(1, 2 * steps // 5), **options)
        starts = [*early.params, *early.params[:1] * (_count(folds) - len(early.params))]
        return cross_fit(target, data, folds=folds, steps=max(1, 3 * steps // 5), starts=starts, **options)

    def go_on(self, trained: _Trained, data: Data, best: CrossFit, target: Target, only: int | None) -> CrossFit:
        """Networks of folds after a quarter more of their steps, under a target."""
        steps = max(2, max(trained.state.rounds.length, trained.steps // 2) * 2 // 3)
        first = {k: v for k, v in trained.first.items() if trained.under is not None and k in target.learnable()}
        return cross_fit(
            target,
            data,
            folds=best.folds,
            steps=max(1, steps // 4),
            starts=starts_of(best, _count(best.folds)),
            under=target.with_learnable(first),
            seed=derive(self.seed, "each"),
            method=self.method.optimiser,
            batch_size=self.batch_size,
            only=only,
        )


def _count(folds: Any) -> int:
    # K, from the number of folds or the fold of each example.
    return folds if isinstance(folds, int) else int(folds.max()) + 1


def default_method(n: int, batch_size: int | None = None, *, table: bool = False) -> EmpiricalBayes:
    """The settings of a run by default.

    Args:
        n: The number of examples.
        batch_size: Examples a step; by default `default_batch_size`.
        table: Whether inputs are rows of a table.

    Returns:
        The method.
    """
    steps = -(-n // (batch_size or default_batch_size(n, table=table)))
    least, passes = _FIRST[table]
    return EmpiricalBayes(
        optimiser=MAP(lr=0.01 if table else 4e-3),
        estimator=NTKSubset(subset=32, copies=8),
        first=max(least, passes * steps),
        feedback=table,
    )


def _default(target: Target, data: Data, batch_size: int) -> EmpiricalBayes:
    # The default settings, at the faster rate for few weights.
    method = default_method(data.n, batch_size, table=data.x.ndim == 2)
    if count(target.params()) >= _SMALL:
        return method
    return dataclasses.replace(method, optimiser=dataclasses.replace(method.optimiser, lr=_FAST))


def _timed(method: EmpiricalBayes, lr: float | None, seconds: float | None) -> EmpiricalBayes:
    # With a rate and a budget of the user's.
    optimiser = method.optimiser if lr is None else dataclasses.replace(method.optimiser, lr=lr)
    return dataclasses.replace(method, optimiser=optimiser, seconds=seconds or method.seconds)


def default_evidence(target: Target, data: Data) -> Laplace:
    """The estimator that scores a run by default."""
    outputs = target.forward(target.params(), data.x[:1]).shape[1]
    size = min(count(target.params()), data.n * outputs)
    many = target.averaged is not None or outputs > 1
    return Laplace(
        structure="exact" if size <= _EXACT_SIZE else "kron",
        repeats=2,
        subset=_SUBSET if data.n > _SUBSET * 2 and many else 20 * _SUBSET if data.n > 40 * _SUBSET else None,
    )


def _choose(
    trained: _Trained, unseen: CrossFit | None, data: Data, structures: Sequence[Structure] | None, seed: int
) -> tuple[Choice, list[str]]:
    # The predictive, and the warnings that were raised on the way.
    # Averages over all weights of a network for images rarely win by the folds, and cost as much as the training.
    cheap: Sequence[Structure] = ("last_layer", "kron") if data.x.ndim == 2 else ("last_layer",)
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always", NovaculaWarning)
        if unseen is not None and unseen.target.likelihood.normalised:
            choice = unseen.choose(trained.params, structures=structures or cheap, seed=seed, members=trained.members)
        else:
            choice = choose(trained.target, trained.params, data, structures=structures, seed=seed)
    return choice, [str(w.message) for w in caught if issubclass(w.category, NovaculaWarning)]


def _length(trained: _Trained, data: Data, batch_size: int) -> dict[str, Any]:
    # How long the training was.
    epochs = math.ceil(trained.steps / math.ceil(data.n / min(batch_size, data.n)))
    return {"epochs": epochs, "steps": trained.steps, "batch_size": batch_size}


def _settings(method: EmpiricalBayes, trained: _Trained) -> dict[str, Any]:
    # What a run records of how it learned.
    copies, estimator = dataclasses.asdict(trained.target.copies), repr(trained.estimator)
    found = {"lr": method.optimiser.lr, "method": repr(method), "copies": copies, "estimator": estimator}
    return found if trained.temperature == 1 else {**found, "likelihood_temperature": trained.temperature}


def _no_skill(state: EmpiricalBayesState) -> list[str]:
    # What must be said of a network that has not learned anything, or learned it too late.
    if not state.skill.better:
        return [
            "the network predicts hardly better than a constant (its gain in training is "
            f"{state.skill.gain:.3f} nats an example): what was learned about its prior means nothing; try another "
            "learning rate, more epochs, smaller extents to begin with, or another network"
        ]
    if ETA in state.hyper and not state.rounds.opened:
        return [
            "the extents stayed where they began: the network predicted hardly better than a constant for as long as "
            "they are learned; try more epochs or a larger learning rate"
        ]
    return []


def _doubts(target: Target) -> list[str]:
    # Reservations that follow from the model itself.
    kinks = {
        type(m).__name__
        for m in target.forward.module.modules()
        if type(m).__name__ in {"ReLU", "LeakyReLU", "ReLU6", "Hardtanh"}
    }
    if kinks:
        return [
            f"{', '.join(sorted(kinks))}: Jacobians jump at kinks, so that gradients of the evidence miss part of it "
            "(smooth activations such as GELU or tanh do not have this bias)"
        ]
    return []
