"""What a classifier and a regressor of scikit-learn have in common: their parameters, and how they learn.

An estimator is `novacula.study.learn` between two translations. Tables are brought to standard units before and
predictions are brought back after; class labels become numbers and numbers labels. Computations keep the dtype of
``X``: float32 where it is float32, else float64.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.modules.precision import Precision
from novacula.data.data import Data
from novacula.data.inputs import as_inputs
from novacula.data.meaning.labels import Task
from novacula.data.standardise import Standardiser
from novacula.inference.loop import default_batch_size
from novacula.inference.method import Method
from novacula.integrations.network import PREFIX, network_of
from novacula.likelihoods.base import Likelihood
from novacula.prediction import Predictive, predict
from novacula.priors import Gaussian
from novacula.priors.base import Prior
from novacula.runs.catalogue.methods import read_method
from novacula.runs.result import LearnResult
from novacula.study import learn
from novacula.target import Target

_STEPS, _EPOCHS = 600, 20
"""Of tables, steps of training by default, or passes over the data where these take more."""


class NovaculaEstimator(BaseEstimator):
    """What `NovaculaClassifier` and `NovaculaRegressor` have in common; they say what the parameters are."""

    fit_: LearnResult
    n_features_in_: int

    def __init__(
        self,
        module: Any = None,
        *,
        likelihood: Likelihood | None = None,
        prior: Prior | None = None,
        method: str | Method = "auto",
        steps: int | None = None,
        chains: int | None = None,
        folds: int = 3,
        epochs: int | None = None,
        seconds: float | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        precision: Precision | None = None,
        random_state: int | np.random.RandomState | None = None,
        **module__options: Any,
    ) -> None:
        self.module = module
        self.likelihood = likelihood
        self.prior = prior
        self.method = method
        self.steps = steps
        self.chains = chains
        self.folds = folds
        self.epochs = epochs
        self.seconds = seconds
        self.batch_size = batch_size
        self.lr = lr
        self.precision: Precision | None = precision
        self.random_state = random_state
        self._set_options(module__options)

    # ------------------------------------------------------------------ parameters of the network, module__…

    def _set_options(self, options: dict[str, Any]) -> None:
        if strange := [k for k in options if not k.startswith(PREFIX) or k == PREFIX]:
            raise TypeError(f"{type(self).__name__} got an unexpected keyword argument {strange[0]!r}")
        vars(self).update(options)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, those of the network under ``module__…``."""
        return super().get_params(deep) | {k: v for k, v in vars(self).items() if k.startswith(PREFIX)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, ``module__…`` for those of the network; itself."""
        own = {k: v for k, v in params.items() if k.startswith(PREFIX)}
        super().set_params(**{k: v for k, v in params.items() if k not in own})
        self._set_options(own)
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags

    # ------------------------------------------------------------------ what was learned

    @property
    def evidence_(self) -> Estimate:
        """The log evidence of the training data, with its error and what it assumes."""
        return self._learned().evidence

    @property
    def log_evidence_(self) -> float:
        """The value of the log evidence, in nats: of the targets in standard units."""
        return float(self._learned().evidence)

    @property
    def converged_(self) -> bool:
        """Whether the last round of training gained less than its error, and no hyperparameter would still move."""
        return self._learned().converged

    @property
    def temperature_(self) -> float:
        """The temperature of the labels that unseen examples ask for; 1 where they are as they were trained."""
        return self._learned().choice.calibration

    def _learned(self) -> LearnResult:
        try:
            return self.fit_
        except AttributeError:
            # An attribute that is not there yet: what `hasattr` and scikit-learn expect before `fit`.
            raise AttributeError(f"{type(self).__name__} has not been fitted: call fit(X, y)") from None

    def predictive(self, X: Any) -> Predictive:
        """The whole distribution over the labels of X ``(N, …)``, in the targets' own units."""
        check_is_fitted(self, "fit_")
        X = validate_data(self, X, reset=False, dtype="numeric", allow_nd=True)
        data = self.fit_.data
        x = as_inputs(X, tokens=False, dtype=_working(X), columns=data.columns, least=1)
        if x.shape[1:] != data.x.shape[1:]:
            got = f"shape {tuple(x.shape[1:])}"
            raise InputError(f"inputs of shape {data.x_shape} each", got, "pass inputs like those of fit")
        scaling = data.scaling
        x = (x if scaling is None else scaling.inputs(x)).to(data.x.dtype)
        return predict(self.fit_.posterior, x).in_units(scaling)

    # ------------------------------------------------------------------ learning

    def _learn(self, X: Any, y: Any, task: Task, default: Likelihood, classes: tuple[str, ...] = ()) -> None:
        if isinstance(self.method, str):
            read_method(self.method)  # refused before any work
        elif self.steps is None:
            raise InputError("steps= for a method that is no name", repr(self.method), "steps=1000")
        likelihood = default if self.likelihood is None else self.likelihood
        if getattr(likelihood, "task", None) != task:
            raise InputError(f"a likelihood of {task}", repr(likelihood), f"likelihood={default!r}")
        data = self._data(X, y, task, classes)
        seed = _seed(self.random_state)
        outputs = max(likelihood.outputs(data.y), len(classes))
        options = {k.removeprefix(PREFIX): v for k, v in vars(self).items() if k.startswith(PREFIX)}
        network = network_of(self.module, options, data.x_shape, outputs, seed, data.x.dtype)
        prior = Gaussian() if self.prior is None else self.prior
        epochs = self.epochs
        if epochs is None and self.seconds is None and data.x.ndim == 2:
            epochs = max(_EPOCHS, math.ceil(_STEPS / steps_an_epoch(data.n, self.batch_size)))
        found = learn(
            Target(network, likelihood=likelihood, prior=prior),
            data,
            epochs=epochs,
            seconds=self.seconds,
            folds=self.folds,
            batch_size=self.batch_size,
            lr=self.lr,
            precision=self.precision,
            seed=seed,
        )
        if self.method != "auto":
            found = found.with_posterior(self.method, steps=self.steps, chains=self.chains)
        self.fit_ = found

    def _data(self, X: Any, y: Any, task: Task, classes: tuple[str, ...]) -> Data:
        # In standard units, and in the dtype of the computations: measured in float64, as an offset may be large.
        names = getattr(self, "feature_names_in_", None)
        dtype = _working(X)
        wide = torch.float64 if X.ndim == 2 else dtype
        data = Data(X, y, task=task, classes=classes or None, columns=names, dtype=wide)
        return Standardiser.fit(data).apply(data).to(dtype=dtype)


def steps_an_epoch(n: int, size: int | None = None) -> int:
    """Steps in one pass over n rows of a table."""
    return math.ceil(n / (size or default_batch_size(n, table=True)))


def _working(X: Any) -> torch.dtype:
    # Bytes are images, and single precision holds them.
    return torch.float32 if X.dtype in (np.float32, np.float16, np.uint8) else torch.float64


def _seed(random_state: int | np.random.RandomState | None) -> int:
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def array(t: Tensor) -> np.ndarray:
    """A tensor as a NumPy array on the CPU."""
    return t.detach().cpu().numpy()
