"""Gradient-boosted trees, as a control: scikit-learn's histogram boosting, its length and doubt by inner folds.

The part of the data that the trees may see is dealt to four inner folds. Trees that are blind to one of these say how
many rounds of boosting predict best, and leave predictions of rows that they have not seen. By these the doubt is
fitted: the width of a Gaussian for each target, the root mean square of the inner residuals; the temperature of the
classes' probabilities, as a network's. The trees that answer see the whole part. What they are to predict has no say in
any of it.

A class that is rare may be missing from a part, and a temperature of rows that were all right is too low. All
probabilities are those of one example more, spread evenly over the classes: ``(n p + 1/C)/(n + 1)``.

References:
    Greedy function approximation: a gradient boosting machine. J. H. Friedman, 2001.
    LightGBM: a highly efficient gradient boosting decision tree. G. Ke et al., 2017.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from novacula.core.errors import NovaculaWarning
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.data.folds import folds_of
from novacula.likelihoods import Bernoulli, Categorical, Normal
from novacula.prediction import Predictive
from novacula.study.controls.control import Part
from novacula.study.cross_fit.temperature import fit_temperature

INNER = 4
"""Inner folds."""
ROUNDS = tuple(sorted({math.ceil(5 * 1.25**j) for j in range(24)}))
"""Numbers of rounds that are tried, from 5 to 847, each about a quarter above the one before."""
PATIENCE = 4
"""So many of them without a better one end the search."""

Answer = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def trees(part: Part) -> Predictive:
    """Boosted trees on a part of the data, of other inputs: a constant-width Gaussian a target, or probabilities."""
    inner, seen = inner_folds(part.seen, derive(part.seed, "inner")), part.seen
    x, new = seen.x.numpy(), part.x.numpy()
    if seen.task == "regression":
        columns = [_measured(x, y, new, inner) for y in seen.y.double().numpy().T]
        mean, sd = torch.stack([m for m, _ in columns], 1), torch.tensor([s for _, s in columns], dtype=torch.float64)
        return Predictive(Normal(log_sigma=sd.log()), mean.unsqueeze(0), "plug-in")
    if seen.task == "classification":
        logs = _classes(x, seen.y, new, inner, part.outputs)
        return Predictive(Categorical(), logs.unsqueeze(0), "plug-in")
    pairs = [_classes(x, y.long(), new, inner, 2) for y in seen.y.T]
    return Predictive(Bernoulli(), torch.stack([p[:, 1] - p[:, 0] for p in pairs], 1).unsqueeze(0), "plug-in")


def inner_folds(seen: Data, seed: int) -> Tensor:
    """Inner folds of a part; rows with the same inputs stay together."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NovaculaWarning)  # a rare class is what the added example is for
        return folds_of(seen, INNER, seed)


def leaf(n: int) -> int:
    """How many of n examples a leaf holds at least: 20, or a tenth of fewer than 200."""
    return max(2, min(20, n // 10))


def _measured(x: np.ndarray, y: np.ndarray, new: np.ndarray, inner: Tensor) -> tuple[Tensor, float]:
    from sklearn.ensemble import HistGradientBoostingRegressor  # a second of import that others need not pay

    centre, scale = float(y.mean()), float(y.std()) or 1.0
    z = (y - centre) / scale

    def answer(model: Any, x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        return model.fit(x, y).predict(new)

    def loss(said: np.ndarray) -> float:
        return float(np.square(said - z).mean())

    rounds, said = _rounds(_maker(HistGradientBoostingRegressor, len(x)), answer, x, z, inner, loss)
    model = _maker(HistGradientBoostingRegressor, len(x))(rounds)
    mean = centre + scale * answer(model, x, z, new)
    return torch.from_numpy(mean), scale * max(math.sqrt(loss(said)), 1e-6)


def _classes(x: np.ndarray, labels: Tensor, new: np.ndarray, inner: Tensor, outputs: int) -> Tensor:
    # Calibrated log-probabilities (m, C).
    from sklearn.ensemble import HistGradientBoostingClassifier

    y = labels.cpu().numpy()

    def answer(model: Any, x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        p, present = np.zeros((len(new), outputs)), np.unique(y)
        p[:, present] = 1.0 if len(present) == 1 else model.fit(x, y).predict_proba(new)
        return (len(x) * p + 1 / outputs) / (len(x) + 1)

    def loss(said: np.ndarray) -> float:
        return -float(np.log(said[np.arange(len(y)), y]).mean())

    rounds, said = _rounds(_maker(HistGradientBoostingClassifier, len(x)), answer, x, y, inner, loss)
    t = fit_temperature(Categorical(), torch.from_numpy(said).log(), labels.cpu(), inner).value
    p = answer(_maker(HistGradientBoostingClassifier, len(x))(rounds), x, y, new)
    return ((len(x) * (torch.from_numpy(p).log() / t).softmax(1) + 1 / outputs) / (len(x) + 1)).log()


def _maker(kind: Any, n: int) -> Callable[[int], Any]:
    # Warm starts add rounds to those that are there.
    return lambda rounds: kind(
        max_iter=rounds,
        learning_rate=0.1,
        max_leaf_nodes=15,
        min_samples_leaf=leaf(n),
        early_stopping=False,
        warm_start=True,
        random_state=0,
    )


def _rounds(
    make: Callable[[int], Any],
    answer: Answer,
    x: np.ndarray,
    y: np.ndarray,
    inner: Tensor,
    loss: Callable[[np.ndarray], float],
) -> tuple[int, np.ndarray]:
    # The rounds of the least inner loss, and what was said of each row by the trees that are blind to it.
    held = [(inner == k).numpy() for k in range(INNER)]
    models = [make(ROUNDS[0]) for _ in held]
    best, found, since = math.inf, (ROUNDS[0], np.empty(0)), 0
    for rounds in ROUNDS:
        answers = [
            answer(m.set_params(max_iter=rounds), x[~out], y[~out], x[out]) for m, out in zip(models, held, strict=True)
        ]
        said = np.empty((len(x), *answers[0].shape[1:]))
        for out, values in zip(held, answers, strict=True):
            said[out] = values
        if (value := loss(said)) < best:
            best, found, since = value, (rounds, said), 0
        elif (since := since + 1) == PATIENCE:
            break
    return found
