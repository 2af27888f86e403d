"""Predictions: a posterior's distribution over new labels, its scores, and the choice of it.

`predict` makes a `Predictive`, `evaluate` scores it against labels, `choose` finds the structure and temperature that
are not worse than the point estimate, on the training data alone.
"""

from novacula.prediction.calibration import Reliability, reliability
from novacula.prediction.choose import Choice, Score, choose
from novacula.prediction.metrics import evaluate, reliability_of
from novacula.prediction.predict import predict
from novacula.prediction.predictive import Entropy, Predictive

__all__ = [
    "Choice",
    "Entropy",
    "Predictive",
    "Reliability",
    "Score",
    "choose",
    "evaluate",
    "predict",
    "reliability",
    "reliability_of",
]
