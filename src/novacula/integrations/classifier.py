"""A classifier of scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from novacula.core.errors import InputError
from novacula.integrations.estimator import NovaculaEstimator, array
from novacula.likelihoods import Categorical


class NovaculaClassifier(ClassifierMixin, NovaculaEstimator):
    """Classes with probabilities, by a network whose prior is learned from the training data alone.

    A face of `nv.learn` for pipelines, grid searches and cross-validation. Tables are brought to standard units;
    images ``(N, channels, H, W)`` and signals ``(N, channels, T)`` are taken as they are. Everything is computed in
    float32 where ``X`` is float32, else in float64.

    Args:
        module: The network: a class or function that is called with the parameters ``module__…`` (and with ``x_shape``
            and ``outputs`` where it has parameters of these names) and put into eval mode; an `nn.Module`, which is
            copied as it is; a name, ``"mlp"``, ``"cnn"``, ``"linear"`` … or ``"file.py:function"``. By default the
            library's own perceptron, with ``module__width``, ``module__depth`` and ``module__activation``.
        likelihood: ``p(y | f)``; by default `Categorical`.
        prior: ``p(w)``, whose scales are learned; by default `Gaussian`, one precision for each tensor.
        method: What predictions average over: ``"auto"`` for what unseen training examples prefer; ``"point"``,
            ``"laplace"``, ``"ensemble:members=3"``, ``"swag"``, ``"nuts"`` … as the command line's ``--posterior`` has
            it; or a method such as ``nv.SWAG()``.
        steps: Steps of each chain of ``method``; required for a method that is no name.
        chains: Chains of ``method``.
        folds: Networks that are blind to a fold each, by which the predictive and its temperature are chosen; 0 for
            none.
        epochs: Passes over the data at most; by default, of tables, as many as take 600 steps, or 20 where these take
            more. With ``seconds``, and of images and signals, rounds go on until nothing is gained.
        seconds: Seconds after which training ends; the folds come on top.
        batch_size: Examples a step; by default by the size of the data.
        lr: Peak learning rate of the weights; by default 0.01 for tables and small networks, else 0.004.
        precision: What networks compute in while they train, ``"bfloat16"`` or ``"full"``, as for `novacula.learn`.
        random_state: An integer for the same result each time; None draws a seed from NumPy's global generator.
        module__options: Parameters ``module__…`` of the network.

    Attributes:
        fit_: All that was learned, see `LearnResult`: ``fit_.warnings`` are reservations, ``fit_.posterior`` the
            weights, and ``fit_.save(folder)`` writes a run for ``nv.report``.
        classes_: The labels, in the order of the columns of `predict_proba`.
        n_features_in_: The number of features.
        feature_names_in_: Their names, where ``X`` had some.
        evidence_: The log evidence of the training data, an `Estimate`; its value is ``log_evidence_``.
        converged_: Whether the last round of training gained less than its error.
        temperature_: The temperature of the labels that unseen examples ask for.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = NovaculaClassifier(module__width=16, epochs=20, random_state=0).fit(X, y)
        >>> model.predict_proba(X[:2]).shape, model.score(X, y) > 0.9
        ((2, 3), True)
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> Self:
        """Learn weights and prior.

        Args:
            X: Inputs, shape ``(N, features)``, or ``(N, …)``.
            y: A label for each, of any kind that NumPy can sort.

        Returns:
            Itself.

        Raises:
            InputError: If the data cannot be used or do not fit the network.
        """
        X, y = validate_data(self, X, y, dtype="numeric", allow_nd=True, ensure_min_samples=2)
        check_classification_targets(y)
        classes, numbers = np.unique(column_or_1d(y), return_inverse=True)
        if len(classes) < 2:
            raise InputError("at least two classes", f"one class, {classes[0]!r}, in all rows", "check the labels")
        self._learn(X, numbers.astype(np.int64), "classification", Categorical(), tuple(map(str, classes)))
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Args:
            X: Inputs, shape ``(N, …)``.

        Returns:
            Shape ``(N, C)``, in the order of ``classes_``.
        """
        return array(self.predictive(X).mean())

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each input.

        Args:
            X: Inputs, shape ``(N, …)``.

        Returns:
            Labels, shape ``(N,)``.
        """
        best = self.predict_proba(X).argmax(1)  # which refuses to predict before `fit`
        return self.classes_[best]
