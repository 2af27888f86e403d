"""Runs of a crossed layout: every level of one cause with every level of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from novacula.core import execute
from novacula.core.brief import brief
from novacula.core.checks.numbers import check_callable, check_whole
from novacula.core.errors import InputError
from novacula.core.params import Params, detach
from novacula.core.rng import derive, lent
from novacula.data.data import Data
from novacula.inference import MAP, infer
from novacula.networks import make
from novacula.posteriors.base import Posterior, weights_of
from novacula.target import Target


@dataclass(frozen=True, eq=False)
class Crossed:
    """Runs of a crossed layout.

    Attributes:
        runs: The weights of each.
        causes: By cause, the level of each run.
    """

    runs: tuple[Params, ...]
    causes: dict[str, tuple[int, ...]]

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class Recipe:
    """Trains a network by its name: first weights, order of the data and noise have a seed each."""

    net: str  # as `novacula.networks.make` takes it
    target: Target  # whose likelihood, prior and invariance a run has; its network's weights play no part
    data: Data  # the training data
    epochs: int  # passes over them
    batch_size: int  # examples a step
    lr: float  # peak learning rate of `novacula.MAP`
    seed: int = 0  # that of all runs

    __repr__ = brief

    def __call__(self, weights: int, order: int | None = None, noise: int | None = None) -> Posterior:
        """Train one run; an order or noise that is not given goes with what stands before it."""
        order = weights if order is None else order
        outputs = self.target.prepare(self.data)[0].forward.check(self.data.x[:8])
        network = make(self.net, self.data.x_shape, outputs, seed=derive(self.seed, "weights", weights))
        return infer(
            MAP(lr=self.lr),
            replace(self.target, network=network, forward=None),
            self.data,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=derive(self.seed, "noise", order if noise is None else noise),
            order=derive(self.seed, "order", order),
        )


def crossed_runs(
    train: Callable[..., Any],
    levels: Mapping[str, int],
    *,
    workers: int = 1,
    progress: execute.Progress | None = None,
) -> Crossed:
    """Train a run at every combination of the levels of several causes.

    Args:
        train: Trains one run: called with the level of each cause by name, gives its weights (a state dictionary, a
            posterior or a result). A level is to be the seed of that cause and of nothing else.
        levels: How many levels each cause has, for instance ``{"weights": 3, "order": 3}``; two or more. With two,
            variances have no interval.
        workers: Processes; ``train`` must be picklable for more than one.
        progress: Called with (runs done, runs in all).

    Returns:
        The runs and their levels, for `path_dependence`.

    Raises:
        InputError: If a cause has fewer than two levels.
    """
    check_callable("train", train)
    for name, count in levels.items():
        check_whole(f"levels[{name!r}]", count, least=2)
    if not levels:
        raise InputError("a cause", "none", '{"weights": 3, "order": 3}')
    grid = [dict(zip(levels, at, strict=True)) for at in product(*(range(n) for n in levels.values()))]
    found = execute.map(partial(_trained, train), grid, workers=workers, progress=progress)
    return Crossed(tuple(found), {name: tuple(at[name] for at in grid) for name in levels})


def _trained(train: Callable[..., Any], at: dict[str, int]) -> Params:
    with lent():
        return detach(dict(weights_of(train(**at))))
