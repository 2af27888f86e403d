"""`vary`: which of my choices moves the function most?

Choices (first weights, optimiser, depth, whether inputs are standardised …) are crossed, each combination is trained R
times from other first weights and orders, and every training predicts all examples by networks that have not seen them.
With ``p_jlr`` the predictions (probabilities, or means) of run r at level l of a choice and the combination j of the
others, the squared distance that the choice moves a prediction is

    D² = mean over j, n of  (p_j1r − p_j2r) · (p_j1s − p_j2s),      r ≠ s,

averaged over pairs of levels. As both factors have noise of their own, the noise of training falls out: D² is
unbiased, nought where the choice does nothing, and may be found below nought. Beside it stands how far two runs lie
apart that differ by chance alone, ``‖p_r − p_s‖²``. The interval is over combinations and pairs of runs and over
examples, both at once (`novacula.diagnostics.crossed_mean.two_way`).

What moves the function need not help: the mean loss at each level stands beside it.

References:
    Design and analysis of experiments. D. C. Montgomery, 1976 (crossed designs).
    Global sensitivity analysis: the primer. A. Saltelli and others, 2008 (total effects).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, TypeAlias

import torch
from scipy.stats import t as student
from torch import Tensor

from novacula.core import execute
from novacula.core.brief import brief
from novacula.core.checks.numbers import check_numbers, check_whole
from novacula.core.errors import InputError
from novacula.core.execute import Backend
from novacula.core.rng import derive
from novacula.core.storage.plain import record
from novacula.core.text import markdown
from novacula.data.data import Data
from novacula.data.folds import given_folds
from novacula.data.given import DataLike, as_data
from novacula.diagnostics.crossed_mean import Mean, two_way
from novacula.inference.method import Method
from novacula.study.cross_fit.train import cross_fit
from novacula.target.given import TargetLike

Setting: TypeAlias = "TargetLike | tuple[TargetLike, Method | None]"
_LEVEL = 0.9


@dataclass(frozen=True, eq=False)
class Choice:
    """What a choice does.

    Attributes:
        name: Its name; ``"chance"`` for runs that differ in nothing that was chosen.
        squared: The squared distance by which it moves the prediction of an example, with its error.
        losses: The mean out-of-fold loss at each level, by its name.
    """

    name: str
    squared: Mean
    losses: dict[str, float]

    @property
    def distance(self) -> float:
        """The root of the squared distance, nought where that is below."""
        return math.sqrt(max(0.0, self.squared.value))

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the distance nine times in ten."""
        freedom = 1e9 if math.isinf(self.squared.freedom) else max(1.0, self.squared.freedom)
        reach = float(student.isf((1 - _LEVEL) / 2, freedom)) * self.squared.stderr
        low, high = self.squared.value - reach, self.squared.value + reach
        return math.sqrt(max(0.0, low)), math.sqrt(max(0.0, high))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        squared = {"squared": self.squared.value, "squared_stderr": self.squared.stderr}
        return record(self, "name", "distance", "interval", "losses", **squared)


