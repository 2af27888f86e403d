"""`compare`: several models of the same data, by how well they predict what they have not seen.

Each model's prior is learned, and networks that are blind to one fold each predict the rest, the same folds for all
models (`novacula.study.learning.learn`). Their calibrated losses order models; which gaps are real is
`novacula.study.comparing.gaps`'s. The evidence at trained weights stands beside them, for what it is: good for a prior
or an invariance within one model, and unreliable between networks that interpolate, where it can order them the wrong
way round. The conditional evidence and the prequential score are forecasts too, and can be asked for; the latter sums
the learning curve, so that it charges for slow learning from few examples.

References:
    Bayesian model selection, the marginal likelihood, and generalization. S. Lotfi, P. Izmailov, G. Benton,
    M. Goldblum, A. G. Wilson, 2022. arXiv:2202.11678.
    Cross-validatory choice and assessment of statistical predictions. M. Stone, 1974.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from novacula.core import execute
from novacula.core.checks.numbers import as_path, check_whole
from novacula.core.estimate import Estimate
from novacula.core.execute import Backend
from novacula.core.params import count
from novacula.core.rng import derive
from novacula.core.storage.atomic import write_bytes
from novacula.data.data import Data
from novacula.data.given import DataLike, as_data
from novacula.evidence import Laplace
from novacula.study.comparing.given import models_of
from novacula.study.comparing.result import Comparison, Entry, packed, unpacked
from novacula.study.comparing.store import claim, identity, plain
from novacula.study.learning.learn import learn
from novacula.target import Target
from novacula.target.given import TargetLike


def compare(
    models: Mapping[str, TargetLike],
    data: DataLike,
    *,
    folds: int = 3,
    trainings: int = 1,
    epochs: int | None = 24,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    evidence: Callable[..., Estimate] | None = None,
    conditional: Callable[..., Estimate] | None = None,
    prequential: Callable[..., Estimate] | None = None,
    store: Path | None = None,
    workers: int = 1,
    backend: Backend = "loky",
    progress: execute.Progress | None = None,
) -> Comparison:
    """Learn every model, and compare their losses on examples that they have not seen.

    Nothing depends on the number of workers, nor on interruptions. Where time is short, `novacula.study.race` drops the
    worse models early.

    Args:
        models: Targets by name; or networks, which are taken with the likelihood of the data's task.
        data: The training data.
        folds: Networks a training, each blind to a fold; the same folds for all models.
        trainings: How often each model is learned, with other seeds and folds. More of them shrink the noise of the
            training, not that of the examples.
        epochs: Passes over the data at most; None for rounds until nothing is gained, as in `learn`.
        batch_size: Examples a step.
        lr: Peak learning rate.
        seed: Seed of everything random.
        evidence: The estimator of the evidence; by default `Laplace` with Kronecker factors.
        conditional: An estimator of the conditional evidence, such as `Conditional`; left out by default.
        prequential: An estimator of the prequential score, such as ``Prequential(blocks=4)``; left out by default.
        store: A folder that keeps each model's result as soon as it is there. A comparison that was interrupted goes on
            from it, and loses no more than the models in progress.
        workers: Processes that share the models among them; -1 for one on each core.
        backend: Where the workers are, as in `novacula.infer`.
        progress: Called with (models done, models) after each model.

    Returns:
        The comparison.

    Raises:
        InputError: If there are no models, folds or trainings are too few, losses are of different kinds, or the folder
            holds another comparison.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(90))
        >>> nets = {k: nv.networks.make("mlp", data.x_shape, 10, width=k, depth=1) for k in (2, 16)}
        >>> found = nv.study.compare({f"width {k}": nv.Target(n) for k, n in nets.items()}, data, epochs=2)
        >>> len(found.gaps)
        1
    """
    data = as_data(data)
    targets = models_of(models, data)
    store = None if store is None else as_path(store, "store as a folder")
    check_whole("folds", folds, least=2)
    check_whole("trainings", trainings)
    score = evidence or Laplace(structure="kron", repeats=2)
    options = {"folds": folds, "epochs": epochs, "batch_size": batch_size, "lr": lr}
    plan = _Plan(options, trainings, seed, score, conditional, prequential)
    if store is not None:
        claim(
            store, {**plan.told(), "data": data.fingerprint, "models": [[k, identity(t)] for k, t in targets.items()]}
        )
    tasks = [
        _Task(name, target, data, plan, None if store is None else store / f"model-{i}.pt")
        for i, (name, target) in enumerate(targets.items())
    ]
    return Comparison(tuple(execute.map(_run, tasks, workers=workers, backend=backend, progress=progress)))


@dataclass(frozen=True, eq=False)
class _Plan:
    """How all models are treated."""

    options: dict[str, Any]
    trainings: int
    seed: int
    evidence: Callable[..., Estimate]
    conditional: Callable[..., Estimate] | None
    prequential: Callable[..., Estimate] | None

    def told(self) -> dict[str, Any]:
        """All that decides the results, as plain values."""
        estimators = {k: plain(getattr(self, k)) for k in ("evidence", "conditional", "prequential")}
        return {**self.options, "trainings": self.trainings, "seed": self.seed, **estimators}


@dataclass(frozen=True, eq=False)
class _Task:
    """One model."""

    name: str
    target: Target
    data: Data
    plan: _Plan
    path: Path | None

    def __repr__(self) -> str:
        return f"model {self.name!r}"


def _run(task: _Task) -> Entry:
    if task.path is not None and task.path.is_file():
        return unpacked(torch.load(task.path, weights_only=True))
    entry = _entry(task)
    content = io.BytesIO()
    torch.save(packed(entry), content)
    if task.path is not None:
        write_bytes(task.path, content.getvalue())
    content.seek(0)
    return unpacked(torch.load(content, weights_only=True))  # the same, whether it was stored or not


def _entry(task: _Task) -> Entry:
    plan, began = task.plan, time.perf_counter()
    seeds = [plan.seed, *(derive(plan.seed, "training", s) for s in range(1, plan.trainings))]
    fits = [
        learn(task.target, task.data, seed=s, evidence=plan.evidence, structures=("last_layer",), **plan.options)
        for s in seeds
    ]
    fit, unseen = fits[0], [u for f in fits if (u := f.unseen) is not None]
    conditional = prequential = None
    if plan.conditional is not None:
        conditional = plan.conditional(fit.target, fit.data, fit.params, seed=derive(plan.seed, "conditional"))
    if plan.prequential is not None:
        prequential = plan.prequential(fit.target, fit.data, seed=derive(plan.seed, "prequential"))
    return Entry(
        name=task.name,
        weights=count(fit.target.params()),
        losses=torch.stack([u.losses.cpu() for u in unseen]),
        folds=torch.stack([u.folds.cpu() for u in unseen]),
        evidence=fit.evidence,
        conditional=conditional,
        prequential=prequential,
        params=fit.params,
        learned={k: v.detach() for k, v in fit.target.learnable().items()},
        seconds=time.perf_counter() - began,
        density=fit.target.likelihood.normalised,
    )
