"""Networks trained many times, each with a start, an order of batches and a stop of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from novacula.core import execute
from novacula.core.errors import InputError
from novacula.core.params import Params, count, stack
from novacula.core.rng import derive, generator
from novacula.inference.loop import run
from novacula.inference.optimising.descent import Descent
from novacula.inference.starts import initial_weights
from novacula.priors.base import Prior
from novacula.study.sampling.task import Arrays, Functions, Task

Init: TypeAlias = Literal["prior", "own"] | Prior
"""Where networks start: at draws of the prior that is compared with, of their own initialisation, of another prior."""

_AT_ONCE, _FLOATS = 1000, 2**26
_KEPT = 2**31  # labels that networks give in all


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks that reached zero error in time.

    Attributes:
        at: What they compute at the stop, and after each number of epochs beyond; rows are paired.
        stops: After how many epochs each stopped, ``(S,)``.
        tried: How many were trained.
        diverged: How many of these came to outputs that are not finite.
    """

    at: tuple[Functions, ...]
    stops: np.ndarray
    tried: int
    diverged: int


@dataclass(frozen=True, eq=False)
class _Part:
    task: Task
    method: Descent
    init: Init
    members: int
    epochs: int
    seed: int
    index: int


def train(
    task: Task,
    method: Descent,
    init: Init,
    nets: int,
    epochs: int,
    *,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None],
) -> Trained:
    """Train networks in parts, each of which is a function of the seed and its place."""
    if (kept := nets * len(task.y) * method.kept) > _KEPT:  # a byte for each label, at least
        got = f"{nets:,}, with {kept:,} labels"
        raise InputError(f"networks with at most {_KEPT:,} labels of held-out examples", got, "fewer nets")
    # Weights, gradients, two moments and what is kept of them.
    size = max(16, min(_AT_ONCE, _FLOATS // (count(task.target.params()) * (4 + method.kept))))
    parts = [_Part(task, method, init, min(size, nets - i), epochs, seed, i // size) for i in range(0, nets, size)]
    found = execute.map(_trained, parts, workers=workers, progress=progress)
    at = [
        Functions.joined([Functions(p[f"labels{i}"], p[f"margins{i}"], np.zeros(len(p["stops"]), int)) for p in found])
        for i in range(method.kept)
    ]
    stops = np.concatenate([p["stops"] for p in found])
    reached = stops >= 0
    if reached.sum() < 2:
        got = f"{reached.sum()} of {nets} within {epochs} epochs"
        hint = "more epochs, another learning rate or wider networks; perhaps no network of this kind fits"
        raise InputError("networks that reach zero training error", got, hint)
    return Trained(tuple(f[reached] for f in at), stops[reached], nets, int((stops == -2).sum()))


def _trained(part: _Part) -> Arrays:
    task = part.task
    settings = {
        "kind": "sgd", "method": part.method, "init": _about(part), "members": part.members, "epochs": part.epochs,
        "seed": part.seed, "part": part.index,
    }  # fmt: skip
    return task.kept(settings, lambda: _run(part))


def _run(part: _Part) -> Arrays:
    task, method = part.task, part.method
    epoch = math.ceil(task.data.n / min(method.batch_size, task.data.n))
    last = (method.beyond or (0,))[-1]
    outcome = run(
        method,
        task.target,
        task.data,
        start=_starts(part),
        steps=(part.epochs + last) * epoch,
        seed=derive(part.seed, "descent", part.index),
    )
    state = outcome.state
    stops = np.asarray(state.stops)
    # Who fits later than that would have no time to be trained beyond.
    stops = np.where(stops > part.epochs * epoch, -1, np.where(stops > 0, stops // epoch, stops))
    found = {"stops": stops}
    for i in range(method.kept):
        functions = task.functions({k: w[i] for k, w in state.snapshots.items()})
        found |= {f"labels{i}": functions.labels, f"margins{i}": functions.margins}
    return found


def _about(part: _Part) -> object:
    if isinstance(part.init, str):
        return part.init
    target = replace(part.task.target, prior=part.init.bind(part.task.target.params()))
    return repr(part.init), {k: w.tolist() for k, w in target.learnable().items()}


def _starts(part: _Part) -> Params:
    target, rng = part.task.target, generator(part.seed, "starts", part.index)
    if part.init == "own":
        return stack(initial_weights(target, part.members, derive(part.seed, "starts", part.index)))
    like = target.params()
    prior = target.prior if part.init == "prior" else part.init.bind(like)
    return prior.sample(like, part.members, rng)
