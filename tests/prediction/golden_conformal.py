"""Makes golden_conformal.json: sets and intervals by MAPIE, for the tests to meet.

Run it in an environment of its own (the JSON was made with mapie 1.6.0, scikit-learn 1.9.1, numpy 2.4.6):

    python tests/prediction/golden_conformal.py
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from mapie.classification import SplitConformalClassifier
from mapie.regression import ConformalizedQuantileRegressor, CrossConformalRegressor, SplitConformalRegressor
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, LeaveOneOut

SEED = 5


class Table(ClassifierMixin, BaseEstimator):
    """Row i of the input is the number of a row of probabilities."""

    def __init__(self, p: Any) -> None:
        self.p = p

    def fit(self, x: Any, y: Any) -> Table:
        self.classes_, self.n_features_in_, self.is_fitted_ = np.arange(self.p.shape[1]), 1, True
        return self

    def predict_proba(self, x: Any) -> Any:
        return self.p[np.asarray(x)[:, 0].astype(int)]

    def predict(self, x: Any) -> Any:
        return self.predict_proba(x).argmax(1)


class Column(RegressorMixin, BaseEstimator):
    """Row i of the input is the number of a prediction."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def fit(self, x: Any, y: Any) -> Column:
        self.n_features_in_, self.is_fitted_ = 1, True
        return self

    def predict(self, x: Any) -> Any:
        return self.values[np.asarray(x)[:, 0].astype(int)]


def classes(rng: np.random.Generator) -> dict[str, Any]:
    n, new, c = 37, 15, 4
    logits = 1.5 * rng.normal(size=(n + new, c))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = np.array([rng.choice(c, p=row) for row in p])
    rows = np.arange(n + new)[:, None]
    found: dict[str, Any] = {"p": p.tolist(), "y": y.tolist(), "n": n, "seed": SEED}
    for score in ("lac", "aps"):
        for alpha in (0.1, 0.25):
            rule = SplitConformalClassifier(
                Table(p).fit(rows, y), confidence_level=1 - alpha, conformity_score=score, random_state=SEED
            )
            rule.conformalize(rows[:n], y[:n])
            options = {"include_last_label": "randomized"} if score == "aps" else {}
            _, sets = rule.predict_set(rows[n:], conformity_score_params=options)
            found[f"{score} {alpha}"] = sets[:, :, 0].astype(int).tolist()
    return found


def measurements(rng: np.random.Generator) -> dict[str, Any]:
    n, new = 29, 11
    mean = rng.normal(size=n + new)
    sd = np.exp(0.5 * rng.normal(size=n + new))
    y = mean + 1.3 * sd * rng.normal(size=n + new)
    rows, alpha = np.arange(n + new)[:, None], 0.2
    found: dict[str, Any] = {
        "mean": mean.tolist(),
        "sd": sd.tolist(),
        "y": y.tolist(),
        "n": n,
        "alpha": alpha,
    }
    plain = SplitConformalRegressor(Column(mean).fit(rows, y), confidence_level=1 - alpha, conformity_score="absolute")
    plain.conformalize(rows[:n], y[:n])
    found["absolute"] = plain.predict_interval(rows[n:])[1][:, :, 0].tolist()
    z = 1.2815515655446004  # the standard normal's 90 % quantile
    ends = [Column(v).fit(rows, y) for v in (mean - z * sd, mean + z * sd, mean)]
    cqr = ConformalizedQuantileRegressor(ends, confidence_level=1 - alpha, prefit=True)
    cqr.conformalize(rows[:n], y[:n])
    found["cqr"] = cqr.predict_interval(rows[n:], symmetric_correction=True)[1][:, :, 0].tolist()
    return found


def crossed(rng: np.random.Generator) -> dict[str, Any]:
    n, new, alpha = 23, 7, 0.15
    x = rng.normal(size=(n + new, 3))
    y = x @ np.array([1.0, -2.0, 0.5]) + rng.standard_t(3, size=n + new)
    found: dict[str, Any] = {"y": y[:n].tolist(), "alpha": alpha}
    for name, cv in (("jackknife+", LeaveOneOut()), ("cv+", KFold(5))):
        rule = CrossConformalRegressor(
            LinearRegression(), confidence_level=1 - alpha, conformity_score="absolute", method="plus", cv=cv
        )
        rule.fit_conformalize(x[:n], y[:n])
        interval = rule.predict_interval(x[n:])[1][:, :, 0]
        folds, held_out, predictions = np.zeros(n, dtype=int), np.zeros(n), []
        for k, (kept, left) in enumerate(cv.split(x[:n])):
            model = LinearRegression().fit(x[kept], y[kept])
            folds[left], held_out[left] = k, model.predict(x[left])
            predictions.append(model.predict(x[n:]).tolist())
        found[name] = {
            "folds": folds.tolist(),
            "held_out": held_out.tolist(),
            "predictions": predictions,
            "interval": interval.tolist(),
        }
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(SEED)
    made = {
        "versions": {name: version(name) for name in ("mapie", "scikit-learn", "numpy")},
        "classes": classes(rng),
        "measurements": measurements(rng),
        "crossed": crossed(rng),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(made) + "\n", encoding="utf-8")
