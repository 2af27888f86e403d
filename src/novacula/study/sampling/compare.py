"""`sgd_vs_bayes`: does training find functions as often as the posterior has them?

The prior of a network's weights, restricted to networks that make no error on the training data, is a posterior P_B
over functions. Training finds functions too, each with a probability P_opt that depends on the optimiser, its settings
and when it stops. Were training a draw from the posterior, both would be equal. Functions are told apart on a few
held-out inputs, whose labels play no part in this, and by the number of errors on all of them.

A high correlation between log-probabilities says little: it is taken over functions that both samples hold, and can
rise while the distributions move apart. So distances, odds and errors are told, each with an interval, and a test whose
rate of false alarms was measured.

References:
    Is SGD a Bayesian sampler? Well, almost. C. Mingard, G. Valle-Pérez, J. Skalse, A. A. Louis, 2021. arXiv:2006.15191.
    Loss landscapes are all you need: neural network generalization can be explained without the implicit bias of
    gradient descent. P. Chiang et al., 2023. ICLR (training by guess and check).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import nn

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.data.given import DataLike
from novacula.diagnostics.two_samples import Interval, log_odds, two_samples
from novacula.functions.result import share
from novacula.functions.strings import as_strings
from novacula.inference.optimising.descent import Descent
from novacula.priors import FanIn
from novacula.priors.base import Prior
from novacula.study.sampling.reference import By, Reference, reference
from novacula.study.sampling.result import Checkpoint, Named, Overtrained, SgdVsBayes
from novacula.study.sampling.task import Functions, Task
from novacula.study.sampling.trained import Init, Trained, train

_Z = 1.96
_DESCENT = Descent(beyond=(64,))

Progress = Callable[[str, int, int], None]


def sgd_vs_bayes(
    network: nn.Module,
    data: DataLike,
    held_out: DataLike,
    *,
    prior: Prior | None = None,
    method: Descent = _DESCENT,
    init: Init = "prior",
    nets: int = 1000,
    epochs: int = 1000,
    points: int = 16,
    by: By = "splitting",
    draws: int = 2000,
    most: int = 10_000_000,
    moves: int = 8,
    named: Mapping[str, object] | None = None,
    keep: Path | str | None = None,
    workers: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> SgdVsBayes:
    """Train many networks, draw many of the posterior, and compare the functions.

    Args:
        network: Any `nn.Module` that is the same function in training as in use (no BatchNorm, no dropout).
        data: Training data of classes; of a network with one output, labels 0 and 1.
        held_out: Other examples of the same kind.
        prior: The prior over weights; by default `FanIn`.
        method: How networks are trained, and how long beyond the stop.
        init: Where they start: at draws of the prior, of the network's ``"own"`` initialisation, or of another prior.
        nets: How many are trained.
        epochs: Epochs within which a network must reach zero error to count.
        points: Held-out examples, the first ones, on which functions are told apart.
        by: How the posterior is drawn: ``"splitting"``, in eight populations; ``"rejection"``, independent draws,
            where one in some 100,000 networks of the prior fits; or ``"nngp"``, independent draws of the infinitely
            wide network, of one output.
        draws: Draws of the posterior.
        most: Networks of the prior that rejection may draw, or proposals for the infinitely wide network.
        moves: Moves of splitting at each level; more make its draws worth more.
        named: Further functions whose odds are told, by name: labels of the points.
        keep: A folder that keeps networks' functions as they are computed, so that an interrupted comparison goes on.
        workers: Processes that share the training; -1 for one on each core.
        seed: Seed of everything random.
        progress: Called with what is being done, how much of it is, and how much there is.

    Returns:
        The comparison at the stop and beyond.

    Raises:
        InputError: If data are no classes, repeat inputs with other labels, or are too few; if fewer than two networks
            reach zero error, or fewer than two draws fit.
    """
    for name, value in (("nets", nets), ("epochs", epochs), ("points", points), ("draws", draws), ("moves", moves)):
        check_whole(name, value)
    task = Task.of(network, data, held_out, prior or FanIn(), None if keep is None else Path(keep))
    if not 1 <= points <= len(task.y):
        raise InputError(f"points from 1 to the {len(task.y)} held-out examples", f"{points}", "fewer points")
    functions = {"target": task.y[:points]}
    for name, labels in (named or {}).items():
        row = as_strings(labels)
        functions[name] = row[0] - (ord("0") if isinstance(labels, str) else 0)
        if row.shape != (1, points):
            raise InputError(f"{points} labels of {name!r}", f"shape {row.shape}", "a label for each point")

    def told(what: str) -> Callable[[int, int], None]:
        return lambda done, of: None if progress is None else progress(what, done, of)

    trained = train(task, method, init, nets, epochs, seed=seed, workers=workers, progress=told("training"))
    bayes = reference(task, by, draws, most, moves, seed=seed, progress=told(by))
    return _compared(task, trained, bayes, method, points, functions, seed)


def _compared(
    task: Task,
    trained: Trained,
    bayes: Reference,
    method: Descent,
    points: int,
    functions: dict[str, np.ndarray],
    seed: int,
) -> SgdVsBayes:
    guessing, of_bayes = 1 - 1 / task.classes, bayes.functions
    labels, index = _distinct([of_bayes.labels[:, :points], *(f.labels[:, :points] for f in trained.at)])
    named = {name: int(np.flatnonzero((labels == row).all(1))[0]) if (labels == row).all(1).any() else -1
             for name, row in functions.items()}  # fmt: skip
    by_population = _counted(index[0], of_bayes.population, len(labels))
    wrong = (of_bayes.labels != task.y).sum(1)
    error = _mean(wrong / len(task.y), of_bayes.population)
    checkpoints = []
    for beyond, f, i in zip((0, *method.beyond), trained.at, index[1:], strict=True):
        counts, missed = np.bincount(i, minlength=len(labels)), (f.labels != task.y).sum(1)
        compared = two_samples(counts, by_population, seed=seed)
        most = len(task.y) + 1
        own = _mean(missed / len(task.y), f.population)
        checkpoints.append(
            Checkpoint(
                beyond,
                compared,
                two_samples(np.bincount(missed, minlength=most), _counted(wrong, of_bayes.population, most), seed=seed),
                {k: _named(counts, by_population.sum(0), at, compared.sizes) for k, at in named.items()},
                own,
                _share(guessing, error, own),
                _quantiles(f.margins),
                _larger(f.margins, of_bayes.margins),
                *_survivors(counts, by_population.sum(0)),
            )
        )
    pairs = zip(method.beyond, trained.at[1:], strict=True)
    return SgdVsBayes(
        nets=len(trained.stops),
        tried=trained.tried,
        diverged=trained.diverged,
        stops=_quantiles(trained.stops),
        reference=bayes.by,
        draws=(len(of_bayes), checkpoints[0].functions.sizes[1]),
        log_evidence=bayes.log_evidence,
        points=(points, len(task.y)),
        guessing=guessing,
        bayes_error=error,
        bayes_margins=_quantiles(of_bayes.margins),
        checkpoints=tuple(checkpoints),
        overtraining=tuple(_overtrained(e, trained.at[0], f, task.y, points) for e, f in pairs),
        counts=(labels, by_population.sum(0), np.stack([np.bincount(i, minlength=len(labels)) for i in index[1:]])),
        warnings=(*bayes.said, *_said(trained)),
    )


def _said(trained: Trained) -> list[str]:
    late = trained.tried - len(trained.stops)
    if not late:
        return []
    return [f"{late} of {trained.tried} networks did not reach zero error ({trained.diverged} diverged): left out"]


def _distinct(parts: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    # Functions that occur, and which of them each row is; parts ``(·, points)``.
    rows, index = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    return rows, np.split(index.reshape(-1), np.cumsum([len(p) for p in parts])[:-1])


def _counted(index: np.ndarray, population: np.ndarray, size: int) -> np.ndarray:
    return np.stack([np.bincount(index[population == k], minlength=size) for k in np.unique(population)])


def _mean(values: np.ndarray, population: np.ndarray) -> Interval:
    # Over independent networks, or over populations where they are not.
    each = np.array([values[population == k].mean() for k in np.unique(population)])
    spread = each if len(each) > 1 else values
    reach = _Z * spread.std(ddof=1) / math.sqrt(len(spread))
    return Interval(float(values.mean()), float(values.mean() - reach), float(values.mean() + reach))


def _share(guessing: float, bayes: Interval, trained: Interval) -> Interval:
    # (g − e_B)/(g − e_opt), by the delta method on its logarithm's errors.
    of_bayes, of_trained = guessing - bayes.value, guessing - trained.value
    if of_trained <= trained.high - trained.value or of_trained <= 0:
        return Interval(math.nan, math.nan, math.nan)
    value = of_bayes / of_trained
    reach = math.hypot(bayes.high - bayes.value, value * (trained.high - trained.value)) / of_trained
    return Interval(value, value - reach, value + reach)


def _named(trained: np.ndarray, bayes: np.ndarray, at: int, sizes: tuple[int, int]) -> Named:
    n, m = sizes
    a, b = (int(trained[at]), float(bayes[at] / bayes.sum() * m)) if at >= 0 else (0, 0.0)
    return Named(share(a, n), share(round(b), m), log_odds(a, n, b, m))


def _quantiles(values: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return float(low), float(middle), float(high)


def _larger(a: np.ndarray, b: np.ndarray) -> float:
    order = np.sort(b)
    below = np.searchsorted(order, a, "left") + np.searchsorted(order, a, "right")
    return float(below.mean() / (2 * len(b)))


def _survivors(trained: np.ndarray, bayes: np.ndarray) -> tuple[float, int]:
    both = (trained >= 2) & (bayes >= 2)
    logs = np.log(trained[both]), np.log(bayes[both])
    if both.sum() < 3 or min(v.std() for v in logs) == 0:
        return math.nan, int(both.sum())
    return float(np.corrcoef(*logs)[0, 1]), int(both.sum())


def _overtrained(beyond: int, before: Functions, after: Functions, y: np.ndarray, points: int) -> Overtrained:
    changed = (before.labels[:, :points] != after.labels[:, :points]).any(1)
    target = [(f.labels[:, :points] == y[:points]).all(1).astype(float) for f in (before, after)]
    errors = [(f.labels != y).mean(1) for f in (before, after)]
    return Overtrained(
        beyond,
        share(int(changed.sum()), len(changed)),
        *(_mean(b - a, before.population) for a, b in (target, errors)),
    )
