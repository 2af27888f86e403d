"""A posterior at a target whose prior, noise and invariances have been learned."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_numbers
from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.curvature.structures.names import STRUCTURES
from novacula.data.data import Data
from novacula.inference.infer import infer
from novacula.inference.method import Method, Start
from novacula.inference.starts import trained as trained_before
from novacula.posteriors.base import Point, Posterior
from novacula.prediction import Choice, choose
from novacula.runs.catalogue.methods import Trained, Wanted, method_of
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class Inferred:
    """A posterior at what was learned."""

    posterior: Posterior  # the posterior
    method: Method  # what inferred it
    name: str  # the method's name on the command line; empty for one that was passed as an object
    steps: int  # steps of each chain, at the most
    chains: int  # chains
    batch_size: int  # examples a step, for methods that take minibatches
    seconds: float  # how long it took

    __repr__ = brief


def inferred(
    target: Target,
    params: Params,
    data: Data,
    trained: Trained,
    method: Method | Wanted,
    steps: int | None,
    chains: int | None,
    batch_size: int | None,
    default_batch: int,
    seed: int,
    options: Mapping[str, Any],
) -> Inferred:
    """Infer the weights."""
    began = time.perf_counter()
    name = ""
    if isinstance(method, Wanted):
        name = method.text
        method, default, chains, least = method_of(method, trained, chains)
        steps = default if steps is None else steps
        batch_size = batch_size or min(data.n, max(default_batch, least))
    chains = 1 if chains is None else chains
    if steps is None:
        raise InputError("steps= for a method that is no name", "none", "steps=1000, for instance")
    check_numbers(steps=steps, chains=chains, batch_size=batch_size)
    batch_size = batch_size or default_batch
    # Members of a network that came trained start near what was learned; others shall differ as initialisations do.
    others = "near" if trained_before(target, target.params()) else "fresh"
    posterior = infer(
        method,
        target,
        data,
        init=params,
        steps=steps,
        batch_size=batch_size,
        chains=chains,
        others=others,
        seed=seed,
        **options,
    )
    return Inferred(posterior, method, name, steps, chains, batch_size, time.perf_counter() - began)


def check(wanted: Wanted, target: Target, data: Data, trained: Trained, steps: int | None, chains: int | None) -> None:
    """Find out before anything is learned whether a method takes this network and prior, by a first state."""
    if wanted.is_choice:
        return
    method, default, chains, _ = method_of(wanted, trained, chains)
    if method.batching == "mini":
        target, data = target.prepare(data)
        start = Start({k: w.unsqueeze(0) for k, w in target.params().items()}, default if steps is None else steps)
        method.init(target, data, generator(0, "check"), start)


def restricted(choice: Choice, kind: str, target: Target, params: Params, data: Data, seed: int) -> Choice:
    """What the choice of a predictive would have been among points, or among Laplace posteriors, alone."""
    if kind == "auto" or kind == ("laplace" if choice.structure in STRUCTURES else choice.structure):
        return choice
    if kind == "point":
        return Choice("point", 0.0, choice.scores, "the point estimate, as requested", (), Point(params, target))
    best = max((s for s in choice.scores if s.temperature > 0), key=lambda s: s.gain, default=None)
    requested: Any = ("last_layer", 1.0) if best is None else (best.structure, best.temperature)
    return choose(target, params, data, requested=requested, seed=seed)
