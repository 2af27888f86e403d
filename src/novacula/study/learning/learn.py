"""`learn`: a network's prior and invariances from its training data alone (empirical Bayes).

One run trains the weights and, by gradient on the log evidence, the prior's precisions, the noise and the extents of
the invariance. Afterwards the evidence is scored, and a predictive is chosen; no validation data are used for anything.
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings as python_warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from novacula.study.learning.empirical_bayes import ETA, EmpiricalBayes, EmpiricalBayesState, learned, weights_in
from novacula.target import Target

# Beyond these sizes the default score is Kronecker-factored, and its curvature that of a random subset.
_EXACT_SIZE = 1_500
_SUBSET = 1_000


def learn(
    target: Target,
    data: Data,
    *,
    epochs: int = 24,
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

    Args:
        target: The model to begin with.
        data: The training data.
        epochs: Passes over the data.
        batch_size: Examples a step; by default 50, or less for fewer than 1,600 examples.
        lr: Peak learning rate of the weights; by default 4e-3.
        seed: Seed of everything random.
        method: Hyper-step settings; by default `default_method`.
        evidence: The estimator of the final score; by default `Laplace`: exact for small problems, else
            Kronecker-factored.
        structures: Curvature structures that the choice of the predictive considers.
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
        >>> fit = nv.learn(nv.Target(net, invariance=nv.Affine(only=("rotation",))), data, epochs=1)
        >>> fit.evidence.kind
        'estimate'
    """
    began = time.perf_counter()
    target, data = target.prepare(data)
    batch_size = batch_size or default_batch_size(data.n)
    method = method or default_method(data.n, batch_size)
    if lr is not None:
        method = dataclasses.replace(method, optimiser=dataclasses.replace(method.optimiser, lr=lr))

    outcome = run(
        method,
        target,
        data,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    trained = time.perf_counter()
    fitted, params = learned(target, outcome.state), weights_in(outcome.state.weights)
    fitted = fitted.with_learnable({k: v.detach() for k, v in fitted.learnable().items()})
    estimator = evidence or default_evidence(fitted, data)
    score = estimator(fitted, data, params, seed=derive(seed, "score"))
    scored = time.perf_counter()
    choice, found = _chosen(fitted, params, data, structures, derive(seed, "choose"))
    said = [*_no_skill(outcome.state), *_doubts(fitted), *choice.warnings, *found, *score.warnings]
    ended = time.perf_counter()
    return LearnResult(
        target=fitted,
        evidence=score,
        choice=choice,
        params=params,
        history=outcome.history,
        data=data,
        seed=seed,
        settings={"epochs": epochs, "batch_size": batch_size, **_settings(method, target, estimator)},
        seconds={
            "total": ended - began,
            "train": trained - began,
            "hyper": outcome.state.hyper_seconds,
            "score": scored - trained,
            "choose": ended - scored,
        },
        warnings=tuple(dict.fromkeys(said)),
    )


def default_method(n: int, batch_size: int | None = None) -> EmpiricalBayes:
    """The settings of a run by default: 5 to 8 hyper-steps an epoch.

    Args:
        n: The number of examples.
        batch_size: Examples a step; by default `default_batch_size`.

    Returns:
        The method.
    """
    steps = -(-n // (batch_size or default_batch_size(n)))
    # Few steps an epoch: the network learns slowly in epochs, and the extents must be found before it has grown used to
    # too small ones. Many: it is thrown off course by extents that run ahead of it. With few copies the variance of the
    # averaged Jacobian, which grows with the extents, passes for curvature and keeps them small: 16 are worth it.
    # While weights are still small from their initialisation, the evidence wants a prior that keeps them so.
    few = steps < 100
    return EmpiricalBayes(
        optimiser=MAP(lr=4e-3),
        estimator=NTKSubset(subset=64, copies=8 if few else 16),
        every=max(1, steps // (5 if few else 8)),
        lr_eta=0.07 if few else 0.06,
        burn_in=0.03 if few else 0.08,
        burn_in_prior=0.5 if few else 0.08,
    )


def default_evidence(target: Target, data: Data) -> Laplace:
    """The estimator that scores a run by default."""
    outputs = target.forward(target.params(), data.x[:1]).shape[1]
    size = min(count(target.params()), data.n * outputs)
    return Laplace(
        structure="exact" if size <= _EXACT_SIZE else "kron",
        repeats=2,
        subset=_SUBSET if data.n > _SUBSET * 2 else None,
    )


def _chosen(
    target: Target, params: Params, data: Data, structures: Sequence[Structure] | None, seed: int
) -> tuple[Choice, list[str]]:
    # The predictive, and the warnings that were raised on the way.
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always", NovaculaWarning)
        choice = choose(target, params, data, structures=structures, seed=seed)
    return choice, [str(w.message) for w in caught if issubclass(w.category, NovaculaWarning)]


def _settings(method: EmpiricalBayes, target: Target, estimator: Callable[..., Estimate]) -> dict[str, Any]:
    # What a run records of how it learned.
    copies = dataclasses.asdict(target.copies)
    return {"lr": method.optimiser.lr, "method": repr(method), "copies": copies, "estimator": repr(estimator)}


def _no_skill(state: EmpiricalBayesState) -> list[str]:
    # What must be said of a network that has not learned anything, or learned it too late.
    if not state.skill.better:
        return [
            "the network predicts hardly better than a constant (its gain in training is "
            f"{state.skill.gain:.3f} nats an example): what was learned about its prior means nothing; try another "
            "learning rate, more epochs, smaller extents to begin with, or another network"
        ]
    if ETA in state.hyper and math.isnan(state.opened):
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
