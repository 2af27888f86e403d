"""Faces that other libraries know: estimators of scikit-learn."""

from novacula.integrations.classifier import NovaculaClassifier
from novacula.integrations.regressor import NovaculaRegressor

__all__ = ["NovaculaClassifier", "NovaculaRegressor"]
