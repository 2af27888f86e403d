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
from pathlib import Path
from typing import Any

import torch

from novacula.core.checks.numbers import as_path, check_callable, check_numbers, check_whole, shown
from novacula.core.device import divided
from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.estimate import Estimate
from novacula.core.modules.precision import Precision
from novacula.core.params import count
from novacula.core.rng import derive
from novacula.curvature.structures.names import Structure
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.evidence import NTKSubset
from novacula.inference import MAP
from novacula.inference.loop import Progress, default_batch_size
from novacula.prediction import Choice, choose
from novacula.runs.result import LearnResult
from novacula.study.cross_fit.result import CrossFit
from novacula.study.learning.empirical_bayes import (
    ETA,
    EmpiricalBayes,
    EmpiricalBayesState,
)
from novacula.study.learning.hyper import hyperparameters
from novacula.study.learning.plan import Judged, Plan, Trained
from novacula.study.learning.tempered import disposed
from novacula.study.learning.units import between_units
from novacula.study.learning.verdicts import judged
from novacula.target import Target
from novacula.target.given import TargetLike, prepared

_SMALL, _FAST = 50_000, 0.01
"""Weights below which a network learns at that rate, whatever its data."""
_OUTPUTS = 128  # outputs up to which averages over weights are considered
_FIRST = {True: (1_000, 2), False: (400, 6)}
"""Steps and passes of the first round at least, for tables and for other data."""


def learn(
    target: TargetLike,
    data: DataLike,
    *,
    epochs: int | None = None,
    seconds: float | None = None,
    folds: int = 3,
    batch_size: int | None = None,
    lr: float | None = None,
    precision: Precision | None = None,
    seed: int = 0,
    method: EmpiricalBayes | None = None,
    evidence: Callable[..., Estimate] | None = None,
    structures: Sequence[Structure] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    device: str | torch.device | None = None,
) -> LearnResult:
    """Learn weights, prior, noise and invariance of a target from training data alone.

    The result says whether it has converged: whether the last round of training and solving gained less than its error,
    and which hyperparameters were still moving. Nothing depends on the units of inputs and targets.

    Args:
        target: The model to begin with; or a network, which is taken with the likelihood of the data's task.
        data: The training data; or a pair ``(x, y)``, a dataset or a loader.
        epochs: Passes over the data at most; by default rounds go on until nothing is gained, three of them at most,
            each twice as long as the one before.
        seconds: Seconds after which the training ends at the latest; the folds come on top.
        folds: Networks that are blind to a fold each, from whose predictions the loss on new data, the predictive and
            the verdicts come; together they cost no more than ``folds − 1`` trainings. 0 for none, and no such claims.
        batch_size: Examples a step; by default 50, less for fewer than 1,600 examples, and up to 512 for large tables.
        lr: Peak learning rate of the weights; by default 0.01 for tables and for fewer than 50,000 weights, else 4e-3.
        precision: ``"bfloat16"`` lets networks compute in it while they train; by default in the weights' own type. All
            that is solved for, scored or predicted is computed in the weights' own type.
        seed: Seed of everything random.
        method: Settings of rounds and hyper-steps; by default `default_method`.
        evidence: The estimator of the final score; by default `Laplace`: exact for small problems, else
            Kronecker-factored.
        structures: Curvature structures that the choice of the predictive considers, without folds.
        checkpoint: A file to keep the run resumable.
        resume: Whether to continue from it.
        progress: Called after every epoch.
        device: Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``; by default where the network is. On
            one without float64, such as ``"mps"``, networks train; all that follows is computed on the host.

    Returns:
        What was learned.

    Raises:
        InputError: If network, data and likelihood do not fit together, or the device is not there.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(200))
        >>> net = nv.networks.make("mlp", data.x.shape[1:], 10, seed=0)
        >>> fit = nv.learn(nv.Target(net, invariance=nv.Affine(only=("rotation",))), data, epochs=1, folds=0)
        >>> fit.evidence.kind
        'estimate'
    """
    began = time.perf_counter()
    check_numbers(epochs=epochs, seconds=seconds, batch_size=batch_size, lr=lr, seed=seed)
    check_whole("folds", folds, least=0)
    check_callable("progress", progress)
    check_callable("evidence", evidence)
    checkpoint = None if checkpoint is None else as_path(checkpoint, "checkpoint as a path")
    there, device = divided(device)
    target, data = prepared(target, data, device=device)
    batch_size = batch_size or default_batch_size(data.n, table=data.x.ndim == 2)
    method = _asked(method or _default(target, data, batch_size), lr, precision, there, seconds)
    target = between_units(target, data, noise="likelihood" in method.learn)
    plan = Plan(method, epochs, folds, batch_size, seed, checkpoint, resume, progress, evidence)
    found = _by_folds(plan, target, data, folds)
    trained, unseen = found.trained, found.unseen
    folded = time.perf_counter()
    choice, noted = _choose(trained, unseen, data, structures, derive(seed, "choose"))
    ended = time.perf_counter()
    hyper = hyperparameters(method, trained.state, trained.target, data, seed, under=trained.under, found=found.hyper)
    doubts = [*hyper.doubts, *found.said, *_no_skill(trained.state), *_doubts(trained.target)]
    return LearnResult(
        target=trained.target.at(trained.params)[0],
        evidence=trained.evidence,
        choice=choice,
        params=trained.params,
        history=trained.history,
        data=data,
        seed=seed,
        settings={**_length(trained, data, batch_size), "folds": folds, **_settings(method, trained)},
        seconds=_seconds(trained, began, folded, ended),
        warnings=tuple(dict.fromkeys([*doubts, *choice.warnings, *noted, *trained.evidence.warnings])),
        hyper=hyper.found,
        converged=hyper.converged,
        unseen=unseen,
        verdicts={k: {**v, "interval": hyper.found.get(k, {}).get("interval")} for k, v in found.verdicts.items()},
    )


