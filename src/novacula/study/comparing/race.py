"""`race`: which of several models is best, after a part of the time that training all of them would take.

All models are trained for a little while, the worst third is dropped, the others go on for longer, and so forth. Each
is one network, blind to a fold of the data (or several, each blind to another): its loss on the examples that it has
not seen orders the models. Every rung gets the same share of the budget and drops as many: the first scores know least.
Half of the places go to the best, and half to those that promise most: their score at the end of a full training, if it
went on falling with the logarithm of the steps as between the last two rungs. A model that is dropped is said to be
*worse* where its gap is real by the rule of `novacula.study.comparing.gaps`, *behind* where it had not had half of a
training by then, or is one network only, which says nothing of how much trainings differ, and *tied* where it had to go
for want of time.

Two scores can order models. ``"unseen"`` is the loss on unseen examples at the labels' calibrated temperature.
``"speed"`` is the mean loss in training over the later half of the rung's passes, the training-speed estimate of Ru and
others; on the first pass over the data it is the prequential score of that pass (Lyle and others). It needs no
predictions, and knows nothing of overfitting.

What it cannot know: a model that learns too slowly to show a slope is dropped, however well it would end.

References:
    Non-stochastic best arm identification and hyperparameter optimization. K. Jamieson, A. Talwalkar, 2016.
    arXiv:1502.07943.
    Hyperband: a novel bandit-based approach to hyperparameter optimization. L. Li and others, 2018. arXiv:1603.06560.
    Speedy performance estimation for neural architecture search. R. Ru and others, 2021. arXiv:2006.04492.
    A Bayesian perspective on training speed and model selection. C. Lyle and others, 2020. arXiv:2010.14499.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from novacula.core import execute
from novacula.core.checks.numbers import as_path, check_numbers, check_positive, check_whole, shown
from novacula.core.errors import InputError
from novacula.core.execute import Backend
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.core.storage.atomic import write_bytes
from novacula.data.data import Data
from novacula.data.folds import given_folds
from novacula.data.given import DataLike, as_data
from novacula.inference.loop import default_batch_size
from novacula.inference.method import Method
from novacula.inference.optimising.map import MAP
from novacula.study.comparing.gaps import gaps
from novacula.study.comparing.given import models_of
from novacula.study.comparing.standings import By, Race, Runner
from novacula.study.comparing.store import claim, identity, plain
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.train import cross_fit, length
from novacula.target import Target
from novacula.target.given import TargetLike


def race(
    models: Mapping[str, TargetLike],
    data: DataLike,
    *,
    budget: float,
    by: By = "unseen",
    drop: float = 1 / 3,
    folds: int | Tensor | Sequence[int] = 3,
    only: int | None = 1,
    steps: int | None = None,
    method: Method | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    store: Path | None = None,
    workers: int = 1,
    backend: Backend = "loky",
    progress: execute.Progress | None = None,
) -> Race:
    """Find the best of several models within a budget of time, by dropping the worse ones early.

    How long rungs are follows from what the first pass over the data took. All else is a function of the seed.

    Args:
        models: Targets by name, taken as they are; or networks, with the likelihood of the data's task.
        data: The training data.
        budget: Seconds. One pass of every model is made in any case.
        by: The score that drops models: ``"unseen"`` or ``"speed"``.
        drop: The share of all models that each rung drops, between 0 and 1.
        folds: In how many folds the data are dealt, one for a network to be blind to; or the fold of each example.
        only: Networks of each model, each blind to another fold; None for as many as there are folds. Several tell how
            much trainings differ, and predict better together; one is trained for longer in the same time.
        steps: Steps of a full training, beyond which none goes; by default 1,500, or 20 epochs if these are more.
        method: How networks are trained on each rung; by default ``MAP(lr=4e-3, schedule="cooldown")``.
        batch_size: Examples a step.
        seed: Seed of everything random.
        store: A folder that keeps each model's networks after each rung. A race that was interrupted goes on from it,
            with what is left of its budget.
        workers: Processes that share the models of a rung.
        backend: Where the workers are, as in `novacula.infer`.
        progress: Called with (trainings done, trainings at most).

    Returns:
        The race.

    Raises:
        InputError: If there are no models, a number is out of range, losses are of different kinds, or the folder
            holds another race.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(90))
        >>> nets = {f"width {k}": nv.networks.make("mlp", data.x_shape, 10, width=k, depth=1) for k in (1, 2, 16)}
        >>> found = nv.study.race(nets, data, budget=2.0, steps=100)
        >>> found.best.name, len(found.runners[-1].steps)
        ('width 16', 2)
    """
    data = as_data(data)
    targets = models_of(models, data)
    method = MAP(lr=4e-3, schedule="cooldown") if method is None else method
    _check(budget, by, drop, seed=seed, steps=steps, batch_size=batch_size, only=only)
    size = batch_size or default_batch_size(data.n, table=data.x.ndim == 2)
    which = given_folds(data, folds, derive(seed, "folds"))
    seen = data.n - int(which.bincount().min())
    one_pass = -(-seen // min(size, seen))
    whole = length(steps, None, seen, size)
    store = None if store is None else as_path(store, "store as a folder")
    if store is not None:
        told = {"budget": budget, "by": by, "drop": drop, "only": only, "steps": whole, "batch_size": size}
        told |= {"seed": seed, "method": plain(method), "folds": which.tolist(), "data": data.fingerprint}
        told["models"] = [[name, identity(t)] for name, t in targets.items()]
        claim(store, told)
    shared = (data, which, only, method, size, store, whole)
    lanes = [_Leg(name, t, i, *shared) for i, (name, t) in enumerate(targets.items())]
    counts = _counts(len(lanes), drop)
    done: dict[str, Runner] = {}
    before = 0
    for rung, ahead in enumerate(counts):
        runs = _staying([done[leg.name] for leg in lanes if done], ahead, by, whole)
        lanes = [leg for leg in lanes if not done or done[leg.name] in runs]
        left = budget - sum(sum(r.seconds) for r in done.values()) / workers
        go = min(one_pass, whole) if rung == 0 else _affordable(runs, left / (len(counts) - rung) * workers, whole)
        if go < 1:
            break
        legs = [
            replace(leg, run=done.get(leg.name), rung=rung, steps=go, seed=derive(seed, "rung", rung)) for leg in lanes
        ]
        report = None if progress is None else _counted(progress, before, sum(counts))
        found = execute.map(_Leg.go, legs, workers=workers, backend=backend, progress=report)
        done |= _with_gaps([leg.runner(content) for leg, content in zip(legs, found, strict=True)], by)
        before += len(legs)
    order = sorted(done.values(), key=lambda r: (-len(r.steps), _score(r, by)))
    return Race(tuple(order), by, budget, whole)


@dataclass(frozen=True, eq=False)
class _Leg:
    """One model on one rung."""

    name: str
    target: Target
    index: int
    data: Data
    folds: Tensor
    only: int | None
    method: Method
    batch_size: int
    store: Path | None
    whole: int
    run: Runner | None = None
    rung: int = 0
    steps: int = 0
    seed: int = 0

    def __repr__(self) -> str:
        return f"model {self.name!r} on rung {self.rung}"

    def go(self) -> dict[str, Any]:
        """Train, or read what was trained: plain values and tensors."""
        path = None if self.store is None else self.store / f"rung-{self.rung}-model-{self.index}.pt"
        if path is not None and path.is_file():
            return torch.load(path, weights_only=True)
        losses: list[list[float]] = []
        began = time.perf_counter()
        fit = self.fit(lambda done, total, record: _record(losses, record))
        speed = sum(sum(tail) / len(tail) for x in losses if (tail := x[len(x) // 2 :])) / len(losses)
        unseen, seconds = float(fit.losses.mean()), time.perf_counter() - began
        tensors = {"networks": [_host(w) for w in fit.networks], "members": fit.members.cpu()}
        content = {**tensors, "speed": speed, "unseen": unseen, "seconds": seconds, "warnings": list(fit.warnings)}
        if path is not None:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            write_bytes(path, buffer.getvalue())
        return content

    def fit(self, progress: Any = None) -> CrossFit:
        """The networks after this rung."""
        trained = None if self.run is None else self.run.fit.networks
        return cross_fit(
            self.target,
            self.data,
            folds=self.folds,
            seed=self.seed,
            method=self.method,
            steps=self.steps,
            batch_size=self.batch_size,
            starts=None if trained is None else [*trained, *trained[:1] * (int(self.folds.max()) + 1 - len(trained))],
            only=self.only,
            part=(0 if self.run is None else sum(self.run.steps), self.whole),
            progress=progress,
        )

    def runner(self, content: dict[str, Any]) -> Runner:
        """The model with this rung behind it."""
        target, data = self.target.prepare(self.data)
        networks = tuple(content["networks"])
        rows = self.folds < len(networks)
        unseen, folds = data.subset(rows.to(data.x.device)), self.folds[rows]
        fit = CrossFit(target, unseen, folds, networks, content["members"], self.seed, tuple(content["warnings"]))
        start = self.run or Runner(self.name, fit, (), (), (), ())
        more = {k: (*getattr(start, k), content[k]) for k in ("unseen", "speed", "seconds")}
        return replace(start, fit=fit, steps=(*start.steps, self.steps), gap=None, **more)


def _record(losses: list[list[float]], record: Mapping[str, float]) -> None:
    # The mean loss of each pass, by network: another one begins at pass 1.
    if record["epoch"] == 1:
        losses.append([])
    losses[-1].append(record["loss"])


def _host(weights: Params) -> Params:
    return {k: w.detach().cpu().clone() for k, w in weights.items()}


def _score(runner: Runner, by: By) -> float:
    value = getattr(runner, by)[-1]
    return value if math.isfinite(value) else math.inf


def _promise(runner: Runner, by: By, whole: int) -> float:
    # The score at the end of a full training, if it goes on falling with the logarithm of the steps as it last did.
    last, ends = _score(runner, by), list(accumulate(runner.steps))
    fallen = getattr(runner, by)[-2] - last if len(ends) > 1 else 0.0
    return last - fallen * math.log(whole / ends[-1]) / math.log(ends[-1] / ends[-2]) if fallen > 0 else last


def _staying(runs: list[Runner], count: int, by: By, whole: int) -> list[Runner]:
    # So many: half by their scores, the others by what they promise.
    best = sorted(runs, key=lambda r: _score(r, by))[: -(-count // 2)]
    others = sorted((r for r in runs if r not in best), key=lambda r: _promise(r, by, whole))
    return [*best, *others[: count - len(best)]]


def _counts(models: int, drop: float) -> list[int]:
    # How many models run on each rung: all for one pass, all for the rest of the first share, fewer while several.
    less = max(1, math.ceil(models * drop - 1e-9))
    return [models, *range(models, min(1, models - 1), -less)]


def _affordable(runs: Sequence[Runner], share: float, length: int) -> int:
    # The steps that all of these can take in so many seconds.
    rate = sum(r.seconds[-1] / r.steps[-1] for r in runs)
    return min(int(share / rate), length - sum(runs[0].steps))


def _with_gaps(runners: Sequence[Runner], by: By) -> dict[str, Runner]:
    folds = runners[0].fit.folds
    losses = {r.name: r.fit.losses.cpu().unsqueeze(0) for r in runners}
    best = min(runners, key=lambda r: _score(r, by)).name
    found = gaps(losses, folds.unsqueeze(0), best) if len(runners) > 1 else {}
    return {r.name: replace(r, gap=found.get(r.name)) for r in runners}


def _counted(progress: execute.Progress, before: int, total: int) -> execute.Progress:
    return lambda done, _: progress(before + done, total)


def _check(budget: float, by: str, drop: float, **numbers: int | None) -> None:
    check_positive("budget", budget)
    check_numbers(**numbers)
    for name in ("steps", "only"):
        check_whole(name, 1 if numbers[name] is None else numbers[name])
    if by not in get_args(By):
        raise InputError(f"a score among {', '.join(get_args(By))}", shown(by), "by='unseen'")
    if not 0 < drop < 1:
        raise InputError("drop between 0 and 1", f"{drop:g}", "drop=1/3")
