"""Conformal prediction: sets and intervals that hold the truth as often as promised, whatever the model is worth.

A score says how badly a label fits a prediction. Let q be the ``⌈(n + 1)(1 − α)⌉``-th smallest of the scores of n
labels that the model was not trained on; then the set of all labels that score at most q holds a new label with
probability at least ``1 − α`` (and, where no scores tie, at most ``1 − α + 1/(n + 1)``). It assumes that the
calibration examples and the new one are exchangeable, and nothing else. The promise is one on average over inputs, and
over calibration sets; with ``groups`` (Mondrian) it holds within each group.

    rule = nv.prediction.conformal.calibrate(nv.predict(post, x_cal), y_cal, alpha=0.1)
    sets = rule(nv.predict(post, x))
    sets = nv.predict(post, x).conformal(0.1, nv.predict(post, x_cal), y_cal)  # the same in one line

`novacula.prediction.conformal.scores` lists the scores, `cv_plus` and `jackknife_plus` need no calibration set but
several models; `e_values` and `e_sets` give sets whose level may be chosen afterwards.

References:
    Algorithmic learning in a random world. V. Vovk, A. Gammerman, G. Shafer, 2005.
    Distribution-free predictive inference for regression. J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani,
    L. Wasserman, 2018. arXiv:1604.04173.
    Conditional validity of inductive conformal predictors. V. Vovk, 2012. arXiv:1209.2673 (Mondrian).
"""

from novacula.prediction.conformal.calibrate import Conformal, calibrate
from novacula.prediction.conformal.cross import cv_plus, cv_plus_sets, jackknife_plus
from novacula.prediction.conformal.e_sets import e_sets, e_values
from novacula.prediction.conformal.scores import APS, CQR, LAC, RAPS, Absolute, Normalised
from novacula.prediction.conformal.sets import Intervals, Sets

__all__ = [
    "APS",
    "CQR",
    "LAC",
    "RAPS",
    "Absolute",
    "Conformal",
    "Intervals",
    "Normalised",
    "Sets",
    "calibrate",
    "cv_plus",
    "cv_plus_sets",
    "e_sets",
    "e_values",
    "jackknife_plus",
]
