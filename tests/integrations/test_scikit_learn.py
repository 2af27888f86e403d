"""Estimators of scikit-learn: its own checks, closed forms, and the tools that people use around them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import novacula as nv

SMALL: dict[str, Any] = {"module__width": 8, "epochs": 2, "folds": 0, "random_state": 0}
"""A budget that suffices where only what is done with the estimator matters."""


class Net(nn.Module):
    """A network as people write it for skorch."""

    def __init__(self, hidden: int = 4, outputs: int = 3, inputs: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.Tanh(), nn.Dropout(0.5))
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(x))


def of_both(x_shape: tuple[int, ...], outputs: int, *, bias: bool = True) -> nn.Module:
    return nn.Linear(x_shape[0], outputs, bias=bias)


def iris() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_iris(return_X_y=True)
    return X, y


def a_regression(targets: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return make_regression(60, 3, n_targets=targets, noise=3.0, random_state=0)


# ---------------------------------------------------------------------- scikit-learn's own checks


@pytest.mark.parametrize("name", ["NovaculaClassifier", "NovaculaRegressor"])
def test_scikit_learns_checks_hold_and_none_is_skipped(name: str) -> None:
    # In a process of its own: scipy reads the variable when it is imported.
    code = f"""
import warnings
import novacula as nv
from sklearn.utils.estimator_checks import check_estimator
warnings.simplefilter("error", UserWarning)
warnings.filterwarnings("ignore", message=".*fewer examples")
found = check_estimator(nv.{name}(epochs=4, folds=2, random_state=0), on_fail=None)
bad = [(r["check_name"], r["status"], repr(r["exception"])[:500]) for r in found if r["status"] != "passed"]
assert not bad and len(found) > 50, bad
"""
    env = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


# ---------------------------------------------------------------------- numbers


def test_a_linear_model_is_bayesian_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5)) * [1, 2, 0.5, 1, 3] + [0, 1, 0, 10, 0]
    y = X @ [1.0, -0.5, 2.0, 0, 0.3] + 4 + 0.7 * rng.normal(size=120)
    new = 3 * rng.normal(size=(6, 5))
    scale, m, s = StandardScaler().fit(X), y.mean(), y.std()
    flat = {"alpha_1": 0.0, "alpha_2": 0.0, "lambda_1": 0.0, "lambda_2": 0.0}
    ridge = BayesianRidge(**flat, tol=1e-10, max_iter=3000, compute_score=True).fit(scale.transform(X), (y - m) / s)
    mean, std = ridge.predict(scale.transform(new), return_std=True)

    model = nv.NovaculaRegressor("linear", method="laplace", epochs=60, random_state=0).fit(X, y)
    ours, width = model.predict(new, return_std=True)
    assert model.log_evidence_ == pytest.approx(ridge.scores_[-1], abs=1e-6)
    assert model.converged_
    assert ours == pytest.approx(m + s * mean, abs=1e-5)
    assert width == pytest.approx(s * std, rel=0.1)  # Kronecker factors: the ridge has the whole matrix


def test_it_is_what_learn_does() -> None:
    X, y = iris()
    model = nv.NovaculaClassifier(epochs=4, folds=2, random_state=3).fit(X, y)
    data = nv.Data(X, y, task="classification", dtype=torch.float64)
    scale = nv.Standardiser.fit(data)
    net = nv.networks.make("mlp", (4,), 3, seed=3).double()
    fit = nv.learn(nv.Target(net), scale.apply(data), epochs=4, folds=2, seed=3)
    expected = nv.predict(fit.posterior, scale.inputs(torch.from_numpy(X))).mean()
    assert model.predict_proba(X) == pytest.approx(expected.numpy(), abs=1e-12)
    assert model.log_evidence_ == float(fit.evidence) == float(model.evidence_)
    assert model.temperature_ == fit.choice.calibration


def test_errors_bars_are_the_predictives() -> None:
    X, y = a_regression(2)
    model = nv.NovaculaRegressor(**SMALL, method="ensemble:members=3", steps=5).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    found = model.predictive(X)
    assert len(found.samples) == 3
    assert mean.shape == std.shape == (60, 2)
    assert (mean, std) == (pytest.approx(found.mean().numpy()), pytest.approx(found.variance().sqrt().numpy()))


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 2)])
def test_targets_keep_their_shape_and_units(shape: tuple[int, ...]) -> None:
    X = np.linspace(-1, 1, 60)[:, None]
    y = (1e4 + 10 * X.repeat(2, 1) * [1, -2])[:, : shape[-1]].reshape(shape) if len(shape) > 1 else 1e4 + 10 * X[:, 0]
    model = nv.NovaculaRegressor("linear", epochs=30, folds=0, random_state=0).fit(X, y)
    assert model.predict(X).shape == shape
    assert model.predict(X) == pytest.approx(y, abs=0.05)


def test_single_precision_stays_single() -> None:
    X, y = iris()
    model = nv.NovaculaClassifier(**SMALL).fit(X.astype(np.float32), y)
    assert model.fit_.data.x.dtype == torch.float32
    assert model.predict_proba(X).dtype == np.float32
    assert nv.NovaculaClassifier(**SMALL).fit(X, y).fit_.data.x.dtype == torch.float64


# ---------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("module", "options", "size"),
    [
        (Net, {"hidden": 6}, 6),
        (Net, {"hidden": 5, "outputs": 3}, 5),
        (of_both, {}, 3),
        (of_both, {"bias": False}, 3),
        ("mlp", {"width": 7}, 7),
        (None, {"width": 9, "depth": 2}, 9),
    ],
)
def test_the_network_is_made_with_its_parameters(module: Any, options: dict[str, Any], size: int) -> None:
    X, y = iris()
    given = {f"module__{k}": v for k, v in options.items()}
    model = nv.NovaculaClassifier(module, epochs=1, folds=0, random_state=0, **given).fit(X, y)
    weights = list(model.fit_.params.values())
    assert weights[0].shape == (size, 4)
    assert not any(m.training for m in model.fit_.target.network.modules())
    again = nv.NovaculaClassifier(module, epochs=1, folds=0, random_state=0, **given).fit(X, y)
    assert all(torch.equal(a, b) for a, b in zip(weights, again.fit_.params.values(), strict=True))


def test_a_network_that_is_there_is_copied() -> None:
    X, y = iris()
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    nv.NovaculaClassifier(net, epochs=1, folds=0).fit(X, y)
    assert all(torch.equal(v, before[k]) and v.dtype == torch.float32 for k, v in net.state_dict().items())


def test_images_are_taken_as_they_are() -> None:
    X = np.random.default_rng(0).random((40, 1, 8, 8))
    y = np.arange(40) % 2
    X[y == 1, 0, :4] += 1
    model = nv.NovaculaClassifier("cnn", epochs=3, folds=0, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    with pytest.raises(nv.InputError, match=r"shape \(1, 8, 8\)"):
        model.predict(X[:, :, :4])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"module": 3}, "module= as a class"),
        ({"module": "mpl"}, "'mlp'"),
        ({"module": Net, "module__hiden": 3}, "hiden"),
        ({"module": Net, "module__hidden": -3}, "Net to make a network"),
        ({"module": Net, "module__inputs": 7}, "accepts inputs"),
        ({"module": nn.Linear(4, 3), "module__width": 3}, "made already"),
        ({"module": dict}, "Python class or function"),
        ({"module": lambda: 3}, "got a int"),
        ({"module__widht": 3}, "widht"),
        ({"method": "swog"}, "swag"),
        ({"method": "swag:lrr=3"}, "lr"),
        ({"method": nv.SWAG()}, "steps"),
        ({"likelihood": nv.Normal()}, "likelihood of classification"),
        ({"likelihood": "normal"}, "likelihood of classification"),
        ({"folds": 1}, "folds"),
        ({"folds": 1000}, "folds"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(nv.InputError, match=said):
        nv.NovaculaClassifier(**{"epochs": 1, "folds": 0, **given}).fit(*iris())


def test_names_that_are_no_parameters_are_pythons_errors() -> None:
    for name in ("width", "module__"):
        with pytest.raises(TypeError, match=name):
            nv.NovaculaClassifier(**{name: 3})
    with pytest.raises(ValueError, match="width"):
        nv.NovaculaClassifier().set_params(width=3)


def test_one_class_and_other_shapes_are_refused() -> None:
    X, y = iris()
    with pytest.raises(nv.InputError, match="at least two classes"):
        nv.NovaculaClassifier(**SMALL).fit(X, np.zeros(150))
    with pytest.raises(ValueError, match="3 features"):
        nv.NovaculaClassifier(**SMALL).fit(X, y).predict(X[:, :3])
    with pytest.raises(NotFittedError):
        nv.NovaculaClassifier().predict(X)
    assert not hasattr(nv.NovaculaClassifier(), "log_evidence_")


# ---------------------------------------------------------------------- what stands around estimators


def test_strings_and_frames_keep_their_names() -> None:
    found = load_iris(as_frame=True)
    X, y = found.data, found.target.map(dict(enumerate(found.target_names)))
    model = make_pipeline(StandardScaler().set_output(transform="pandas"), nv.NovaculaClassifier(**SMALL)).fit(X, y)
    last = model[-1]
    assert list(last.classes_) == sorted(found.target_names)
    assert list(last.feature_names_in_) == list(X.columns) == list(last.fit_.data.columns)
    assert set(model.predict(X)) <= set(found.target_names)
    with pytest.raises(ValueError, match="feature names"):
        last.predict(X[X.columns[::-1]])
    pd.testing.assert_index_equal(X.columns, found.data.columns)


def test_a_grid_search_finds_a_networks_parameters() -> None:
    X, y = iris()
    model = nv.NovaculaClassifier(**SMALL)
    search = GridSearchCV(model, {"module__width": [2, 4], "module__depth": [0, 1], "epochs": [1]}, cv=2).fit(X, y)
    assert set(search.best_params_) == {"module__width", "module__depth", "epochs"}
    assert search.best_estimator_.get_params()["module__width"] in {2, 4}
    assert cross_val_score(model.set_params(epochs=8, lr=0.03), X, y, cv=3).mean() > 0.85


def test_clones_have_the_parameters_and_nothing_learned() -> None:
    model = nv.NovaculaRegressor(Net, module__hidden=3, module__inputs=3, module__outputs=1, epochs=1, folds=0)
    model.fit(*a_regression())
    other = clone(model)
    assert other.get_params() == model.get_params()
    assert "module__hidden=3" in repr(other)
    with pytest.raises(NotFittedError):
        other.predict(np.zeros((1, 3)))


def test_what_was_learned_can_be_pickled_and_saved(tmp_path: Any) -> None:
    X, y = a_regression()
    model = nv.NovaculaRegressor(**SMALL | {"epochs": 3, "folds": 2}).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    for a, b in zip(model.predict(X, return_std=True), again.predict(X, return_std=True), strict=True):
        assert np.array_equal(a, b)
    model.fit_.save(tmp_path / "run")
    target = nv.Target(model.fit_.target.network, likelihood=nv.Normal())
    saved = nv.study.load_run(tmp_path / "run", target=target, data=model.fit_.data)
    assert saved.predict(torch.from_numpy(X)).mean()[:, 0].numpy() == pytest.approx(model.predict(X))


def test_seeds_are_scikit_learns() -> None:
    X, y = a_regression()
    first, second, other = (
        nv.NovaculaRegressor(**SMALL | {"random_state": s}).fit(X, y).predict(X)
        for s in (np.random.RandomState(5), np.random.RandomState(5), 6)
    )
    assert np.array_equal(first, second)
    assert not np.allclose(first, other)
    state = torch.get_rng_state()
    nv.NovaculaRegressor(**SMALL).fit(X, y)
    assert torch.equal(state, torch.get_rng_state())


def test_training_in_bfloat16():
    X, y = iris()
    model = nv.NovaculaClassifier(**SMALL, precision="bfloat16").fit(X.astype(np.float32), y)
    assert model.fit_.settings["precision"] == "bfloat16"
    assert model.get_params()["precision"] == "bfloat16"
