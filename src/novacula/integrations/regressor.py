"""A regressor of scikit-learn."""

from __future__ import annotations

from typing import Any, Literal, Self, overload

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data
from torch import Tensor

from novacula.integrations.estimator import NovaculaEstimator, array
from novacula.likelihoods import Normal


class NovaculaRegressor(RegressorMixin, NovaculaEstimator):
    """Measurements with error bars, by a network whose prior and noise are learned from the training data alone.

    A face of `nv.learn` for pipelines, grid searches and cross-validation. Targets may have several columns. Inputs
    and targets are brought to standard units, and predictions back.

    Args:
        module: See `NovaculaClassifier`, as for all that follows.
        likelihood: ``p(y | f)``; by default `Normal`, with one noise for all inputs.
        prior: ``p(w)``.
        method: What predictions average over.
        steps: Steps of each chain of ``method``.
        chains: Chains of ``method``.
        folds: Networks that are blind to a fold each.
        epochs: Passes over the data at most.
        seconds: Seconds after which training ends.
        batch_size: Examples a step.
        lr: Peak learning rate of the weights.
        precision: What networks compute in while they train.
        random_state: An integer for the same result each time.
        module__options: Parameters ``module__…`` of the network.

    Attributes:
        fit_: All that was learned, see `LearnResult`.
        n_features_in_: The number of features.
        feature_names_in_: Their names, where ``X`` had some.
        evidence_: The log evidence of the training data, an `Estimate`; its value is ``log_evidence_``.
        converged_: Whether the last round of training gained less than its error.
        temperature_: The temperature of the labels that unseen examples ask for.

    Example:
        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> model = NovaculaRegressor(module__width=16, epochs=40, random_state=0).fit(X, 100 + 5 * X[:, 0])
        >>> mean, std = model.predict([[0.0]], return_std=True)
        >>> abs(float(mean[0]) - 100) < 1, mean.shape == std.shape == (1,)
        (True, True)
    """

    _one: bool

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Learn weights, prior and noise.

        Args:
            X: Inputs, shape ``(N, features)``, or ``(N, …)``.
            y: Targets, shape ``(N,)`` or ``(N, D)``.

        Returns:
            Itself.

        Raises:
            InputError: If the data cannot be used or do not fit the network.
        """
        X, y = validate_data(
            self, X, y, dtype="numeric", allow_nd=True, ensure_min_samples=2, multi_output=True, y_numeric=True
        )
        self._learn(X, y.astype(np.float64), "regression", Normal())
        self._one = y.ndim == 1
        return self

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> np.ndarray: ...
    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...
    def predict(self, X: Any, return_std: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Means, and where asked standard deviations, of the targets.

        Args:
            X: Inputs, shape ``(N, …)``.
            return_std: Whether to return standard deviations too, noise included.

        Returns:
            Shape ``(N,)``, or ``(N, D)`` where `fit` was given columns, in the targets' units; or a pair of them.
        """
        found = self.predictive(X)
        mean = self._shaped(found.mean())
        return (mean, self._shaped(found.variance().sqrt())) if return_std else mean

    def _shaped(self, t: Tensor) -> np.ndarray:
        return array(t[:, 0] if self._one else t)