@dataclass(frozen=True, eq=False)
class Varied:
    """Choices, the one that moves the function most first.

    Attributes:
        choices: What each choice does.
        chance: How far runs lie apart that differ by chance alone.
        runs: How many trainings there were.
    """

    choices: tuple[Choice, ...]
    chance: Choice
    runs: int

    __repr__ = brief

    def table(self) -> str:
        """The choices as text.

        Returns:
            A table in Markdown: the root-mean-square distance of predictions with its interval, and losses by level.
        """
        lines = []
        for c in (*self.choices, self.chance):
            losses = ", ".join(f"{level}: {loss:.4f}" for level, loss in c.losses.items())
            lines.append((c.name, f"{c.distance:.3f}", f"{c.interval[0]:.3f} to {c.interval[1]:.3f}", losses))
        return markdown(("choice", "moves predictions by", "90 %", "loss by level"), "lrll", lines)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values.

        Returns:
            One record a choice, chance last.
        """
        return {"choices": [c.to_dict() for c in (*self.choices, self.chance)], "runs": self.runs}


def vary(
    make: Callable[..., Setting],
    data: DataLike,
    choices: Mapping[str, Sequence[Any]],
    *,
    repeats: int = 2,
    folds: int = 3,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    workers: int = 1,
    backend: Backend = "loky",
    progress: execute.Progress | None = None,
) -> Varied:
    """Train every combination of choices, and say which of them moves the predictions most.

    Args:
        make: From one level of each choice, by name, to a network or target, or to a pair of it and the method that
            trains it.
        data: The training data.
        choices: The levels of each choice, two or more, by its name.
        repeats: Trainings of each combination, two or more; a pair of them counts once.
        folds: Networks of each training, each blind to a fold; the same folds everywhere.
        steps: Steps of each network, as in `novacula.cross_fit`.
        batch_size: Examples a step.
        seed: Seed of everything random.
        workers: Processes that share the trainings.
        backend: Where the workers are.
        progress: Called with (trainings done, trainings).

    Returns:
        The choices.

    Raises:
        InputError: If there are no choices, one of them has a single level, or there is one repeat.

    Example:
        >>> import novacula as nv
        >>> data = nv.load("digits").subset(range(90))
        >>> make = lambda width: nv.networks.make("mlp", data.x_shape, 10, width=width)
        >>> found = nv.study.vary(make, data, {"width": (2, 64)}, steps=60)
        >>> found.choices[0].distance > 0.1
        True
    """
    check_numbers(seed=seed, steps=steps, batch_size=batch_size)
    check_whole("repeats", repeats, least=2)
    if not isinstance(choices, Mapping) or not choices or min(len(levels) for levels in choices.values()) < 2:
        raise InputError("choices with two levels or more, by name", repr(choices), "{'depth': (1, 2)}")
    data = as_data(data)
    which = given_folds(data, folds, derive(seed, "folds"))
    cells = list(product(*(range(len(levels)) for levels in choices.values())))
    options = {"folds": which, "steps": steps, "batch_size": batch_size}
    tasks = []
    for cell in cells:
        made = make(**{name: levels[i] for (name, levels), i in zip(choices.items(), cell, strict=True)})
        target, method = made if isinstance(made, tuple) else (made, None)
        for r in range(repeats):
            tasks.append(_Task(target, data, {**options, "method": method, "seed": derive(seed, "run", *cell, r)}))
    found = execute.map(_Task.run, tasks, workers=workers, backend=backend, progress=progress)
    shape = (*(len(levels) for levels in choices.values()), repeats)
    predicted = torch.stack([p for p, _ in found]).view(*shape, *found[0][0].shape)
    losses = torch.tensor([loss for _, loss in found], dtype=torch.float64).view(shape)
    judged = [_choice(name, predicted, losses, axis, levels) for axis, (name, levels) in enumerate(choices.items())]
    first, second = _pairs(predicted.flatten(0, len(choices) - 1), 1)
    chance = Choice("chance", two_way((first - second).square().sum(-1).flatten(0, 1)), {"all": float(losses.mean())})
    return Varied(tuple(sorted(judged, key=lambda c: -c.squared.value)), chance, len(tasks))


@dataclass(frozen=True, eq=False)
class _Task:
    """One training."""

    target: TargetLike
    data: Data
    options: dict[str, Any]

    def run(self) -> tuple[Tensor, float]:
        """Out-of-fold predictions, ``(N, C)``, and their mean loss."""
        fit = cross_fit(self.target, self.data, **self.options)
        return fit.plain.mean().detach().double().cpu(), float(fit.losses.mean())


def _pairs(runs: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    # The first and second of pairs of runs that no two pairs share.
    count = runs.shape[axis] // 2
    return runs.narrow(axis, 0, count), runs.narrow(axis, count, count)


def _choice(name: str, predicted: Tensor, losses: Tensor, axis: int, levels: Sequence[Any]) -> Choice:
    # Of predictions (levels of each choice …, R, N, C): a row of squared distances by combination and pair of runs.
    moved = predicted.movedim(axis, 0).flatten(1, losses.ndim - 2) if losses.ndim > 2 else predicted.unsqueeze(1)
    first, second = _pairs(moved, 2)
    apart = [((first[a] - first[b]) * (second[a] - second[b])).sum(-1) for a, b in combinations(range(len(levels)), 2)]
    mean_loss = losses.movedim(axis, 0).flatten(1).mean(1)
    by_level = {str(level): float(loss) for level, loss in zip(levels, mean_loss, strict=True)}
    return Choice(name, two_way(torch.stack(apart).mean(0).flatten(0, 1)), by_level)