def _by_folds(plan: Plan, target: Target, data: Data, folds: int) -> Judged:
    # The training, and what the folds say of it.
    if folds and target.averaged is not None:
        return judged(plan, target, data)
    trained = plan.train(target, data)
    return disposed(plan, target, trained, data) if folds else Judged(trained)


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


def _asked(
    method: EmpiricalBayes,
    lr: float | None,
    precision: Precision | None,
    there: torch.device | None,
    seconds: float | None,
) -> EmpiricalBayes:
    # With a rate, a number format, a device and a budget of the user's.
    if not isinstance(method, EmpiricalBayes):
        hint = "leave it out; fit.with_posterior(…) infers the weights by a method"
        raise InputError("method as an EmpiricalBayes", shown(method), hint)
    own = {"lr": lr, "precision": precision, "device": None if there is None else str(there)}
    optimiser = dataclasses.replace(method.optimiser, **{k: v for k, v in own.items() if v is not None})
    return dataclasses.replace(method, optimiser=optimiser, seconds=seconds or method.seconds)


def _choose(
    trained: Trained, unseen: CrossFit | None, data: Data, structures: Sequence[Structure] | None, seed: int
) -> tuple[Choice, list[str]]:
    # The predictive, and the warnings that were raised on the way.
    # Averages over all weights of a network for images rarely win by the folds, and cost as much as the training; those
    # over many outputs need the outputs' covariances.
    cheap: Sequence[Structure] = ("last_layer", "kron") if data.x.ndim == 2 else ("last_layer",)
    if unseen is not None and unseen.members.shape[-1] > _OUTPUTS:
        cheap = ()
    wanted = cheap if structures is None else structures
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always", NovaculaWarning)
        if unseen is not None and unseen.target.likelihood.normalised:
            choice = unseen.choose(
                trained.params,
                structures=wanted,
                seed=seed,
                members=trained.members,
            )
        else:
            choice = choose(trained.target, trained.params, data, structures=structures, seed=seed)
    return choice, [str(w.message) for w in caught if issubclass(w.category, NovaculaWarning)]


def _length(trained: Trained, data: Data, batch_size: int) -> dict[str, Any]:
    # How long the training was.
    epochs = math.ceil(trained.steps / math.ceil(data.n / min(batch_size, data.n)))
    return {"epochs": epochs, "steps": trained.steps, "batch_size": batch_size}


def _seconds(trained: Trained, began: float, folded: float, ended: float) -> dict[str, float]:
    # Where the time went; the clock at the beginning, after the folds and after the choice.
    spent = trained.seconds["train"] + trained.seconds["score"]
    return {
        "total": time.perf_counter() - began,
        "train": trained.seconds["train"],
        "hyper": trained.state.hyper_seconds,
        "score": trained.seconds["score"],
        "folds": folded - began - spent,
        "choose": ended - folded,
    }


def _settings(method: EmpiricalBayes, trained: Trained) -> dict[str, Any]:
    # What a run records of how it learned.
    copies, estimator = dataclasses.asdict(trained.target.copies), repr(trained.estimator)
    optimiser = {"lr": method.optimiser.lr, "precision": method.optimiser.precision}
    found = {**optimiser, "method": repr(method), "copies": copies, "estimator": estimator}
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
